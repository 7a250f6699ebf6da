"""Buffers that training moves: their part of each loss change is booked, so that the account closes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from tests.support.networks import dense, examples

x, y = examples(60)


class Codebook(nn.Module):
    """Quantized activations, whose codes follow them in training."""

    def __init__(self):
        super().__init__()
        self.before, self.after = nn.Linear(6, 4), nn.Linear(4, 3)
        self.register_buffer("code", torch.randn(8, 4))

    def forward(self, x):
        h = self.before(x)
        nearest = torch.cdist(h, self.code).argmin(1)
        q = self.code[nearest]
        if self.training:
            with torch.no_grad():
                for k in nearest.unique():
                    self.code[k] = 0.8 * self.code[k] + 0.2 * h[nearest == k].mean(0)
        return self.after(h + (q - h).detach())


class RunningMean(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
            self.calls += 1
        return self.linear(x - self.mean)


class Counting(nn.Module):
    """A buffer that the loss does not depend on."""

    def __init__(self):
        super().__init__()
        self.net = dense()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.calls += int(self.training)
        return self.net(x)


def spectral():
    norm = nn.utils.parametrizations.spectral_norm
    return nn.Sequential(norm(nn.Linear(6, 8)), nn.ReLU(), norm(nn.Linear(8, 3)))


def eval_loss(model):
    with torch.no_grad():
        return float(F.cross_entropy(copy.deepcopy(model).double().eval()(x.double()), y))


def record(path, model, steps=6, **how):
    """Train, and return the true loss at each snapshot."""
    objective = lk.Objective(model, (x, y))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    losses = [eval_loss(model)]
    with lk.Recorder(path, objective, optimizer, quiet=True, **how):
        for step in range(steps):
            model.train()
            part = slice(8 * step, 8 * step + 12)
            optimizer.zero_grad()
            F.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
            losses.append(eval_loss(model))
    return np.array(losses)


@pytest.mark.parametrize("make", [Codebook, RunningMean, spectral])
def test_the_account_closes_with_what_buffers_did(make, tmp_path):
    torch.manual_seed(0)
    losses = record(tmp_path / "run.nc", make(), tolerance=1e-4, max_splits=64)
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        np.testing.assert_allclose(ds["loss"], losses, rtol=1e-5)
        moved = ds["buffer_change"].values
        assert (moved != 0).any()
        np.testing.assert_allclose(ds["lca"].sum("parameter") - ds["residual"] + moved, np.diff(losses), atol=1e-5)
        if make is not Codebook:  # whose gradients are straight through, and so not those of its loss
            assert not [check for check in lk.validate(ds).checks if check.status == "fail"]
        assert lk.account(ds).buffer_change == pytest.approx(moved.sum())


def test_lca_is_that_of_the_path_before_the_buffers_move(tmp_path):
    """Linear in θ and with few examples: the change by buffers is what is left when θ moves alone."""
    torch.manual_seed(0)
    model = RunningMean()
    before = copy.deepcopy(model).eval()
    record(tmp_path / "run.nc", model, steps=1)
    with torch.no_grad():
        alone = copy.deepcopy(before)
        alone.linear.load_state_dict(model.linear.state_dict())
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        assert float(ds["buffer_change"][0]) == pytest.approx(eval_loss(model) - eval_loss(alone), rel=1e-4)
        assert float(ds["lca"].sum()) == pytest.approx(eval_loss(alone) - eval_loss(before), abs=1e-4)


def test_buffers_without_an_effect_cost_no_further_gradients(tmp_path):
    torch.manual_seed(0)
    model = Counting()
    objective = lk.Objective(model, (x, y))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with lk.Recorder(tmp_path / "run.nc", objective, optimizer, quiet=True):
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert objective.evaluations == 1 + 2 * 5 + 1  # once more, to see that it changes nothing
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        assert not ds["buffer_change"].any()


def test_a_model_without_buffers_has_no_such_variable(tmp_path):
    record(tmp_path / "run.nc", dense(), steps=1)
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        assert "buffer_change" not in ds


def test_moving_buffers_are_refused_where_theta_alone_is_stored(tmp_path):
    torch.manual_seed(0)
    with pytest.raises(lk.RecordingError, match=r"'mean'.* changed while training"):
        record(tmp_path / "later.nc", RunningMean(), allocate="later")
    record(tmp_path / "run.nc", RunningMean())
    with pytest.raises(lk.TrajectoryError, match="buffers of the model moved the loss"):
        lk.allocate(tmp_path / "run.nc", lk.Objective(RunningMean(), (x, y)), name="again", quiet=True)
