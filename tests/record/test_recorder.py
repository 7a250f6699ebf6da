from __future__ import annotations

import itertools
import random
import shutil
import time
import warnings

import netCDF4
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.experiments.batches import Batches
from lcakit.record import loopstate
from lcakit.record.allocation import allocator
from lcakit.storage import netcdf, segments
from lcakit.storage.paths import partial_path
from tests.support.networks import dense, dropout_net, examples, flat, norm_net, train

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
}


def record(path, make=dense, optimizer="adam", steps=20, data=None, **options):
    torch.manual_seed(5)
    model, (x, y) = make(), data or examples()
    opt = OPTIMIZERS[optimizer](model.parameters())
    with lk.Recorder(path, lk.Objective(model, (x, y), batch_size=25), opt, quiet=True, **options) as rec:
        train(model, opt, x, y, steps, start=rec.steps)
    return model


def assert_same_data(a, b):
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=str(name))
    for name in ("snapshot", "iteration"):
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("make", [dense, dropout_net, norm_net], ids=["dense", "dropout", "batchnorm"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_is_bit_identical_and_recorded_exactly(tmp_path, make, optimizer):
    recorded = record(tmp_path / "run.nc", make, optimizer)
    torch.manual_seed(5)
    model, (x, y) = make(), examples()
    snapshots = [flat(model)]
    train(
        model,
        OPTIMIZERS[optimizer](model.parameters()),
        x,
        y,
        20,
        each=lambda _: snapshots.append(flat(model)),
    )
    for name, value in model.state_dict().items():  # running statistics too
        assert torch.equal(value, recorded.state_dict()[name]), name
    ds = lk.open_trajectory(tmp_path / "run.nc")
    np.testing.assert_array_equal(ds["theta"], torch.stack(snapshots))
    residual = ds["lca"].astype(float).sum("parameter") - np.diff(ds["loss"])
    np.testing.assert_allclose(residual, ds["residual"], atol=1e-7)
    assert abs(float(ds["residual"].sum())) < 0.01 * abs(float(ds["loss"][-1] - ds["loss"][0]))


def test_global_generators_go_on_as_without_recorder(tmp_path):
    record(tmp_path / "run.nc", dropout_net)
    after = torch.rand(3), np.random.get_state()[1]
    torch.manual_seed(5)
    model, (x, y) = dropout_net(), examples()
    train(model, OPTIMIZERS["adam"](model.parameters()), x, y, 20)
    assert torch.equal(torch.rand(3), after[0])
    assert np.array_equal(np.random.get_state()[1], after[1])


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


def test_later_equals_online(tmp_path):
    record(tmp_path / "online.nc")
    record(tmp_path / "later.nc", allocate="later")
    assert_same_data(lk.open_trajectory(tmp_path / "online.nc"), lk.open_trajectory(tmp_path / "later.nc"))


def test_block_length_changes_nothing(tmp_path):
    record(tmp_path / "one.nc", block_rows=1)
    record(tmp_path / "many.nc", block_rows=7)
    assert_same_data(lk.open_trajectory(tmp_path / "one.nc"), lk.open_trajectory(tmp_path / "many.nc"))


def test_thinning_keeps_the_last_snapshot_and_the_total(tmp_path):
    model = record(tmp_path / "thin.nc", every=6)
    record(tmp_path / "all.nc")
    thin, full = lk.open_trajectory(tmp_path / "thin.nc"), lk.open_trajectory(tmp_path / "all.nc")
    assert thin["snapshot"].values.tolist() == [0, 6, 12, 18, 20]
    assert thin["iteration"].values.tolist() == [0, 6, 12, 18]
    np.testing.assert_array_equal(thin["theta"], full["theta"].sel(snapshot=thin["snapshot"]))
    np.testing.assert_array_equal(thin["theta"][-1], flat(model))
    assert float(thin["lca"].sum()) == pytest.approx(float(full["loss"][-1] - full["loss"][0]), abs=1e-3)


def test_keep_and_classes_choose_the_variables(tmp_path):
    record(tmp_path / "few.nc", keep=("lca",), classes=None)
    few = lk.open_trajectory(tmp_path / "few.nc")
    assert "theta" not in few
    assert "gradient" not in few
    assert "lca_unit_class" not in few
    record(tmp_path / "all.nc", classes="parameter")
    np.testing.assert_allclose(few["lca"], lk.open_trajectory(tmp_path / "all.nc")["lca"], atol=1e-7)


def test_learning_rate_and_provenance_are_stored(tmp_path):
    model, (x, y) = dense(), examples()
    opt = OPTIMIZERS["sgd"](model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(opt, 2, 0.5)
    objective = lk.Objective(model, (x, y), class_names=["a", "b", "<b>c</b>"])
    config = {"what": "a test", "lr": [0.1, 0.05]}
    with lk.Recorder(tmp_path / "run.nc", objective, opt, quiet=True, config=config, seed=7):
        train(model, opt, x, y, 4, each=lambda _: schedule.step())
    ds = lk.open_trajectory(tmp_path / "run.nc")
    np.testing.assert_allclose(ds["learning_rate"], [0.1, 0.1, 0.05, 0.05], rtol=1e-6)
    assert ds.attrs["seed"] == 7
    assert ds.attrs["data_fingerprint"] == objective.data_fingerprint
    assert '"a test"' in str(ds["config"].values)
    assert list(ds["class"].values) == ["a", "b", "<b>c</b>"]


def test_regression_without_classes(tmp_path):
    torch.manual_seed(0)
    model, x = nn.Linear(3, 2), torch.randn(40, 3)
    y = x[:, :2] * 2
    opt = OPTIMIZERS["sgd"](model.parameters())
    with lk.Recorder(tmp_path / "run.nc", lk.Objective(model, (x, y), loss="mse"), opt, quiet=True):
        for _ in range(5):
            opt.zero_grad()
            F.mse_loss(model(x), y).backward()
            opt.step()
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert "lca_unit_class" not in ds
    assert ds["lca"].attrs["units"] == "squared error"
    np.testing.assert_allclose(ds["lca"].sum("parameter"), np.diff(ds["loss"]), atol=1e-6)


# ---- errors ----------------------------------------------------------------------------------------------------


def test_an_existing_file_is_never_replaced_unasked(tmp_path):
    path = tmp_path / "run.nc"
    record(path, steps=3)
    with pytest.raises(lk.RecordingError, match="exists already"):
        record(path)
    with pytest.raises(lk.RecordingError, match="is finished"):
        record(path, resume=True)
    assert lk.open_trajectory(path).sizes["iteration"] == 3
    record(path, steps=5, overwrite=True)
    assert lk.open_trajectory(path).sizes["iteration"] == 5


class Interrupted(Exception):
    pass


def interrupt(path, steps=20, at=13, optimizer="adam", **options):
    torch.manual_seed(5)
    model, (x, y) = dropout_net(), examples()
    opt = OPTIMIZERS[optimizer](model.parameters())

    def stop(step):
        if step == at:
            raise Interrupted

    with lk.Recorder(path, lk.Objective(model, (x, y), batch_size=25), opt, quiet=True, **options) as rec:
        train(model, opt, x, y, steps, start=rec.steps, each=stop)


def test_an_error_in_the_loop_keeps_everything_up_to_it(tmp_path, capsys):
    path = tmp_path / "run.nc"
    with pytest.raises(Interrupted):
        interrupt(path)
    assert "resume=True" in capsys.readouterr().err
    partial = lk.open_trajectory(path)
    assert partial.attrs["partial"] == 1
    assert partial.sizes["iteration"] == 14
    record(tmp_path / "whole.nc", dropout_net)
    whole = lk.open_trajectory(tmp_path / "whole.nc")
    np.testing.assert_array_equal(partial["lca"], whole["lca"][:14])
    lk.finish(path)
    assert "partial" not in lk.open_trajectory(path).attrs
    assert lk.open_trajectory(path).sizes["iteration"] == 14


@pytest.mark.parametrize("mode", ["online", "later"])
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_resumed_equals_uninterrupted(tmp_path, optimizer, mode):
    path = tmp_path / "run.nc"
    with pytest.raises(Interrupted):
        interrupt(path, optimizer=optimizer, block_rows=4, allocate=mode)
    model = record(path, dropout_net, optimizer, resume=True, block_rows=4, allocate=mode)
    whole = record(tmp_path / "whole.nc", dropout_net, optimizer)
    assert_same_data(lk.open_trajectory(path), lk.open_trajectory(tmp_path / "whole.nc"))
    assert torch.equal(flat(model), flat(whole))
    assert not partial_path(path).exists()


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("mode", ["online", "later"])
def test_interrupted_inside_an_iteration_resumes_exactly(tmp_path, every, mode):
    """A batch is drawn but no step taken: the loop's state at that moment is that of no snapshot."""

    def loop(path, stop=None, **options):
        torch.manual_seed(5)
        model, (x, y) = dropout_net(), examples()
        opt, batches = OPTIMIZERS["adam"](model.parameters()), Batches(len(x), 10, seed=2)
        options |= {"state": {"batches": batches}, "quiet": True, "block_rows": 2, "every": every, "allocate": mode}
        with lk.Recorder(path, lk.Objective(model, (x, y)), opt, **options) as rec:
            for step in range(rec.steps, 20):
                index = next(batches)
                if step == stop:
                    raise KeyboardInterrupt
                opt.zero_grad()
                F.cross_entropy(model(x[index]), y[index]).backward()
                opt.step()

    for stop in (7, 13, 17):
        with pytest.raises(KeyboardInterrupt):
            loop(tmp_path / "run.nc", stop, resume=True)
    loop(tmp_path / "run.nc", resume=True)
    loop(tmp_path / "whole.nc")
    assert_same_data(lk.open_trajectory(tmp_path / "run.nc"), lk.open_trajectory(tmp_path / "whole.nc"))


def test_resume_restores_frozen_parameters_for_the_objective_too(tmp_path):
    def frozen(seed):
        model = dense(seed=seed)
        model[0].requires_grad_(False)
        return model

    path = tmp_path / "run.nc"
    model, (x, y) = frozen(0), examples()
    opt = OPTIMIZERS["sgd"](model[2].parameters())
    with pytest.raises(Interrupted), lk.Recorder(path, lk.Objective(model, (x, y)), opt, quiet=True, block_rows=1):
        train(model, opt, x, y, 4)
        raise Interrupted
    model = frozen(1)
    opt = OPTIMIZERS["sgd"](model[2].parameters())
    with lk.Recorder(path, lk.Objective(model, (x, y)), opt, quiet=True, resume=True) as rec:
        train(model, opt, x, y, 8, start=rec.steps)
    ds = lk.open_trajectory(path)
    assert float(ds["loss"][-1]) == pytest.approx(lk.Objective(model, (x, y)).loss(), rel=1e-6)


def test_generators_come_back_between_the_halves_of_a_pair():
    random.seed(1)
    np.random.seed(1)
    random.gauss(0, 1)
    np.random.randn()  # both keep the second number of a pair
    state = loopstate.unpack(loopstate.pack(0, {}))
    drawn = []
    for _ in range(2):
        drawn.append((random.gauss(0, 1), np.random.randn(), float(torch.rand(1))))
        assert loopstate.restore(state, {}) == 0
    assert drawn[0] == drawn[1]


def test_a_loop_with_fewer_parts_is_not_resumed():
    parts = {"a": torch.Generator(), "b": torch.Generator()}
    state = loopstate.unpack(loopstate.pack(3, parts))
    assert loopstate.restore(state, parts) == 3
    with pytest.raises(lk.RecordingError, match=r"state of \['a', 'b'\], this loop has \['a'\]"):
        loopstate.restore(state, {"a": parts["a"]})


def test_overwriting_recording_that_was_interrupted_can_be_resumed(tmp_path):
    path = tmp_path / "run.nc"
    record(path, dropout_net, steps=3)
    with pytest.raises(Interrupted):
        interrupt(path, overwrite=True, block_rows=4)
    assert lk.open_trajectory(path).sizes["iteration"] == 14
    record(path, dropout_net, resume=True)
    record(tmp_path / "whole.nc", dropout_net)
    assert_same_data(lk.open_trajectory(path), lk.open_trajectory(tmp_path / "whole.nc"))


def test_a_scheduler_resumes_exactly_with_step_as_the_last_line(tmp_path):
    def loop(path, stop=None, **options):
        model, (x, y) = dense(), examples()
        opt = OPTIMIZERS["sgd"](model.parameters())
        schedule = torch.optim.lr_scheduler.StepLR(opt, 3, 0.5)
        state = {"optimizer": opt, "schedule": schedule}
        with lk.Recorder(path, lk.Objective(model, (x, y)), state=state, quiet=True, block_rows=1, **options) as rec:
            for step in range(rec.steps, 12):
                if step == stop:
                    raise Interrupted
                train(model, opt, x, y, step + 1, start=step)
                schedule.step()
                rec.step()

    with pytest.raises(Interrupted):
        loop(tmp_path / "run.nc", stop=7)
    loop(tmp_path / "run.nc", resume=True)
    loop(tmp_path / "whole.nc")
    assert_same_data(lk.open_trajectory(tmp_path / "run.nc"), lk.open_trajectory(tmp_path / "whole.nc"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rule": "boole"}, "rule: stored 'rk4', now 'boole'"),
        ({"classes": None}, "classes: stored 'unit', now 'none'"),
        ({"data": examples(seed=8)}, "data_fingerprint"),
        ({"make": norm_net}, "model_fingerprint"),
        ({"optimizer": "sgd"}, "optimizers: stored 'Adam', now 'SGD'"),
        ({"config": {"learning_rate": 0.5}}, "learning_rate: stored 0.1, now 0.5"),
    ],
)
def test_resume_with_something_else_is_refused_naming_it(tmp_path, change, says):
    path = tmp_path / "run.nc"
    with pytest.raises(Interrupted):
        interrupt(path, config={"learning_rate": 0.1, "command": "one"})
    with pytest.raises(lk.RecordingError, match=says):
        record(path, **({"make": dropout_net, "config": {"command": "other"}} | change), resume=True)
    assert lk.open_trajectory(path).sizes["iteration"] == 14


def test_the_loop_of_the_readme_goes_on_in_the_middle_of_an_epoch(tmp_path):
    x, y = examples(60)

    def run(path, stop=None):
        torch.manual_seed(3)
        model = dropout_net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        order = torch.Generator()
        loader = DataLoader(TensorDataset(x, y), batch_size=10, shuffle=True, generator=order)
        objective = lk.Objective(model, (x, y), workers=1)
        with lk.Recorder(path, objective, optimizer, resume=True, quiet=True, block_rows=4) as rec:
            while rec.steps < 3 * len(loader):
                epoch, done = divmod(rec.steps, len(loader))
                order.manual_seed(epoch)
                for a, b in itertools.islice(loader, done, None):
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(model(a), b).backward()
                    if rec.steps + 1 == stop:
                        raise Interrupted
                    optimizer.step()
        return lk.open_trajectory(path)

    with pytest.raises(Interrupted):
        run(tmp_path / "run.nc", stop=11)
    assert lk.open_trajectory(tmp_path / "run.nc").sizes["iteration"] % 6, "the test needs a stop inside an epoch"
    resumed, whole = run(tmp_path / "run.nc"), run(tmp_path / "whole.nc")
    for name in ("theta", "lca", "loss"):
        np.testing.assert_array_equal(resumed[name], whole[name])


def test_resume_that_rounds_otherwise_is_told(tmp_path):
    data, path = examples(60), tmp_path / "run.nc"

    def stopped(batch_size="auto", **how):
        model = dense()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        objective = lk.Objective(model, data, workers=1, batch_size=batch_size)
        with (
            pytest.raises(ZeroDivisionError),
            lk.Recorder(path, objective, optimizer, quiet=True, block_rows=1, **how) as rec,
        ):
            train(model, optimizer, *data, rec.steps + 3, start=rec.steps)
            raise ZeroDivisionError

    stopped()
    stopped(resume=True)  # silent: warnings are errors in these tests
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(LcakitWarning, match=f"threads {threads}, now {threads + 1}"):
            stopped(resume=True)
    finally:
        torch.set_num_threads(threads)
    with pytest.warns(LcakitWarning, match=r"evaluation_batch_size 60, now 30: .* rounded otherwise\. Continue"):
        stopped(batch_size=30, resume=True)


def test_unfinished_recording_is_refused_without_resume(tmp_path):
    with pytest.raises(Interrupted):
        interrupt(tmp_path / "run.nc")
    with pytest.raises(lk.RecordingError, match="unfinished recording"):
        record(tmp_path / "run.nc", dropout_net)


def test_divergence_names_the_iteration_and_keeps_what_was_before(tmp_path):
    model, (x, y) = dense(activation=nn.Identity), examples()
    opt = torch.optim.SGD(model.parameters(), lr=1e-2)

    def explode(step):
        if step == 6:
            opt.param_groups[0]["lr"] = 1e30

    path = tmp_path / "run.nc"
    with (
        pytest.raises(lk.DivergedError, match=r"iteration 7 \(optimizer step 8\)"),
        lk.Recorder(path, lk.Objective(model, (x, y)), opt, quiet=True),
    ):
        train(model, opt, x, y, 20, each=explode)
    ds = lk.open_trajectory(path)
    assert ds.sizes["iteration"] == 7
    assert np.isfinite(ds["lca"]).all()


def test_full_disk_is_an_error_and_finished_segments_stay(tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    real, written = segments.write_arrays, []

    def full(*args, **kwargs):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(segments, "write_arrays", full)
    with pytest.raises(lk.RecordingError, match="No space left"):
        record(path, block_rows=3)
    monkeypatch.undo()
    assert lk.open_trajectory(path).sizes["iteration"] == 6
    record(path, resume=True, block_rows=3)
    record(tmp_path / "whole.nc")
    assert_same_data(lk.open_trajectory(path), lk.open_trajectory(tmp_path / "whole.nc"))


def test_full_disk_while_merging_keeps_the_segments(tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    monkeypatch.setattr(
        netcdf, "write_window", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(lk.RecordingError, match="No space left"):
        record(path)
    monkeypatch.undo()
    assert not path.exists()
    assert lk.open_trajectory(path).sizes["iteration"] == 20
    lk.finish(path)
    assert lk.open_trajectory(path).sizes["iteration"] == 20


def test_budget_is_checked_before_anything_is_written(tmp_path):
    with pytest.raises(lk.LcakitError, match=r"needs 15\.1 KB, the budget is 2 KB"):
        record(tmp_path / "run.nc", budget="2 KB", n_iterations=20)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep": ("weights",)}, "theta"),
        ({"keep": "theta"}, "sequence"),
        ({"allocate": "never"}, "online"),
        ({"allocate": "later", "keep": ("lca",)}, "must include"),
        ({"every": 0}, "at least 1"),
        ({"path": ""}, "name of the file is empty"),
        ({"path": None}, "must be a str or a Path, got NoneType"),
        ({"every": 2.5}, "every must be a whole number"),
        ({"n_iterations": 1.5}, "n_iterations must be a whole number"),
        ({"compression": "lzma"}, "unknown compression 'lzma'.*zlib"),
        ({"config": {"a": 1, "b": object()}}, r"config\['b'\] cannot be stored"),
        ({"budget": "1 GB"}, "n_iterations"),
        ({"resume": True, "overwrite": True}, "one of them"),
        ({"state": {"x": object()}}, "state_dict"),
    ],
)
def test_bad_options_are_named(tmp_path, options, says):
    with pytest.raises((ValueError, lk.RecordingError), match=says):
        record(**({"path": tmp_path / "run.nc"} | options))
    assert not list(tmp_path.iterdir())


def test_two_recorders_cannot_write_one_recording(tmp_path):
    path = tmp_path / "run.nc"
    model, (x, y) = dense(), examples()
    with lk.Recorder(path, lk.Objective(model, (x, y)), quiet=True, block_rows=1) as rec:
        rec.step()
        while not segments.has_rows(partial_path(path)):
            time.sleep(0.01)
        second = lk.Recorder(path, lk.Objective(model, (x, y)), quiet=True, resume=True)
        replacing = lk.Recorder(path, lk.Objective(model, (x, y)), quiet=True, overwrite=True)
        for intrude in (second.__enter__, replacing.__enter__, lambda: lk.finish(path)):
            with pytest.raises(lk.RecordingError, match="being written by another recorder"):
                intrude()
    assert lk.open_trajectory(path).sizes["iteration"] == 1


def test_any_failure_of_the_writer_reaches_the_loop(tmp_path, monkeypatch):
    def no_memory(*_, **__):
        raise MemoryError("no memory")

    monkeypatch.setattr(segments, "write_arrays", no_memory)
    with pytest.raises(lk.RecordingError, match="no memory"):
        record(tmp_path / "run.nc", block_rows=1)


def test_blocks_stay_within_their_bytes(tmp_path):
    rows = {"loss": 1.0, "snapshot": 0}
    writer = segments.SegmentWriter(tmp_path / "run.nc.partial", xr.Dataset(), block_bytes=10_000)
    writer.append(rows, {})
    for step in range(20):
        writer.append(rows, {"lca": np.zeros(600, np.float32), "iteration": step})
    writer.close()
    sizes = [part["lca"].shape[0] for part in map(segments.open_segment, segments.segment_paths(writer.directory))]
    assert sizes == [4] * 5


def test_a_block_is_closed_when_it_is_old(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(segments.time, "monotonic", lambda: now[0])
    rows = {"loss": 1.0, "snapshot": 0}
    writer = segments.SegmentWriter(tmp_path / "run.nc.partial", xr.Dataset(), block_seconds=60.0)
    writer.append(rows, {})
    for step in range(6):
        now[0] += 25.0
        writer.append(rows, {"residual": 0.0, "iteration": step})
    writer.close()
    paths = segments.segment_paths(writer.directory)
    assert [segments.open_segment(path)["iteration"].shape[0] for path in paths] == [3, 3]


def test_going_back_passes_all_blocks_without_statistics(tmp_path):
    for number in range(4):
        rows = [({}, {"iteration": 2 * number + k}) for k in range(2)]
        running = (lambda: [("iterations", np.array([4]))]) if number == 1 else None
        segments.write_rows(tmp_path / f"{number:06d}.npz", rows, 2, running)
    segments.go_back_to_running(tmp_path)
    assert [path.name for path in segments.segment_paths(tmp_path)] == ["000000.npz", "000001.npz"]


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


def test_later_keeps_what_online_keeps(tmp_path):
    options = {"keep": ("theta", "lca"), "compression": "zlib"}
    record(tmp_path / "later.nc", allocate="later", **options)
    record(tmp_path / "online.nc", **options)
    assert_same_data(lk.open_trajectory(tmp_path / "online.nc"), lk.open_trajectory(tmp_path / "later.nc"))
    assert netCDF4.Dataset(tmp_path / "later.nc")["lca"].filters()["zlib"]


@pytest.mark.parametrize("mode", ["online", "later"])
def test_a_loop_without_a_step_leaves_its_start(tmp_path, mode):
    with pytest.warns(LcakitWarning, match="no step was seen: pass the optimizer"):
        record(tmp_path / "run.nc", steps=0, allocate=mode)
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert (ds.sizes["snapshot"], ds.sizes["iteration"]) == (1, 0)
    assert lk.validate(ds, quiet=True).ok


def test_recordings_without_a_step_are_opened_as_runs(tmp_path):
    paths = [tmp_path / "a.nc", tmp_path / "b.nc"]
    for path in paths:
        with pytest.warns(LcakitWarning, match="no iteration"):
            record(path, steps=0)
    for align in ("exact", "shortest"):
        both = lk.open_runs(paths, align=align)
        assert (both.sizes["run"], both.sizes["snapshot"], both.sizes["iteration"]) == (2, 1, 0)
        assert both["theta"].shape == (2, 1, both.sizes["parameter"])
        assert lk.validate(both, quiet=True).ok


def test_warnings_at_the_end_come_after_the_file(tmp_path):
    with warnings.catch_warnings(), pytest.raises(LcakitWarning, match="no step was seen"):
        warnings.simplefilter("error")
        record(tmp_path / "run.nc", steps=0)
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


def test_accuracies_of_an_older_version_do_not_keep_a_regression_from_opening(tmp_path, monkeypatch):
    data = (x := torch.randn(20, 5), x.sum(1, keepdim=True))

    def run(steps):
        torch.manual_seed(1)
        model = nn.Linear(5, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        objective = lk.Objective(model, data, loss="mse", workers=1)
        path = tmp_path / "run.nc"
        with lk.Recorder(path, objective, optimizer, resume=True, quiet=True, block_rows=2) as rec:
            while rec.steps < steps:
                optimizer.zero_grad()
                (model(data[0]) - data[1]).square().mean().backward()
                optimizer.step()
            if steps < 8:
                raise Interrupted
        return lk.open_trajectory(path)

    rows = allocator.snapshot_row
    with monkeypatch.context() as older:  # which stored a NaN
        older.setattr(allocator, "snapshot_row", lambda *given: rows(*given) | {"accuracy": float("nan")})
        with pytest.raises(Interrupted):
            run(4)
    assert np.isnan(lk.open_trajectory(tmp_path / "run.nc")["accuracy"]).all()
    ds = run(8)
    assert ds.sizes["iteration"] == 8
    assert "accuracy" not in ds


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


def test_relative_path_survives_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    model, (x, y) = dense(), examples()
    opt = OPTIMIZERS["sgd"](model.parameters())
    with lk.Recorder("new folder/run.nc", lk.Objective(model, (x, y)), opt, quiet=True, block_rows=1):
        monkeypatch.chdir(tmp_path / "elsewhere")
        train(model, opt, x, y, 3)
    assert lk.open_trajectory(tmp_path / "new folder" / "run.nc").sizes["iteration"] == 3


def test_a_place_that_cannot_be_written_is_named_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    objective = lk.Objective(dense(), examples())
    with (
        pytest.raises(lk.RecordingError, match="Choose another place"),
        lk.Recorder(tmp_path / "file" / "run.nc", objective),
    ):
        pass
    assert objective.evaluations == 0


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


def test_estimate_is_the_size_of_the_file(tmp_path):
    model = record(tmp_path / "run.nc", steps=50, classes="parameter")
    objective = lk.Objective(model, examples())
    found = lk.estimate(objective, 50, classes="parameter")
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert found.bytes_by_variable == {name: ds[name].nbytes for name in found.bytes_by_variable}
    assert set(found.bytes_by_variable) == {"theta", "gradient", "lca", "lca_unit_class", "lca_class"}
    assert found.gradient_evaluations == 101
    assert lk.estimate(model, 50, n_classes=3).n_parameters == 53
