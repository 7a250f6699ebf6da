"""Segments while they are written."""

from __future__ import annotations

import errno
import time

import numpy as np
import pytest

import lcakit as lk
from lcakit.storage import continuing, segments
from lcakit.storage.paths import partial_path
from tests.support.recordings import record


def test_segments_hold_whole_blocks_while_recording_goes_on(ds, tmp_path):
    path = tmp_path / "run.nc"
    writer = record(ds, path, stop=11, block_rows=5)
    while not (partial_path(path) / "000001.npz").exists():
        time.sleep(0.01)
    got = lk.open_trajectory(path)
    assert got.sizes["iteration"] == 10
    assert np.array_equal(got["lca"], ds["lca"][:10])
    writer.close()


def test_full_disk_while_recording_keeps_finished_segments(ds, tmp_path, monkeypatch):
    path, real = tmp_path / "run.nc", segments.write_arrays

    def full_after_two(file, arrays):
        if "000002" in file.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, arrays)

    monkeypatch.setattr(segments, "write_arrays", full_after_two)
    with pytest.raises(lk.RecordingError, match="last finished segment"):
        record(ds, path, block_rows=3).close()
    got = lk.open_trajectory(path)
    assert np.array_equal(got["lca"], ds["lca"][:6])
    assert not list(partial_path(path).glob(".*tmp*"))


def test_states_are_kept_for_the_last_two_segments(ds, tmp_path):
    count = iter(range(100))
    path = tmp_path / "run.nc"
    record(ds, path, block_rows=3, state=lambda: str(next(count)).encode()).close()
    partial = partial_path(path)
    assert continuing.go_back_to_state(partial) == b"3"
    assert sorted(p.name for p in partial.glob("*.state")) == ["000002.state", "000003.state"]
