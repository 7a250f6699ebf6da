"""When a block of a recording is closed, and which blocks a resume goes back to."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lcakit.storage import continuing, segments
from lcakit.storage.npz import open_segment


def test_blocks_stay_within_their_bytes(tmp_path):
    rows = {"loss": 1.0, "snapshot": 0}
    writer = segments.SegmentWriter(tmp_path / "run.nc.partial", xr.Dataset(), block_bytes=10_000)
    writer.append(rows, {})
    for step in range(20):
        writer.append(rows, {"lca": np.zeros(600, np.float32), "iteration": step})
    writer.close()
    sizes = [part["lca"].shape[0] for part in map(open_segment, segments.segment_paths(writer.directory))]
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
    assert [open_segment(path)["iteration"].shape[0] for path in paths] == [3, 3]


def test_going_back_passes_all_blocks_without_statistics(tmp_path):
    for number in range(4):
        rows = [({}, {"iteration": 2 * number + k}) for k in range(2)]
        running = (lambda: [("iterations", np.array([4]))]) if number == 1 else None
        segments.write_rows(tmp_path / f"{number:06d}.npz", rows, 2, running)
    continuing.go_back_to_running(tmp_path)
    assert [path.name for path in segments.segment_paths(tmp_path)] == ["000000.npz", "000001.npz"]
