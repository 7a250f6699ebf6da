"""The model that trains computes what the recorded loss does: what changes beside parameters and buffers is told."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

import lcakit as lk
from lcakit.errors import LcakitWarning
from tests.support.networks import dense, examples, norm_net, train

x, y = examples()


class Cooled(nn.Module):
    """Logits over a temperature, an attribute or a buffer, and an attribute that only counts."""

    def __init__(self, buffer=False):
        super().__init__()
        self.net, self.calls = dense(), 0
        if buffer:
            self.register_buffer("heat", torch.ones(()))
        else:
            self.heat = 1.0

    def forward(self, x):
        self.calls += 1
        return self.net(x) / self.heat


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.c(torch.tanh(self.b(F.relu(self.a(x)))))


class Half(nn.Module):
    def forward(self, weight):
        return weight / 2


def record(path, model, each, steps=6, **how):
    objective = lk.Objective(model, (x, y))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    with lk.Recorder(path, objective, optimizer, quiet=True, **how):
        train(model, optimizer, x, y, steps, each=each)
    return lk.open_trajectory(path)


def cool(model, step):
    model.heat = 1 - 0.1 * step


def exchange(model, step):
    model.net[1] = nn.ReLU()


def parametrized(model, step):
    if step == 2:
        parametrize.register_parametrization(model.net[0], "weight", Half())


def swap(model, step):
    if step == 2:
        model.a, model.b = model.b, model.a


@pytest.mark.parametrize(
    ("make", "change"),
    [(Cooled, cool), (Cooled, exchange), (Cooled, parametrized), (Twins, swap)],
    ids=["attribute", "layer", "parametrization", "order"],
)
@pytest.mark.parametrize("how", ["online", "later"])
def test_what_changes_beside_parameters_and_buffers_stops_the_recording(tmp_path, make, change, how):
    model = make()
    with pytest.raises(lk.RecordingError, match="computes something else than when the objective was made"):
        record(tmp_path / "run.nc", model, lambda step: change(model, step), allocate=how)


def test_a_temperature_that_is_a_buffer_is_followed(tmp_path):
    model = Cooled(buffer=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = record(tmp_path / "run.nc", model, lambda step: model.heat.fill_(1 - 0.1 * step))
    model.heat.fill_(1 - 0.1 * 4)  # as it was when the last step ended
    with torch.no_grad():
        assert float(ds["loss"][-1]) == pytest.approx(float(F.cross_entropy(model(x), y)), rel=1e-5)
    assert (ds["buffer_change"][2:] != 0).all()


def test_running_statistics_that_the_loss_uses_are_followed(tmp_path):
    """Batch normalization changes them without a new version of the tensor."""
    model = norm_net().eval()
    ds = record(tmp_path / "run.nc", model, None)
    with torch.no_grad():
        assert float(ds["loss"][-1]) == pytest.approx(float(F.cross_entropy(model.eval()(x), y)), rel=1e-5)
    assert (ds["buffer_change"] != 0).all()
    account = ds["lca"].sum("parameter") - ds["residual"] + ds["buffer_change"]
    np.testing.assert_allclose(account, np.diff(ds["loss"]), atol=1e-6)


@pytest.mark.parametrize(
    "make", [Cooled, norm_net, lambda: norm_net().eval(), dense], ids=["counts", "norm", "norm in eval mode", "dense"]
)
def test_what_stays_says_nothing(tmp_path, make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert record(tmp_path / "run.nc", make(), None).sizes["iteration"] == 6


def test_a_lower_precision_in_the_forward_method_is_told_and_not_refused(tmp_path):
    model = dense()

    def lower(step):
        if step == 0:
            kind = type(model)

            class Autocast(kind):
                def forward(self, x):
                    with torch.autocast("cpu", torch.bfloat16):
                        return super().forward(x).float()

            model.__class__ = Autocast

    with pytest.warns(LcakitWarning, match="computes in another precision"):
        record(tmp_path / "run.nc", model, lower)


def test_a_model_that_cannot_be_copied_any_more_is_told(tmp_path):
    model = dense()

    def hold(step):
        model.lock = threading.Lock()

    with pytest.warns(LcakitWarning, match=r"not possible to compare the model with its copy .*cannot be copied"):
        ds = record(tmp_path / "run.nc", model, hold)
    assert ds.sizes["iteration"] == 6


def test_comparing_leaves_generators_and_the_model_alone(tmp_path):
    """Training with and without a recorder is the same, bit by bit, when it compares at its steps 1, 2 and 4."""
    ends = []
    for recorded in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        if recorded:
            with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), optimizer, quiet=True):
                train(model, optimizer, x, y, 5)
        else:
            train(model, optimizer, x, y, 5)
        ends.append([*model.state_dict().values(), torch.rand(2)])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_loop_that_trains_another_copy_is_told(tmp_path):
    model, other = dense(), dense()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    with (
        pytest.warns(LcakitWarning, match="no parameter has moved in 3 steps"),
        lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), optimizer, quiet=True),
    ):
        train(other, optimizer, x, y, 3)
    assert not np.diff(lk.open_trajectory(tmp_path / "run.nc")["theta"], axis=0).any()
