"""Several at work at once, and names that are links: threads, processes, what a killed one left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import lcakit as lk
from lcakit.storage.atomic import exclusively, remove_stale
from lcakit.testing import tiny_trajectory
from tests.support import forked
from tests.support.same import assert_same


def many(folder: Path, turns: int) -> None:
    """Save, share and open in several threads, partly the same file."""
    ds = tiny_trajectory(5)
    lk.save(ds, folder / "read.nc")

    def work(turn: int) -> None:
        kind, own = turn % 4, folder / f"{turn}.nc"
        if kind == 0:
            lk.save(ds, own)
            assert lk.open_trajectory(own).load().equals(lk.open_trajectory(folder / "read.nc").load())
        elif kind == 1:
            lk.share(folder / "read.nc", own)
        elif kind == 2:
            lk.save(ds, folder / "one.nc", overwrite=True)
        else:
            with lk.open_trajectory(folder / "read.nc") as read:
                assert read["lca"].load().equals(ds["lca"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(turns)))
    assert lk.open_trajectory(folder / "one.nc").load()["lca"].equals(ds["lca"])


@pytest.mark.slow
def test_threads_save_share_and_open_side_by_side(tmp_path):
    forked.run(many, tmp_path, 24)  # without the library's lock around each of its calls, it crashes here
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
@pytest.mark.parametrize("there", [True, False], ids=["there", "not there yet"])
def test_a_file_is_written_through_a_symbolic_link(tmp_path, ds, suffix, there):
    behind, link = tmp_path / "disk" / f"run.{suffix}", tmp_path / f"link.{suffix}"
    behind.parent.mkdir()
    link.symlink_to(behind)
    if there:
        lk.save(tiny_trajectory(3), behind)
    lk.save(ds, link, overwrite=True)
    assert link.is_symlink()
    with lk.open_trajectory(behind) as got:
        assert_same(got, ds)
    assert [p.name for p in behind.parent.iterdir()] == [behind.name]


def test_a_compact_copy_is_written_through_a_symbolic_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.nc").symlink_to(tmp_path / "disk" / "run.nc")
    lk.share(tiny_trajectory(5), tmp_path / "link.nc")
    assert (tmp_path / "link.nc").is_symlink()
    assert lk.open_trajectory(tmp_path / "disk" / "run.nc").sizes["iteration"] == 5


def test_links_in_a_circle_are_named(tmp_path):
    (tmp_path / "a.nc").symlink_to(tmp_path / "b.nc")
    (tmp_path / "b.nc").symlink_to(tmp_path / "a.nc")
    with pytest.raises(lk.RecordingError, match=r"a\.nc"):
        lk.save(tiny_trajectory(3), tmp_path / "a.nc", overwrite=True)


def test_one_at_a_time_changes_a_file(tmp_path):
    inside, most, guard = [], [], threading.Lock()

    def change(_):
        with exclusively(tmp_path / "run.nc"):
            with guard:
                inside.append(1)
                most.append(len(inside))
            with guard:
                inside.pop()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(100)))
    assert most == [1] * 100
    assert not list(tmp_path.iterdir())


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [tmp_path / f".run.nc.tmp-{dead.pid}", tmp_path / f".run.nc.tmp-{dead.pid}.0.{os.uname().nodename}"]
    others = [tmp_path / f".run.nc.tmp-{os.getpid()}.7.{os.uname().nodename}", tmp_path / ".run.nc.tmp-1.0.elsewhere"]
    for path in left + others:
        path.write_bytes(b"half")
    remove_stale(tmp_path / "run.nc")
    assert sorted(tmp_path.iterdir()) == sorted(others)
