"""Batches, weights, groups and models that make no objective are refused before training, with what to do instead."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import lcakit as lk
from lcakit.errors import LcakitWarning
from tests.support.networks import dense, examples

x, y = examples()


def usual(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def weighing(weights_of):
    return lambda model, batch: (usual(model, batch), weights_of(batch))


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield x[0], y[0]


class Boasting(Endless):
    """Says a length, and goes on after it."""

    def __len__(self):
        return 8


class Dicts(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, k):
        return {"image": x[k], "label": y[k]}


@pytest.mark.parametrize(
    ("data", "how", "says"),
    [
        ((x, y), {"batch_loss": lambda m, b: usual(m, b).mean()}, "one loss per example.*a single number"),
        ((x, y), {"batch_loss": lambda m, b: 1.0}, "one loss per example.*a float"),
        ((x, y), {"batch_loss": lambda m, b: usual(m, b)[:3]}, "returned 3 values for 16 examples"),
        ((x, y), {"batch_loss": lambda m, b: m(b["x"])}, "does not accept the model and a batch"),
        ((x, y), {"batch_loss": weighing(lambda b: -torch.ones(len(b[1])))}, "must not be negative"),
        ((x, y), {"batch_loss": weighing(lambda b: 1 - 2.0 * (b[0] == x[40]).all(1))}, "not negative, got -1"),
        ((x, y), {"batch_loss": weighing(lambda b: torch.zeros(len(b[1])))}, "weights of all losses are zero"),
        ((x, y), {"batch_loss": weighing(lambda b: torch.ones(3))}, "must have the shape of the losses"),
        ((x, y), {"batch_loss": lambda m, b: (usual(m, b), m(b[0])[:, 0].exp())}, "weights of the losses depend"),
        ((x, y), {"weights": -torch.ones(50)}, "not negative"),
        ((x, y), {"weights": torch.zeros(50)}, "all weights are zero"),
        ((x, y), {"weights": torch.ones(7)}, r"one number per example, \(50,\)"),
        ((x, y), {"groups": y, "group_names": ["a", "b"]}, r"groups \[2\] are outside the groups 0 … 1"),
        ((x, y), {"groups": y - 1}, r"groups \[-1\] are outside"),
        ((x, y), {"groups": lambda batch: batch[1] - 1}, r"groups \[-1\] are outside"),
        ((x, y), {"groups": y.float()}, "must be integers"),
        ((x, y), {"groups": ["a"] * 50}, "not integers.*np.unique"),
        ((x, y), {"groups": y[:5]}, "got 5 for 50 examples"),
        (
            (x, y),
            {"groups": torch.zeros(50, 3, dtype=torch.int64), "batch_loss": usual},
            "give one group for each loss",
        ),
        ((x, y), {"group_names": ["a"]}, "there are no groups"),
        ((x, y), {"groups": y, "class_names": "abc"}, "pass group_names"),
        ((x, y), {"batch_loss": usual, "class_names": "abc"}, "groups=… .a function of the batch"),
        ((x, y), {"batch_loss": usual, "loss": "mse"}, "not both"),
        ((x, y), {"batch_loss": "causal_lm"}, r"lk\.losses\.causal_lm"),
        ((x, y), {"resident": "yes"}, "unknown value of resident"),
        (((x, y) for _ in itertools.count()), {"batch_loss": usual}, "may never end.*itertools.islice"),
        (DataLoader(Endless(), batch_size=4), {"batch_loss": usual}, "may never end"),
        (DataLoader(Boasting(), batch_size=4), {"batch_loss": usual}, "has the length 2, but gives more"),
        ([(x, y), (x[:0], y[:0])], {"batch_loss": usual}, "batch 1 has no examples"),
        ([], {"batch_loss": usual}, "empty"),
        ({"train": Dicts(), "test": Dicts()}, {"batch_loss": usual}, r"several data sets.*data\['train'\]"),
        ({"x": x, "y": y[:3]}, {"batch_loss": usual}, r"one entry per example, got dict\(x \(50, 6\), y \(3,\)\)"),
        ({"x": ["a"] * 50}, {"batch_loss": usual}, "not made of arrays of numbers"),
        (TensorDataset(x, y, y), {}, "these have 3 entries.*batch_loss"),
        (DataLoader(TensorDataset(x, y, y), batch_size=9), {}, "these have 3 entries"),
        (Dicts(), {}, r"pairs \(x, y\).*dict\(image \(6,\), label"),
        (Endless(), {}, "does not say its length"),
        (([x], [str(k) for k in y]), {}, "not an array|one entry"),
        ((x, [f"d{k}" for k in y]), {}, "np.unique.*class_names"),
        ((x, y.float()), {}, r"pass y\.long\(\)"),
        ((x, x[:, 0]), {}, 'use loss="mse"'),
        ((x, y[:, None]), {}, r"shape \(50, 1\).*pass y\[:, 0\]"),
        ((x, torch.nn.functional.one_hot(y, 3)), {}, r"pass y\.argmax\(1\)"),
        ([(x[k], y[k]) for k in range(50)], {}, r"batch 0 has 6 examples, and y of shape \(\).*stack them"),
        (DataLoader(TensorDataset(x, y), batch_size=None), {}, "Of single items pass a Dataset"),
        ([(x, y), (x, y[:4])], {}, r"batch 1 has 50 examples, and y of shape \(4,\)"),
        ((x.to_sparse(), y), {}, r"sparse tensor \(sparse_coo\).*to_dense"),
        ({"x": x.to_sparse()}, {"batch_loss": usual}, r"to_dense"),
        ((x.to("meta"), y), {}, "'meta', which holds no numbers"),
    ],
)
def test_what_makes_no_batches_is_named(data, how, says):
    with pytest.raises(lk.ObjectiveError, match=f"(?s){says}"):
        lk.Objective(dense(), data, **how)


def test_a_nested_tensor_is_named():
    nested = torch.nested.nested_tensor(list(x), layout=torch.jagged)  # imports half of PyTorch
    with pytest.raises(lk.ObjectiveError, match=r"(?s)nested tensor.*to_padded_tensor"):
        lk.Objective(dense(), (nested, y))


@pytest.mark.filterwarnings("error")
def test_arrays_that_must_not_be_written_are_taken():
    """As pandas gives the columns of a table."""
    frozen = x.numpy().copy()
    frozen.flags.writeable = False
    assert lk.Objective(dense(), (frozen, y)).evaluate().loss == lk.Objective(dense(), (x, y)).evaluate().loss


@pytest.mark.parametrize(
    ("loss", "targets", "says"),
    [
        ("cross_entropy", (y > 0).long(), 'loss="bce"'),
        ("mse", y.float(), r"y\[:, None\]"),
        ("bce", y, r"labels \[2\] are outside"),
        ("bce", 3.0 * y, "0, 1 or probabilities"),
        ("bce", torch.rand(50, 4), "they must be equal for bce"),
    ],
)
def test_one_output_and_targets_that_do_not_go_together(loss, targets, says):
    with pytest.raises(lk.ObjectiveError, match=says):
        lk.Objective(nn.Linear(6, 1), (x, targets), loss=loss)


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(6, 3, dtype=torch.cfloat))

    def forward(self, x):
        return (x.to(self.kernel.dtype) @ self.kernel).abs()


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        return {"logits": self.linear(x)}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Complex, "'kernel' is complex.*view_as_real"),
        (lambda: dense().to("meta"), "'0.weight' is on the device 'meta'.*to_empty"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), "'0.weight' has no shape yet"),
        (Named, "a dict with 'logits'.*sequence_classification"),
    ],
)
def test_models_that_cannot_be_evaluated_are_named(make, says):
    with pytest.raises(lk.ObjectiveError, match=says):
        lk.Objective(make(), (x, y))


def test_a_loss_without_a_gradient_is_refused():
    with pytest.raises(lk.ObjectiveError, match="no gradient flows back"):
        lk.Objective(dense(), (x, y), loss=lambda o, t: F.cross_entropy(o.detach(), t, reduction="none"))


def test_a_loss_may_depend_on_the_copy_of_the_model_only():
    model, temperature = dense(), nn.Parameter(torch.zeros(1))
    with pytest.raises(lk.ObjectiveError, match=r"of shape \(1,\)"):
        lk.Objective(model, (x, y), loss=lambda o, t: F.cross_entropy(o * temperature.exp(), t, reduction="none"))
    with pytest.raises(lk.ObjectiveError, match=r"of shape \(5, 6\).*batch_loss"):
        lk.Objective(model, (x, y), loss=lambda o, t: F.cross_entropy(o, t, reduction="none") + model[0].weight.sum())

    def penalized(copy, batch):
        return usual(copy, batch) + copy[0].weight.square().sum()

    expected = F.cross_entropy(model(x), y) + model[0].weight.square().sum()
    assert lk.Objective(model, (x, y), batch_loss=penalized).loss() == pytest.approx(expected.item(), rel=1e-6)


def test_arrays_that_a_tensor_cannot_share_are_copied():
    """Images that were flipped, and files with the bytes of another kind of machine (IDX, FITS)."""
    x, y = (tensor.numpy() for tensor in examples())
    expected = lk.Objective(dense(), (x, y)).loss()
    for same in (x.astype(">f4"), x[::-1].copy()[::-1], np.asfortranarray(x), x.astype(np.longdouble).astype("f8")):
        assert lk.Objective(dense(), (same, y.astype(">i8"))).loss() == pytest.approx(expected, rel=1e-6)
        batches = [{"x": same[:20], "y": y[:20]}, {"x": same[20:], "y": y[20:]}]
        assert lk.Objective(dense(), batches, batch_loss=of_mapping).loss() == pytest.approx(expected, rel=1e-6)


def of_mapping(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")


def test_masked_numbers_are_not_taken_for_numbers():
    x, y = (tensor.numpy() for tensor in examples())
    masked = np.ma.masked_array(x, mask=x > 1)
    with pytest.raises(lk.ObjectiveError, match=r"masked array.*filled"):
        lk.Objective(dense(), (masked, y))
    with pytest.raises(lk.ObjectiveError, match="masked array"):
        lk.Objective(dense(), {"x": masked, "y": y}, batch_loss=of_mapping)
    lk.Objective(dense(), (np.ma.masked_array(x, mask=False), y))


@pytest.mark.parametrize("shape", [(50, 1), (50, 2), (50, 1, 1)])
def test_groups_in_another_shape_than_the_losses_are_refused(shape):
    """Of (n, 1) and (n,) a product would have n times n numbers."""
    x, y = examples()
    with pytest.raises(lk.ObjectiveError, match="groups have the shape"):
        lk.Objective(dense(), (x, y), groups=np.zeros(shape, int), group_names=["a"]).class_losses()


def test_a_sampler_that_leaves_examples_out_is_named():
    data = torch.utils.data.TensorDataset(*examples())
    loader = torch.utils.data.DataLoader(data, sampler=torch.utils.data.SubsetRandomSampler(range(20)), batch_size=5)
    with pytest.warns(LcakitWarning, match="the sampler SubsetRandomSampler of the DataLoader is not used"):
        assert lk.Objective(dense(), loader).data.n_examples == 50


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.passes = nn.Linear(6, 3), 0

    def forward(self, x):
        self.passes += 1
        return self.linear(x) * self.passes


def test_a_pass_that_changes_the_model_is_told_as_that():
    with pytest.raises(lk.ObjectiveError, match=r"a pass changes the model \(a counter"):
        lk.Objective(Counting(), examples())


def test_parameters_are_real_numbers_in_any_array():
    objective = lk.Objective(dense(), examples())
    theta = np.linspace(-1, 1, objective.n_parameters)
    expected = objective.loss(theta)
    for same in (theta.astype(">f8"), theta[::-1].copy()[::-1], theta.tolist(), torch.tensor(theta)):
        assert objective.loss(same) == expected
    path = np.stack([theta, theta / 2])
    allocated = lk.allocate(path, objective, quiet=True)["lca"]
    np.testing.assert_array_equal(lk.allocate(path[:, ::-1].copy()[:, ::-1], objective, quiet=True)["lca"], allocated)
    np.testing.assert_array_equal(lk.allocate([*path], objective, quiet=True)["lca"], allocated)


@pytest.mark.parametrize("odd", [lambda t: t * 1j, lambda t: np.ma.masked_array(t, t > 0), lambda t: ["a"] * len(t)])
def test_other_parameters_are_refused(odd):
    objective = lk.Objective(dense(), examples())
    theta = np.linspace(-1, 1, objective.n_parameters)
    for ask in (lambda: objective.loss(odd(theta)), lambda: lk.allocate(np.ma.stack([odd(theta)] * 2), objective)):
        with pytest.raises(lk.ObjectiveError, match=r"real numbers|masked"):
            ask()
