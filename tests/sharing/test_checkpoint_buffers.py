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
def test_buffers_that_differ_are_named_with_what_they_do_to_the_loss(tmp_path, make, name):
    right = write(tmp_path / "all", fresh(make), move(name))
    objective = lk.Objective(fresh(make), (x, y))  # as the first checkpoint
    before = objective.loss()
    with pytest.warns(LcakitWarning) as caught:
        ds = from_checkpoints(tmp_path / "all", objective=objective, quiet=True, max_splits=4)
    text = one_warning(caught)
    assert repr(name) in text
    assert "calls" not in text
    assert "objective's buffers in all checkpoints" in text
    shown = [float(part.split()[0].rstrip(".")) for part in text.split("buffers ")[1:] if part[0].isdigit()]
    assert any(np.isclose(shown[0], right, rtol=1e-4))
    assert ds["loss"][0] == pytest.approx(right[0], rel=1e-5)
    assert objective.loss() == before  # its own buffers are in place again


@pytest.mark.parametrize(("make", "name"), CASES.values(), ids=CASES)
def test_without_an_objective_they_are_named_too(tmp_path, make, name):
    write(tmp_path / "all", fresh(make), move(name))
    with pytest.warns(LcakitWarning) as caught:
        from_checkpoints(tmp_path / "all", model=fresh(make))
    assert f"{name!r} are not the same in all checkpoints" in one_warning(caught)


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


def test_an_objective_of_the_last_checkpoint_is_told_as_well(tmp_path):
    model = fresh(Scaled)
    right = write(tmp_path / "all", model, move("scale"))
    model.load_state_dict(torch.load(tmp_path / "all" / "c2.pt"))
    with pytest.warns(LcakitWarning, match=r"'scale'.*c0\.pt"):
        ds = from_checkpoints(tmp_path / "all", objective=lk.Objective(model, (x, y)), quiet=True)
    assert ds["loss"][-1] == pytest.approx(right[-1], rel=1e-5)


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


def test_running_statistics_that_the_loss_uses_are_named(tmp_path):
    write(tmp_path / "all", fresh(norm_net), lambda model, step: model.train()(x))
    objective = lk.Objective(fresh(norm_net), (x, y), norm="running")
    with pytest.warns(LcakitWarning, match="running_mean"):
        from_checkpoints(tmp_path / "all", objective=objective, quiet=True)
