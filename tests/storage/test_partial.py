"""Recordings that are not finished: opened, damaged, finished."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import pytest

import lcakit as lk
from lcakit.storage import netcdf
from lcakit.storage.paths import partial_path
from tests.support.recordings import record
from tests.support.same import assert_same


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 5, 12, 64])
def test_partial_recordings_open_and_finish(ds, tmp_path, rows):
    path = tmp_path / "run.nc"
    record(ds, path, block_rows=rows).close()
    for source in (path, partial_path(path)):
        got = lk.open_trajectory(source)
        assert got.attrs["partial"] == 1
        assert_same(got.assign_attrs(ds.attrs).drop_attrs(deep=False).assign_attrs(ds.attrs), ds)
        assert lk.validate(source).ok
    assert lk.finish(path) == path
    assert list(tmp_path.iterdir()) == [path]
    with lk.open_trajectory(path) as got:
        assert "partial" not in got.attrs
        assert_same(got, ds)


def test_what_is_gone_is_said(ds, tmp_path):
    path = tmp_path / "run.nc"
    record(ds, path).close()
    held = lk.open_trajectory(path)
    lk.finish(path)
    with pytest.raises(lk.TrajectoryError, match="Open it again"):
        held["lca"].load()


def test_damaged_recordings(ds, tmp_path):
    path = tmp_path / "run.nc"
    record(ds, path, block_rows=3).close()
    partial = partial_path(path)
    (partial / "000002.npz").write_bytes((partial / "000002.npz").read_bytes()[:200])
    with pytest.raises(lk.TrajectoryError, match=r"000002\.npz"):
        lk.open_trajectory(path)
    (partial / "000001.npz").unlink()
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz is missing"):
        lk.open_trajectory(path)
    for segment in partial.glob("*.npz"):
        segment.unlink()
    with pytest.raises(lk.TrajectoryError, match="before its first segment"):
        lk.open_trajectory(path)
    (partial / "header.nc").unlink()
    with pytest.raises(lk.TrajectoryError, match="header"):
        lk.open_trajectory(path)


@pytest.mark.slow
def test_finish_keeps_the_segments_when_the_disk_is_full(ds, tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    record(ds, path).close()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(netcdf, "write_window", full)
        with pytest.raises(lk.RecordingError, match="No space left"):
            lk.finish(path)
    assert not path.exists()
    assert_same(lk.open_trajectory(lk.finish(path)), ds)


@pytest.mark.slow
def test_finishing_that_is_killed_while_it_clears_up_goes_on(ds, tmp_path, monkeypatch):
    """Whichever file of the folder went last: the merged file is whole, and a second call clears the rest."""
    path, remove = tmp_path / "run.nc", Path.unlink
    for before in itertools.count():
        record(ds, path, block_rows=5).close()
        left = iter(range(before))

        def killed(self, missing_ok=False, left=left):
            if self.parent == partial_path(path) and next(left, None) is None:
                raise KeyboardInterrupt
            remove(self, missing_ok=missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", killed)
            try:
                lk.finish(path)
            except KeyboardInterrupt:
                pass
            else:
                break
        assert_same(lk.open_trajectory(path), ds)
        with pytest.raises(lk.TrajectoryError, match="rest of a recording"):
            lk.open_trajectory(partial_path(path))
        assert lk.finish(path) == path
        assert list(tmp_path.iterdir()) == [path]
        remove(path)
    assert before > 3
