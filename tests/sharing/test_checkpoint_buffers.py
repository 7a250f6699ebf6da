"""Checkpoints whose buffers are not those that the objective evaluates with: said, or refused, never passed over."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.sharing.importers.checkpoints import from_checkpoints
from tests.support.networks import dense, examples, norm_net

x, y = examples(30)
OPEN = "the allocations do not add up"  # those of a codebook: straight through


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        return self.linear(x) * self.scale


class Codebook(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.after = nn.Linear(6, 4), nn.Linear(4, 3)
        self.register_buffer("code", torch.randn(8, 4))

    def forward(self, x):
        return self.after(self.code[torch.cdist(self.before(x), self.code).argmin(1)])


def spectral():
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3)))


def write(folder, model, change, steps=3):
    """Save checkpoints whose parameters move, and whose buffers ``change`` moves; return the loss of each, by hand."""
    folder.mkdir()
    losses = []
    for step in range(steps):
        torch.save(model.state_dict(), folder / f"c{step}.pt")
        with torch.no_grad():
            losses.append(float(F.cross_entropy(copy.deepcopy(model).double().eval()(x.double()), y)))
            for parameter in model.parameters():
                parameter.mul_(1.1)
        change(model, step)
    return np.array(losses)


def move(*names):
    def change(model, step):
        buffers = dict(model.named_buffers())
        for name in names:
            buffers[name].copy_(buffers[name] * 2 + 1 if buffers[name].dim() == 0 else buffers[name].flip(0) * 1.5)

    return change


def keep(model, step):
    pass


CASES = {
    "scale": (Scaled, "scale"),
    "codebook": (Codebook, "code"),
    "spectral norm": (spectral, "0.parametrizations.weight.0._u"),
}


def fresh(make):
    torch.manual_seed(0)
    return make()


def one_warning(caught):
    (warning,) = [w for w in caught if issubclass(w.category, LcakitWarning)]
    assert warning.filename == __file__
    return str(warning.message)


@pytest.mark.parametrize(("make", "name"), CASES.values(), ids=CASES)
def test_each_checkpoint_is_allocated_with_its_own_buffers(tmp_path, make, name):
    right = write(tmp_path / "all", fresh(make), move(name))
    objective = lk.Objective(fresh(make), (x, y))  # as the first checkpoint
    before = objective.loss()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", OPEN)
        ds = from_checkpoints(tmp_path / "all", objective=objective, quiet=True, max_splits=64, tolerance=1e-5)
    np.testing.assert_allclose(ds["loss"], right, rtol=1e-5)
    account = ds["lca"].sum("parameter") - ds["residual"] + ds["buffer_change"]
    np.testing.assert_allclose(account, np.diff(right), atol=1e-5)
    assert (ds["buffer_change"] != 0).all()
    assert name in ds["buffer"].values
    assert objective.loss() == before  # its own buffers are in place again


@pytest.mark.sampled
@pytest.mark.filterwarnings(f"ignore:{OPEN}")
@pytest.mark.parametrize(("make", "name"), CASES.values(), ids=CASES)
def test_a_file_has_them_for_an_allocation_that_comes_later(tmp_path, make, name):
    right = write(tmp_path / "all", fresh(make), move(name))
    from_checkpoints(tmp_path / "all", model=fresh(make), out=tmp_path / "run.nc")
    ds = lk.allocate(tmp_path / "run.nc", lk.Objective(fresh(make), (x, y)), quiet=True)
    np.testing.assert_allclose(ds["loss"], right, rtol=1e-5)
    places = np.cumsum([0, *ds["buffer_size"].values])
    row = ds["buffer"].values.tolist().index(name)
    stored = [torch.load(tmp_path / "all" / f"c{step}.pt")[name].reshape(-1) for step in range(3)]
    np.testing.assert_array_equal(ds["buffers"][:, places[row] : places[row + 1]], torch.stack(stored).double())


def test_buffers_that_some_checkpoints_lack_are_named(tmp_path):
    write(tmp_path / "all", fresh(Scaled), move("scale"))
    state = torch.load(tmp_path / "all" / "c1.pt")
    del state["scale"]
    torch.save(state, tmp_path / "all" / "c1.pt")
    with pytest.warns(LcakitWarning) as caught:
        ds = from_checkpoints(tmp_path / "all", model=fresh(Scaled))
    assert "'scale' are not the same in all checkpoints, and not in each of them" in one_warning(caught)
    assert "buffers" not in ds


def test_buffers_that_only_the_objective_has_otherwise_are_refused(tmp_path):
    model = fresh(Scaled)
    model.scale.fill_(3)
    right = write(tmp_path / "all", model, keep)
    other = lk.Objective(fresh(Scaled), (x, y))
    with pytest.raises(lk.TrajectoryError, match=r"'scale'.* with its own buffers .*model\.load_state_dict"):
        from_checkpoints(tmp_path / "all", objective=other, quiet=True)
    loaded = fresh(Scaled)
    loaded.load_state_dict(torch.load(tmp_path / "all" / "c0.pt"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = from_checkpoints(tmp_path / "all", objective=lk.Objective(loaded, (x, y)), quiet=True)
    np.testing.assert_allclose(ds["loss"], right, rtol=1e-5)


@pytest.mark.parametrize("with_objective", [False, True])
def test_counters_and_unused_running_statistics_are_no_matter(tmp_path, with_objective):
    def train(model, step):
        model.train()(x)

    for number, (make, change) in enumerate([(Scaled, move("calls")), (norm_net, train), (dense, keep)]):
        folder = tmp_path / str(number)
        model = fresh(make)
        write(folder, model, change)
        how = {"objective": lk.Objective(fresh(make), (x, y)), "quiet": True} if with_objective else {"model": model}
        with warnings.catch_warnings():
            warnings.simplefilter("error", LcakitWarning)
            from_checkpoints(folder, **how)


def test_running_statistics_that_the_loss_uses_are_followed(tmp_path):
    right = write(tmp_path / "all", fresh(norm_net), lambda model, step: model.train()(x))
    objective = lk.Objective(fresh(norm_net), (x, y), norm="running")
    ds = from_checkpoints(tmp_path / "all", objective=objective, quiet=True)
    np.testing.assert_allclose(ds["loss"], right, rtol=1e-4)
    assert "1.running_mean" in ds["buffer"].values
