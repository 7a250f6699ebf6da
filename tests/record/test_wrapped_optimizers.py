"""Optimizers as trainers hand them out: inside wrappers, with another one inside, or never stepped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from tests.support.networks import dense, examples, flat


class Bare(torch.optim.Optimizer):
    """An optimizer by its class alone, which never called the constructor of its base class (as accelerate's)."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    param_groups = property(lambda self: self.optimizer.param_groups)
    state = property(lambda self: self.optimizer.state)

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state)

    def step(self, closure=None):
        self.optimizer.step(closure)


class Disguised:
    """A wrapper that takes the class of what it wraps (as Lightning's and Fabric's)."""

    def __init__(self, optimizer):
        self._optimizer = optimizer
        kind = type(optimizer)
        self.__class__ = type("Disguised" + kind.__name__, (Disguised, kind), {})

    def __getattr__(self, name):
        return getattr(self._optimizer, name)

    def step(self, closure=None):
        return self._optimizer.step(closure)


class Plain:
    """A wrapper of no class at all."""

    def __init__(self, inside):
        self.inside = inside

    def step(self):
        self.inside.step()


class Sharpness(torch.optim.Optimizer):
    """Climbs first, and descends from where it was: two halves that a loop may call by themselves (SAM)."""

    def __init__(self, params, base, radius=0.05, **options):
        super().__init__(params, {"radius": radius, **options})
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["before"] = p.clone()
                p.add_(p.grad, alpha=group["radius"])

    @torch.no_grad()
    def second_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p].pop("before"))
        self.base_optimizer.step()

    def step(self, closure):
        self.first_step()
        with torch.enable_grad():
            closure()
        self.second_step()


class Averaged(torch.optim.Optimizer):
    """Moves its parameters once more after the step of the optimizer inside (as Lookahead)."""

    def __init__(self, params, base, **options):
        super().__init__(params, options)
        self.optimizer = base(self.param_groups, **options)

    @torch.no_grad()
    def step(self, closure=None):
        self.optimizer.step()
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(0.99)


def backward(model, data):
    model.zero_grad()
    loss = F.cross_entropy(model(data[0]), data[1])
    loss.backward()
    return loss


def recorded(path, model, optimizer, step, steps=4, data=None):
    data, snapshots = data or examples(), [flat(model)]
    with lk.Recorder(path, lk.Objective(model, data), optimizer, quiet=True):
        for _ in range(steps):
            backward(model, data)
            step()
            snapshots.append(flat(model))
    ds = lk.open_trajectory(path)
    np.testing.assert_array_equal(ds["theta"], np.stack(snapshots))
    return ds


@pytest.mark.sampled
@pytest.mark.parametrize(
    "wrap",
    [Bare, Disguised, Plain, lambda o: Bare(Disguised(o)), lambda o: {"main": o}],
    ids=["bare", "disguised", "plain", "twice", "dict"],
)
def test_wrappers_are_looked_through(tmp_path, wrap):
    model = dense()
    inside = torch.optim.SGD(model.parameters(), lr=0.1)
    outside = wrap(inside)
    ds = recorded(tmp_path / "run.nc", model, outside, inside.step if isinstance(outside, dict) else outside.step)
    assert ds.sizes["iteration"] == 4
    assert ds.attrs["optimizers"] == "SGD"
    assert not inside._optimizer_step_post_hooks


@pytest.mark.parametrize("halves", [True, False], ids=["two calls", "a closure"])
def test_a_pair_of_steps_is_one_iteration(tmp_path, halves):
    model, data = dense(), examples()
    optimizer = Sharpness(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)

    def by_halves():
        optimizer.first_step()
        backward(model, data)
        optimizer.second_step()

    step = by_halves if halves else lambda: optimizer.step(lambda: backward(model, data))
    assert recorded(tmp_path / "run.nc", model, optimizer, step, data=data).sizes["iteration"] == 4


def test_the_outer_of_two_steps_ends_the_iteration(tmp_path):
    model = dense()
    optimizer = Averaged(model.parameters(), torch.optim.SGD, lr=0.1)
    assert recorded(tmp_path / "run.nc", model, optimizer, optimizer.step).sizes["iteration"] == 4


def test_a_step_of_many_evaluations_is_one_iteration(tmp_path):
    model, data = dense(), examples()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    step = lambda: optimizer.step(lambda: backward(model, data))  # noqa: E731
    ds = recorded(tmp_path / "run.nc", model, optimizer, step, steps=2, data=data)
    np.testing.assert_allclose(ds["lca"].sum("parameter"), np.diff(ds["loss"]), atol=2e-3)


def test_optimizers_that_step_inside_backward(tmp_path):
    model, data = dense(), examples()
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def step(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in optimizers:
        parameter.register_post_accumulate_grad_hook(step)
    snapshots = [flat(model)]
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, data), list(optimizers.values()), quiet=True):
        for _ in range(3):
            F.cross_entropy(model(data[0]), data[1]).backward()
            snapshots.append(flat(model))
    np.testing.assert_array_equal(lk.open_trajectory(tmp_path / "run.nc")["theta"], np.stack(snapshots))


def test_an_optimizer_that_never_steps_is_an_error_and_leaves_nothing(tmp_path):
    model, data = dense(), examples()
    given, used = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    with (
        pytest.raises(lk.RecordingError, match=r"nothing was recorded.*SGD has taken none"),
        lk.Recorder(tmp_path / "run.nc", lk.Objective(model, data), given, quiet=True),
    ):
        backward(model, data)
        used.step()
    with (
        pytest.raises(lk.RecordingError, match=r"nothing was recorded.*rec\.step\(\)"),
        lk.Recorder(tmp_path / "run.nc", lk.Objective(model, data), quiet=True),
    ):
        used.step()
    assert not list(tmp_path.iterdir())


def test_one_of_several_that_never_steps_is_named(tmp_path):
    model, data = nn.Sequential(dense(), nn.Linear(3, 3)), examples()
    optimizers = [torch.optim.SGD(model[0].parameters(), lr=0.1), torch.optim.Adam(model[1].parameters())]
    with (
        pytest.raises(lk.RecordingError, match="loop calls step\\(\\) on: Adam has taken none"),
        lk.Recorder(tmp_path / "run.nc", lk.Objective(model, data), optimizers, quiet=True),
    ):
        for _ in range(2):
            backward(model, data)
            optimizers[0].step()


@pytest.mark.parametrize("given", [3, "SGD", object(), [object()]])
def test_what_is_no_optimizer_is_named(tmp_path, given):
    with pytest.raises(lk.RecordingError, match=r"must be a torch optimizer.*rec\.step"):
        lk.Recorder(tmp_path / "run.nc", lk.Objective(dense(), examples()), given)


@pytest.mark.slow
def test_the_state_of_an_optimizer_inside_another_is_kept(tmp_path):
    def loop(path, stop=None, **options):
        model, data = dense(), examples()
        optimizer = Sharpness(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
        options |= {"quiet": True, "block_rows": 1}
        with lk.Recorder(path, lk.Objective(model, data), optimizer, **options) as rec:
            for step in range(rec.steps, 6):
                if step == stop:
                    raise KeyboardInterrupt
                backward(model, data)
                optimizer.step(lambda: backward(model, data))
        return lk.open_trajectory(path)

    with pytest.raises(KeyboardInterrupt):
        loop(tmp_path / "run.nc", stop=3)
    resumed, whole = loop(tmp_path / "run.nc", resume=True), loop(tmp_path / "whole.nc")
    np.testing.assert_array_equal(resumed["theta"], whole["theta"])
