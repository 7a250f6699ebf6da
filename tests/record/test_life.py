"""How recordings begin and end: without a with block, after errors, left behind, in forked processes and groups."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

import numpy as np
import pytest
import torch
import torch.distributed as dist

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.record.recording import Recording
from lcakit.storage import segments
from lcakit.storage.atomic import Lock
from lcakit.storage.paths import partial_path
from tests.support.networks import dense, examples, flat, train


class Loop:
    """A model, its data and an optimizer, that can be trained further and further."""

    def __init__(self):
        self.model, self.data = dense(), examples()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.objective = lk.Objective(self.model, self.data, workers=1)
        self.steps = 0

    def recorder(self, path, optimizer="given", **options):
        options = {"quiet": True, "block_rows": 2} | options
        return lk.Recorder(path, self.objective, self.optimizer if optimizer == "given" else optimizer, **options)

    def train(self, steps):
        train(self.model, self.optimizer, *self.data, self.steps + steps, start=self.steps)
        self.steps += steps


@pytest.fixture
def loop():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a fork has none of the threads of a pool
    yield Loop()
    torch.set_num_threads(threads)


def iterations(path):
    return lk.open_trajectory(path).sizes["iteration"]


@pytest.mark.slow
def test_start_and_stop_do_what_with_does(tmp_path, loop):
    rec = loop.recorder(tmp_path / "run.nc")
    assert not rec.is_open
    assert rec.start() is rec
    assert rec.is_open
    loop.train(5)
    rec.stop()
    assert not rec.is_open
    other = Loop()
    with other.recorder(tmp_path / "with.nc"):
        other.train(5)
    one, two = (lk.open_trajectory(tmp_path / name) for name in ("run.nc", "with.nc"))
    for name in two.data_vars:
        np.testing.assert_array_equal(one[name].values, two[name].values)
    rec.stop()
    rec.close()
    loop.train(1)
    assert not loop.optimizer._optimizer_step_post_hooks
    assert rec.steps == 5


def test_close_keeps_what_is_there_and_lets_others_go_on(tmp_path, loop, capsys):
    rec = loop.recorder(tmp_path / "run.nc").start()
    loop.train(3)
    rec.close()
    assert "optimizer step 3 is kept" in capsys.readouterr().err
    rec.close()
    assert capsys.readouterr().err == ""
    assert iterations(tmp_path / "run.nc") == 3
    with loop.recorder(tmp_path / "run.nc", resume=True) as again:
        assert again.steps == 2  # whose state was kept
        loop.train(4)
    assert iterations(tmp_path / "run.nc") == 6


def test_a_recorder_that_is_not_open_says_how_to_open_it(tmp_path, loop):
    rec = loop.recorder(tmp_path / "run.nc", optimizer=None)
    with pytest.raises(lk.RecordingError, match=r"rec\.start\(\) before the loop"):
        rec.step()


@pytest.mark.slow
def test_a_recorder_left_behind_is_named_and_lets_go_once_collected(tmp_path, loop):
    left = loop.recorder(tmp_path / "run.nc").start()
    loop.train(2)
    with pytest.raises(lk.RecordingError, match=r"another recorder, in this process\. Call its close\(\)"):
        loop.recorder(tmp_path / "run.nc", overwrite=True).start()
    loop.train(1)  # the one that is open goes on
    assert left.steps == 3
    loop_of_references = [left]
    loop_of_references.append(loop_of_references)
    del left, loop_of_references
    with loop.recorder(tmp_path / "run.nc", overwrite=True):
        loop.train(1)
    assert iterations(tmp_path / "run.nc") == 1
    assert not loop.optimizer._optimizer_step_post_hooks


def test_collected_rows_are_kept(tmp_path, loop):
    rec = loop.recorder(tmp_path / "run.nc", block_rows=50).start()
    loop.train(3)
    del rec
    gc.collect()
    assert iterations(tmp_path / "run.nc") == 3


@pytest.mark.slow
@pytest.mark.parametrize("where", ["header", "first row"])
def test_an_error_while_beginning_leaves_no_lock(tmp_path, loop, monkeypatch, where):
    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if where == "header":
            patch.setattr(segments, "write_header", fails)
        else:
            patch.setattr(segments.SegmentWriter, "append", fails)
        with pytest.raises((lk.RecordingError, OSError), match="No space left") as caught:
            loop.recorder(tmp_path / "run.nc").start()
    Lock(partial_path(tmp_path / "run.nc")).release()
    assert caught.tb  # what held the frames all the while
    with loop.recorder(tmp_path / "run.nc", resume=True):
        loop.train(1)
    assert iterations(tmp_path / "run.nc") == 1


def test_overwriting_removes_nothing_before_the_recording_can_begin(tmp_path, loop, monkeypatch):
    with loop.recorder(tmp_path / "run.nc"):
        loop.train(3)
    monkeypatch.setattr(Recording, "_first_row", lambda *_, **__: (_ for _ in ()).throw(lk.DivergedError("nan")))
    with pytest.raises(lk.DivergedError):
        loop.recorder(tmp_path / "run.nc", overwrite=True).start()
    assert iterations(tmp_path / "run.nc") == 3


def test_the_name_of_the_unfinished_recording_means_the_recording(tmp_path, loop):
    with pytest.raises(KeyboardInterrupt), loop.recorder(tmp_path / "run.nc"):
        loop.train(4)
        raise KeyboardInterrupt
    rec = loop.recorder(tmp_path / "run.nc.partial", resume=True)
    with pytest.raises(lk.RecordingError, match="Pass resume=True"):
        loop.recorder(tmp_path / "run.nc.partial").start()
    with rec:
        assert rec.steps == 4
        loop.train(2)
    assert [path.name for path in tmp_path.iterdir()] == ["run.nc"]
    assert iterations(tmp_path / "run.nc") == 6


# ---- parameters that move after the last step ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", ["online", "later"])
def test_a_move_after_the_last_step_is_one_more_iteration(tmp_path, loop, how):
    rec = loop.recorder(tmp_path / "a.nc", allocate=how).start()
    for _ in range(3):
        loop.train(1)
        with torch.no_grad():
            for p in loop.model.parameters():
                p.clamp_(-0.3, 0.3)
    with pytest.warns(LcakitWarning, match="moved after the last step"):
        rec.stop()
    ds = lk.open_trajectory(tmp_path / "a.nc")
    assert ds["snapshot"].values.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(ds["theta"][-1], flat(loop.model))
    assert float(ds["loss"][-1]) == pytest.approx(loop.objective.loss(), rel=1e-6)
    np.testing.assert_allclose(ds["learning_rate"], [0.1, 0.1, 0.1, np.nan], rtol=1e-6)
    assert lk.validate(ds, quiet=True).ok


def test_steps_of_one_of_two_optimizers_at_the_end_are_recorded(tmp_path):
    model, data = dense(), examples()
    often, seldom = (torch.optim.SGD(model[k].parameters(), lr=0.1) for k in (0, 2))
    rec = lk.Recorder(tmp_path / "run.nc", lk.Objective(model, data), [often, seldom], quiet=True).start()
    for step in range(5):
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        often.step()
        if step % 3 == 0:
            seldom.step()
    with pytest.warns(LcakitWarning, match="by one of several optimizers"):
        rec.stop()
    ds = lk.open_trajectory(tmp_path / "run.nc")
    assert ds.sizes["iteration"] == 3
    np.testing.assert_array_equal(ds["theta"][-1], flat(model))


# ---- processes -------------------------------------------------------------------------------------------------


def forked(work):
    """Run ``work`` in a forked process; return that process."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="no fork")


@pytest.mark.slow
@needs_fork
def test_a_forked_process_records_nothing_and_holds_no_lock(tmp_path, loop):
    with loop.recorder(tmp_path / "run.nc") as rec:
        loop.train(2)

        def child():
            loop.train(3)
            assert not rec.is_open
            rec.stop()
            rec.close()
            time.sleep(60)

        pid = forked(child)
        try:
            loop.train(2)
        finally:
            rec.stop()  # while the child lives
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert iterations(tmp_path / "run.nc") == 4


@pytest.mark.slow
@needs_fork
def test_a_recording_goes_on_while_children_of_the_one_that_died_live(tmp_path, loop):
    ready, tell = os.pipe()

    def dies():
        rec = loop.recorder(tmp_path / "run.nc", block_rows=1).start()
        loop.train(3)
        assert rec.is_open
        while not segments.has_rows(partial_path(tmp_path / "run.nc")):
            time.sleep(0.01)
        os.write(tell, forked(lambda: time.sleep(60)).to_bytes(8, "big"))
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(forked(dies), 0)
    orphan = int.from_bytes(os.read(ready, 8), "big")
    try:
        with loop.recorder(tmp_path / "run.nc", resume=True) as rec:
            assert rec.steps >= 1
            loop.train(1)
    finally:
        os.kill(orphan, signal.SIGKILL)
    assert iterations(tmp_path / "run.nc") == rec.steps


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_rank_of_a_group_records(tmp_path, loop, monkeypatch, rank):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    with loop.recorder(tmp_path / "run.nc"):
        loop.train(2)
    assert [path.name for path in tmp_path.iterdir()] == (["run.nc"] if rank == 0 else [])
    with pytest.raises(lk.RecordingError, match="state of one process, and this loop has 2"):
        loop.recorder(tmp_path / "other.nc", resume=True).start()
