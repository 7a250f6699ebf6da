"""The examples of an objective are its own: neither the loop nor a model that writes into its batch changes them."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.errors import LcakitWarning
from tests.support.networks import dense, examples, norm_net

DATA = {
    "tensors": lambda x, y: (x, y),
    "arrays": lambda x, y: (x.numpy(), y.numpy()),
    "dataset": torch.utils.data.TensorDataset,
    "batches": lambda x, y: [(x[:20], y[:20]), (x[20:], y[20:])],
}


@pytest.mark.parametrize("form", DATA)
@pytest.mark.parametrize("make", [dense, norm_net])
def test_what_a_loop_writes_into_its_data_is_none_of_the_objectives(form, make):
    """Augmentation in place, a buffer that is filled anew: the evaluation set stays what it was."""
    x, y = examples()
    loss = functools.partial(F.cross_entropy, reduction="none")  # not sorted by classes, which would copy it
    objective = lk.Objective(make(), DATA[form](x, y), loss=loss)
    before = objective.loss()
    x.mul_(3), y.zero_()
    assert objective.loss() == before


class Shifted(nn.Module):
    def __init__(self, write):
        super().__init__()
        self.write, self.linear, self.norm = write, nn.Linear(6, 3), nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.linear(self.write(x)))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "write", [nn.ReLU(inplace=True), lambda x: x.clamp_(-1, 1), lambda x: x.nan_to_num_()], ids=["relu", "clamp", "nan"]
)
def test_a_model_that_writes_into_its_batch_gets_one_of_its_own(write, workers):
    x, y = examples()
    kept, model = x.clone(), Shifted(write)
    objective = lk.Objective(model, (x, y), workers=workers, precision="float64")
    twin = copy.deepcopy(model).double().train()
    for _ in range(2):
        expected = float(F.cross_entropy(twin(x.double()), y).detach())
        assert objective.evaluate(classes=True).loss == pytest.approx(expected, rel=1e-12)
    assert torch.equal(x, kept)


def test_a_model_that_scales_its_batch_in_place_gives_the_same_loss_each_time():
    x, y = examples()
    kept, model = x.clone(), Shifted(lambda x: x.mul_(0.5))
    objective = lk.Objective(model, (x, y), batch_size=20)
    first = objective.loss()
    assert objective.loss() == first
    parts = [(x[start : start + 20].clone(), y[start : start + 20]) for start in (0, 20, 40)]
    sums = [float(F.cross_entropy(model.train()(a), b, reduction="sum").detach()) for a, b in parts]
    assert first == pytest.approx(sum(sums) / len(x), rel=1e-5)
    assert torch.equal(x, kept)


def refilled(x, y, size=10):
    """Give batches as a loader that fills one buffer does."""
    buffer = x[:size].clone(), y[:size].clone()
    for first in range(0, len(x), size):
        buffer[0].copy_(x[first : first + size]), buffer[1].copy_(y[first : first + size])
        yield buffer


def test_batches_that_are_one_buffer_are_told():
    x, y = examples()
    with pytest.warns(LcakitWarning, match=r"batches 0 and 1 are the same tensors.*copy\.deepcopy"):
        lk.Objective(dense(), list(refilled(x, y)))
    own = lk.Objective(dense(), [copy.deepcopy(batch) for batch in refilled(x, y)])
    cut = lk.Objective(dense(), [(x[first : first + 10], y[first : first + 10]) for first in range(0, len(x), 10)])
    assert own.loss() == cut.loss()  # views of one tensor are batches of their own
