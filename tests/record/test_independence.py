"""The loss is a function of θ: what else moves it stops a recording, or is refused before it begins."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import lcakit as lk
from lcakit.errors import LcakitWarning
from tests.support.networks import dense, examples, flat, norm_net, train


class Scaled(nn.Module):
    """A linear layer, a buffer that scales its output, and one that only counts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(6, 3)
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.calls += 1
        return self.fc(x) * self.scale


class Teacher(nn.Module):
    """A layer that learns, and a slow copy of it that the output depends on."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fast, self.slow = nn.Linear(6, 3), nn.Linear(6, 3).requires_grad_(False)

    def forward(self, x):
        return self.fast(x) + self.slow(x)


def record(path, model, each=None, steps=5, optimizer=None, **options):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.2)
    objective = lk.Objective(model, examples())
    with lk.Recorder(path, objective, optimizer, quiet=True, **options):
        train(model, optimizer, *examples(), steps, each=each)
    return lk.open_trajectory(path)


def at(step, change):
    return lambda now: change() if now == step else None


def unfreeze(model):
    model[0].requires_grad_(True)


def grow(model):
    model.extra = nn.Parameter(torch.zeros(2))


def replace(model):
    model[2] = nn.Linear(5, 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (unfreeze, r"'0\.weight' learns now"),
        (grow, "'extra' is there now and was not"),
        (replace, "parameters were replaced since the objective was made"),
    ],
)
@pytest.mark.parametrize("how", ["online", "later"])
def test_parameters_that_come_or_begin_to_learn_stop_the_recording(tmp_path, change, says, how):
    model = dense()
    model[0].requires_grad_(False)
    with pytest.raises(lk.LcakitError, match=says):
        record(tmp_path / "run.nc", model, at(2, lambda: change(model)), allocate=how)
    assert lk.open_trajectory(tmp_path / "run.nc").sizes.get("snapshot") == 4  # all before is kept


@pytest.mark.slow
def test_what_is_frozen_for_a_while_is_part_of_theta_where_the_objective_knew_it(tmp_path):
    model, data = dense(), examples()
    objective = lk.Objective(model, data)
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    with lk.Recorder(tmp_path / "run.nc", objective, optimizer, quiet=True):
        train(model, optimizer, *data, 6, each=at(2, lambda: unfreeze(model)))
    ds = lk.open_trajectory(tmp_path / "run.nc")
    np.testing.assert_array_equal(ds["theta"][-1], flat(model))
    body = (ds["layer_index"] == 0).values
    assert not ds["lca"][:3, body].any()
    assert ds["lca"][3:, body].any()
    assert lk.validate(ds, quiet=True).ok


@pytest.mark.slow
@pytest.mark.parametrize("how", ["online", "later"])
def test_a_buffer_that_only_counts_is_let_alone(tmp_path, how):
    model = Scaled()
    ds = record(tmp_path / "run.nc", model, allocate=how)
    assert ds.sizes["iteration"] == 5
    assert model.calls == 5


@pytest.mark.slow
@pytest.mark.parametrize("how", ["online", "later"])
def test_a_buffer_that_moves_the_loss_is_booked(tmp_path, how):
    model = Scaled()
    ds = record(tmp_path / "run.nc", model, at(2, lambda: model.scale.mul_(1.5)), allocate=how)
    assert np.flatnonzero(ds["buffer_change"]).size == 1
    change = ds["loss"][-1] - ds["loss"][0]
    np.testing.assert_allclose(ds["lca"].sum() + ds["buffer_change"].sum(), change, atol=2e-3)


@pytest.mark.parametrize("way", ["in place", "behind torch's back", "exchanged"])
def test_a_slow_copy_that_the_loss_depends_on_stops_the_recording(tmp_path, way):
    model = Teacher()

    def follow(_):
        for slow, fast in zip(model.slow.parameters(), model.fast.parameters(), strict=True):
            mean = 0.9 * slow.detach() + 0.1 * fast.detach()
            if way == "in place":
                with torch.no_grad():
                    slow.copy_(mean)
            elif way == "exchanged":
                slow.data = mean
            else:
                slow.data.copy_(mean)

    with pytest.raises(lk.RecordingError, match=r"'slow\.(weight|bias)'"):
        record(tmp_path / "run.nc", model, follow)


def test_what_moved_between_objective_and_recording_is_taken_as_it_is(tmp_path):
    model, data = Scaled(), examples()
    objective = lk.Objective(model, data)
    model.scale.mul_(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lk.Recorder(tmp_path / "run.nc", objective, optimizer, quiet=True):
        train(model, optimizer, *data, 2)
    loss = F.cross_entropy(model(data[0]), data[1]).detach()
    assert float(lk.open_trajectory(tmp_path / "run.nc")["loss"][-1]) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.slow
def test_running_statistics_that_evaluations_do_not_use_are_let_alone(tmp_path):
    assert record(tmp_path / "run.nc", norm_net()).sizes["iteration"] == 5


# ---- what the loss depends on, before anything begins ----------------------------------------------------------


def test_a_loss_with_parameters_of_its_own_is_refused():
    model, scale = dense(), nn.Parameter(torch.zeros(7))
    losses = {
        "its own": lambda out, y: F.cross_entropy(out, y, reduction="none") * scale.exp().mean(),
        "a penalty": lambda out, y: F.cross_entropy(out, y, reduction="none") + model[0].weight.square().sum(),
    }
    for loss, shape in zip(losses.values(), (r"\(7,\)", r"\(5, 6\)"), strict=True):
        with pytest.raises(
            lk.ObjectiveError, match=rf"tensors that learn and are no parameters of the model: of shape {shape}"
        ):
            lk.Objective(model, examples(), loss=loss)


def test_a_forward_that_was_replaced_and_reads_the_live_model_is_refused():
    model = dense()
    live = model.forward
    model.forward = lambda x: live(x) * 2
    with pytest.raises(lk.ObjectiveError, match="a patched forward method"):
        lk.Objective(model, examples())


# ---- what is no reason to refuse, and what evaluations leave out ------------------------------------------------


def test_monitors_do_not_run_in_evaluations(tmp_path):
    model, seen = dense(), []

    class Monitor:
        """What cannot be copied, and need not be."""

        lock = None

        def __init__(self):
            self.lock = threading.Lock()

        def watch(self, module, inputs, output):
            seen.append(output)

    model[1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    model[0].register_forward_hook(Monitor().watch)
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    model[2].register_full_backward_hook(lambda *_: seen.append(None))
    record(tmp_path / "run.nc", model)
    assert len(seen) == 4 * 5


def test_a_hook_that_may_return_an_output_is_told():
    model = dense()

    def double(module, inputs, output):
        return 2 * output

    model[0].register_forward_hook(double)
    with pytest.warns(LcakitWarning, match=r"double on '0' does not run when the loss is evaluated"):
        lk.Objective(model, examples(), workers=1)


class Doubling:
    def __call__(self, module, inputs, output):
        return 2 * output


def scaled(factor, module, inputs, output):
    return factor * output


CHANGING = {
    "a product": lambda module, inputs, output: 2 * output,
    "a call": lambda module, inputs, output: torch.relu(output),
    "a method": lambda module, inputs, output: output.clamp(min=0),
    "a tuple": lambda module, inputs, output: (output,)[0],
    "an object": Doubling(),
    "a partial function": functools.partial(scaled, 2),
}


@pytest.mark.parametrize("kind", CHANGING)
def test_every_kind_of_hook_that_may_change_an_output_is_told(kind):
    model = dense()
    model[0].register_forward_hook(CHANGING[kind])
    with pytest.warns(LcakitWarning, match="does not run when the loss is evaluated"):
        lk.Objective(model, examples(), workers=1)


def test_hooks_that_watch_are_not_told():
    model, seen = dense(), []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.mean()))
    model[0].register_forward_hook(lambda module, inputs, output: print(output.shape))
    model[0].register_forward_hook(functools.partial(lambda where, *_: where.extend([1]), seen))
    lk.Objective(model, examples(), workers=1)
    assert not seen


def old_weight_norm(model):
    nn.utils.weight_norm(model[0])


def pruned(model):
    prune.l1_unstructured(model[0], "weight", 0.5)


def kept_activations(model):
    model[0].register_forward_hook(lambda module, inputs, output: setattr(module, "kept", {"last": [output]}))


@pytest.mark.sampled
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("change", [old_weight_norm, pruned, kept_activations])
def test_models_that_hold_results_of_a_pass_are_copied(tmp_path, change):
    model, data = dense(), examples()
    change(model)
    model(data[0])
    loss = float(F.cross_entropy(model(data[0]), data[1]).detach())
    ds = record(tmp_path / "run.nc", model)
    assert float(ds["loss"][0]) == pytest.approx(loss, rel=1e-5)
    assert float(ds["loss"][-1]) == pytest.approx(float(F.cross_entropy(model(data[0]), data[1]).detach()), rel=1e-5)
    np.testing.assert_array_equal(ds["theta"][-1], flat(model))
    np.testing.assert_allclose(ds["lca"].sum("parameter"), np.diff(ds["loss"]), atol=1e-3)


class Opaque(torch.optim.SGD):
    """An optimizer whose state cannot be saved."""

    def state_dict(self):
        return super().state_dict() | {"handle": threading.Lock()}


@pytest.mark.slow
def test_an_optimizer_whose_state_cannot_be_saved_is_recorded_without(tmp_path):
    model = dense()
    optimizer = Opaque(model.parameters(), lr=0.1)
    with pytest.warns(LcakitWarning, match="recorded without its state") as told:
        ds = record(tmp_path / "run.nc", model, optimizer=optimizer)
    assert ds.sizes["iteration"] == 5
    assert len(told) == 1

    def interrupt():
        raise KeyboardInterrupt

    for resume, error, says in ((False, KeyboardInterrupt, None), (True, lk.RecordingError, "cannot be continued")):
        with pytest.warns(LcakitWarning, match="recorded without"), pytest.raises(error, match=says):
            record(tmp_path / "other.nc", model, at(2, interrupt), optimizer=optimizer, resume=resume)
    assert lk.open_trajectory(tmp_path / "other.nc").sizes["iteration"] == 3
