"""Loops of all kinds: when an iteration ends, and what the loop tells of it."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.errors import LcakitWarning
from tests.support.networks import dense, examples, flat, train
from tests.support.training import OPTIMIZERS


def test_accumulation_gives_one_iteration_per_step(tmp_path):
    model, (x, y) = dense(), examples()
    opt = OPTIMIZERS["sgd"](model.parameters())
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), opt, quiet=True):
        for step in range(3):
            opt.zero_grad()
            for part in range(4):
                index = slice(10 * part, 10 * part + 10)
                (F.cross_entropy(model(x[index]), y[index]) / 4).backward()
            opt.step()
            assert step >= 0
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert ds.sizes["iteration"] == 3
    np.testing.assert_array_equal(ds["theta"][-1], flat(model))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_model_gives_the_same_names_and_identical_training(tmp_path):
    x, y = examples()
    results = []
    for recorded in (True, False):
        torch.manual_seed(5)
        plain = dense()
        model = torch.compile(plain)
        opt = OPTIMIZERS["adam"](model.parameters())
        if recorded:
            with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), opt, quiet=True):
                train(model, opt, x, y, 6)
        else:
            train(model, opt, x, y, 6)
        results.append(flat(plain))
    assert torch.equal(*results)
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert list(ds["tensor"].values) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    np.testing.assert_array_equal(ds["theta"][-1], results[0])


def test_data_parallel_wrapper_and_amp_scaler(tmp_path):
    model = nn.DataParallel(dense())
    x, y = examples()
    opt = OPTIMIZERS["sgd"](model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), opt, quiet=True):
        for _ in range(3):
            opt.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(opt)
            scaler.update()
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert list(ds["tensor"].values) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert ds.sizes["iteration"] == 3
    np.testing.assert_array_equal(ds["theta"][-1], flat(model.module))


class Clipped(torch.optim.SGD):
    """Steps as SGD does, and clips the weights afterwards: torch runs its step hooks in both steps."""

    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.clamp_(-0.1, 0.1)
        return loss


def test_a_step_that_calls_the_step_of_its_base_class_is_one_iteration(tmp_path):
    model, (x, y) = dense(), examples()
    torch.optim.SGD(model.parameters(), lr=0.1)  # from now on SGD.step has torch's hooks itself
    opt = Clipped(model.parameters(), lr=0.1)
    snapshots = [flat(model)]
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), opt, quiet=True):
        train(model, opt, x, y, 5, each=lambda _: snapshots.append(flat(model)))
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert ds.sizes["iteration"] == 5
    np.testing.assert_array_equal(ds["theta"], np.stack(snapshots))


def test_several_optimizers_make_one_iteration(tmp_path):
    model, (x, y) = dense(), examples()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.Adam(model[2].parameters(), lr=0.01)
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), [first, second], quiet=True):
        for _ in range(4):
            F.cross_entropy(model(x), y).backward()
            first.step()
            second.step()
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert ds.sizes["iteration"] == 4
    np.testing.assert_array_equal(ds["theta"][-1], flat(model))


def test_loop_without_optimizer(tmp_path):
    model, (x, y) = dense(), examples()
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), quiet=True) as rec:
        for _ in range(3):
            loss = F.cross_entropy(model(x), y)
            for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
                p.data -= 0.1 * g
            rec.step(batch_loss=loss.detach())
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert ds.sizes["iteration"] == 3
    np.testing.assert_allclose(ds["batch_loss"], ds["loss"][:-1], rtol=1e-6)  # the batch is the whole set


def test_learning_rate_is_the_one_the_step_used(tmp_path):
    model, (x, y) = dense(), examples()
    opt = OPTIMIZERS["sgd"](model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(opt, 1, 0.5)
    state = {"optimizer": opt, "schedule": schedule}
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), state=state, quiet=True) as rec:
        for step in range(3):
            train(model, opt, x, y, step + 1, start=step)
            schedule.step()
            rec.step()
    np.testing.assert_allclose(lk.open_trajectory(tmp_path / "run.nc")["learning_rate"], [0.1, 0.05, 0.025], rtol=1e-6)


def record_start(path, **options):
    """Record a loop of no iteration."""
    with lk.Recorder(path, lk.Objective(dense(), examples()), quiet=True, **options):
        pass


@pytest.mark.parametrize("mode", ["online", "later"])
def test_a_loop_without_a_step_leaves_its_start(tmp_path, mode):
    with pytest.warns(LcakitWarning, match="no step was seen: pass the optimizer"):
        record_start(tmp_path / "run.nc", allocate=mode)
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert (ds.sizes["snapshot"], ds.sizes["iteration"]) == (1, 0)
    report = lk.validate(ds, quiet=True)
    assert [check.name for check in report.checks if check.status != "pass"] == ["length"]


def test_recordings_without_a_step_are_opened_as_runs(tmp_path):
    paths = [tmp_path / "a.nc", tmp_path / "b.nc"]
    for path in paths:
        with pytest.warns(LcakitWarning, match="no iteration"):
            record_start(path)
    for align in ("exact", "shortest"):
        both = lk.open_runs(paths, align=align)
        assert (both.sizes["run"], both.sizes["snapshot"], both.sizes["iteration"]) == (2, 1, 0)
        assert both["theta"].shape == (2, 1, both.sizes["parameter"])
        report = lk.validate(both, quiet=True)
        assert {check.name for check in report.checks if check.status == "fail"} <= {"length", "runs"}


def test_warnings_at_the_end_come_after_the_file(tmp_path):
    with warnings.catch_warnings(), pytest.raises(LcakitWarning, match="no step was seen"):
        warnings.simplefilter("error")
        record_start(tmp_path / "run.nc")
    assert lk.open_trajectory(tmp_path / "run.nc").sizes["snapshot"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.nc"]


def test_losses_of_a_step_that_does_not_come_are_no_mistake(tmp_path):
    model, (x, y) = dense(), examples()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), optimizer, quiet=True) as rec:
        for k in range(10):  # gradients of four batches make a step; two batches are left
            rec.report(k)
            torch.nn.functional.cross_entropy(model(x), y).backward()
            if k % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    np.testing.assert_array_equal(lk.open_trajectory(tmp_path / "run.nc")["batch_loss"], [3, 7])


@pytest.mark.slow
def test_a_loss_reported_after_the_step_is_told(tmp_path):
    model, (x, y) = dense(), examples()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loop(path, late):
        with lk.Recorder(path, lk.Objective(model, (x, y)), optimizer, quiet=True) as rec:
            for k in range(3):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x), y).backward()
                if not late:
                    rec.report(k)
                optimizer.step()
                if late:
                    rec.report(k)
        return lk.open_trajectory(path)["batch_loss"].values

    np.testing.assert_array_equal(loop(tmp_path / "before.nc", late=False), [0, 1, 2])
    with pytest.warns(LcakitWarning, match="one iteration late"):
        np.testing.assert_array_equal(loop(tmp_path / "after.nc", late=True), [np.nan, 0, 1])


def test_steps_are_not_counted_twice(tmp_path):
    model, (x, y) = dense(), examples()
    opt = OPTIMIZERS["sgd"](model.parameters())
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y)), opt, quiet=True) as rec:
        train(model, opt, x, y, 1)
        with pytest.raises(lk.RecordingError, match=r"Drop rec\.step\(\)"):
            rec.step()
    assert lk.open_trajectory(tmp_path / "run.nc").sizes["iteration"] == 1


def test_parts_that_act_after_the_step_are_refused_with_a_watched_optimizer(tmp_path):
    model, data = dense(), examples()
    opt = OPTIMIZERS["sgd"](model.parameters())
    for part in (torch.optim.lr_scheduler.StepLR(opt, 2), torch.amp.GradScaler("cpu")):
        with pytest.raises(lk.RecordingError, match="last line of the loop"):
            lk.Recorder(tmp_path / "run.nc", lk.Objective(model, data), opt, state={"part": part})
    with pytest.raises(lk.RecordingError, match="name 'model'"):
        lk.Recorder(tmp_path / "run.nc", lk.Objective(model, data), opt, state={"model": model})


def test_an_optimizer_of_another_model_is_refused(tmp_path):
    objective = lk.Objective(dense(), examples())
    with pytest.raises(lk.RecordingError, match="no parameter of the objective's model"):
        lk.Recorder(tmp_path / "run.nc", objective, OPTIMIZERS["sgd"](dense().parameters()))
