"""Recordings that were interrupted: what stays, and how they go on."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.experiments.batches import Batches
from lcakit.record import loopstate
from lcakit.record.allocation import allocator
from lcakit.storage.paths import partial_path
from tests.support.networks import dense, dropout_net, examples, flat, norm_net, train
from tests.support.training import OPTIMIZERS, Interrupted, assert_same_data, interrupt, record


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_overwriting_recording_that_was_interrupted_can_be_resumed(tmp_path):
    path = tmp_path / "run.nc"
    record(path, dropout_net, steps=3)
    with pytest.raises(Interrupted):
        interrupt(path, overwrite=True, block_rows=4)
    assert lk.open_trajectory(path).sizes["iteration"] == 14
    record(path, dropout_net, resume=True)
    record(tmp_path / "whole.nc", dropout_net)
    assert_same_data(lk.open_trajectory(path), lk.open_trajectory(tmp_path / "whole.nc"))


@pytest.mark.slow
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


@pytest.mark.sampled
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


@pytest.mark.slow
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


@pytest.mark.slow
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
