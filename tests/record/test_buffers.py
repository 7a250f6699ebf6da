"""Buffers that training moves: their part of each loss change is booked, so that the account closes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.record.objective.buffers import BufferTable
from lcakit.trajectory.consistency import contradictions
from tests.support.networks import dense, examples

pytestmark = pytest.mark.filterwarnings("ignore:the allocations do not add up")  # those of a codebook: straight through
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


def record(path, model, steps=6, note=lambda model: None, **how):
    """Train, and return the true loss at each snapshot."""
    objective = lk.Objective(model, (x, y))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    losses = [eval_loss(model)]
    with lk.Recorder(path, objective, optimizer, quiet=True, **how):
        note(model)
        for step in range(steps):
            model.train()
            part = slice(8 * step, 8 * step + 12)
            optimizer.zero_grad()
            F.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
            losses.append(eval_loss(model))
            note(model)
    return np.array(losses)


@pytest.mark.slow
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


def stored(ds):
    """The buffers at each snapshot, by name."""
    ends = np.cumsum(ds["buffer_size"].values)
    return dict(zip(ds["buffer"].values.tolist(), np.split(ds["buffers"].values, ends[:-1], axis=1), strict=True))


@pytest.mark.sampled
@pytest.mark.parametrize("make", [Codebook, RunningMean, spectral])
def test_buffers_are_stored_with_each_snapshot_exactly(make, tmp_path):
    torch.manual_seed(0)
    model, seen = make(), []
    live = dict(model.named_buffers())

    def note(model):
        seen.append({name: buffer.clone() for name, buffer in live.items()})

    record(tmp_path / "run.nc", model, note=note)
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        for name, values in stored(ds).items():
            expected = torch.stack([now[name].reshape(-1) for now in seen])
            np.testing.assert_array_equal(values, expected.double())
        assert {*stored(ds)} == {*live}


@pytest.mark.slow
@pytest.mark.parametrize("make", [Codebook, RunningMean, spectral])
def test_allocating_later_gives_the_bits_of_allocating_while_training(make, tmp_path):
    for how in ("online", "later"):
        torch.manual_seed(0)
        record(tmp_path / f"{how}.nc", make(), allocate=how)
    with lk.open_trajectory(tmp_path / "online.nc") as now, lk.open_trajectory(tmp_path / "later.nc") as later:
        assert set(now.data_vars) == set(later.data_vars)
        for name in now.data_vars:
            np.testing.assert_array_equal(now[name], later[name], err_msg=str(name))


@pytest.mark.slow
def test_another_objective_follows_the_stored_buffers_and_keeps_its_own(tmp_path):
    torch.manual_seed(0)
    model, kept = RunningMean(), []
    record(tmp_path / "run.nc", model, note=lambda now: kept.append(copy.deepcopy(now)))
    other = x + 1, (y + 1) % 3
    objective = lk.Objective(RunningMean(), other, precision="float64")
    before = objective.loss()
    ds = lk.allocate(tmp_path / "run.nc", objective, name="val", quiet=True)
    with torch.no_grad():
        expected = [F.cross_entropy(now.double().eval()(other[0].double()), other[1]).item() for now in kept]
    np.testing.assert_allclose(ds["loss_val"], expected, rtol=1e-7)
    account = ds["lca_val"].sum("parameter") - ds["residual_val"] + ds["buffer_change_val"]
    np.testing.assert_allclose(account, np.diff(expected), atol=1e-7)
    assert objective.loss() == before


@pytest.mark.slow
def test_an_unfinished_recording_has_them_and_goes_on(tmp_path):
    def train(model, upto, interrupt=None, **how):
        objective = lk.Objective(model, (x, y))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        with lk.Recorder(tmp_path / how.pop("name"), objective, optimizer, quiet=True, block_rows=2, **how) as rec:
            for step in range(rec.steps, upto):
                if step == interrupt:
                    raise KeyboardInterrupt
                if step > 2:  # they do not move before
                    model.train()
                optimizer.zero_grad()
                F.cross_entropy(model(x[:20]), y[:20]).backward()
                optimizer.step()

    torch.manual_seed(0)
    start = RunningMean().eval()
    train(copy.deepcopy(start), 9, name="whole.nc")
    with pytest.raises(KeyboardInterrupt):
        train(copy.deepcopy(start), 9, 6, name="run.nc")
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        assert len(ds["buffers"]) == ds.sizes["snapshot"]
    again = copy.deepcopy(start)
    train(again.train(), 9, name="run.nc", resume=True)
    with lk.open_trajectory(tmp_path / "whole.nc") as whole, lk.open_trajectory(tmp_path / "run.nc") as ds:
        assert not whole["buffers"][:4].any()
        assert whole["buffers"][4].any()
        for name in whole.data_vars:
            np.testing.assert_array_equal(whole[name], ds[name], err_msg=str(name))


def test_buffers_that_never_move_are_not_stored(tmp_path):
    torch.manual_seed(0)
    model = RunningMean().eval()
    objective, optimizer = lk.Objective(model, (x, y)), torch.optim.SGD(model.parameters(), lr=0.1)
    with lk.Recorder(tmp_path / "run.nc", objective, optimizer, quiet=True):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        assert not {"buffers", "buffer", "buffer_size", "first_buffers"} & set(ds.variables)


def test_complex_and_whole_numbers_come_back_as_they_are():
    model = RunningMean()
    model.register_buffer("turns", torch.polar(torch.ones(2), torch.tensor([0.3, 2.0])))
    model.calls += 7
    table = BufferTable.of(dict(model.named_buffers()))
    assert dict(zip(table.names, table.sizes, strict=True)) == {"mean": 6, "calls": 1, "turns": 4}
    back = table.cut(table.row(dict(model.named_buffers())), dict(model.named_buffers()))
    assert torch.equal(back["turns"].to(torch.complex64), model.turns)
    assert int(back["calls"]) == 7


@pytest.mark.slow
def test_stored_buffers_of_another_size_are_refused(tmp_path):
    torch.manual_seed(0)
    record(tmp_path / "run.nc", Codebook())
    model = Codebook()
    model.code = torch.randn(9, 4)
    with pytest.raises(lk.TrajectoryError, match="'code' has 32 numbers in the trajectory and 36"):
        lk.allocate(tmp_path / "run.nc", lk.Objective(model, (x, y)), name="again", quiet=True)


def test_files_without_them_refuse_an_allocation_where_they_moved_the_loss(tmp_path):
    """Files of versions that did not store buffers."""
    torch.manual_seed(0)
    record(tmp_path / "run.nc", RunningMean())
    ds = lk.open_trajectory(tmp_path / "run.nc").drop_vars(["buffers", "buffer", "buffer_size"])
    with pytest.raises(lk.TrajectoryError, match="buffers of the model moved the loss"):
        lk.allocate(ds, lk.Objective(RunningMean(), (x, y)), name="again", quiet=True)


def test_a_table_of_buffers_that_does_not_add_up_is_told(tmp_path):
    torch.manual_seed(0)
    record(tmp_path / "run.nc", RunningMean())
    ds = lk.open_trajectory(tmp_path / "run.nc").load()
    assert not list(contradictions(ds))
    ds["buffer_size"] = ds["buffer_size"] + 1
    assert any("buffer_size adds up to 9, and there are 7" in text for text in contradictions(ds))
