"""Zarr stores that change while they are open: refused with the remedy, never a mix of old and new numbers."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import lcakit as lk
from lcakit.testing import tiny_trajectory

zarr = pytest.importorskip("zarr")

CHANGED = r"run\.zarr was overwritten or replaced while it is open .* Open it again"


@pytest.fixture
def path(ds, tmp_path) -> Path:
    return lk.save(ds, tmp_path / "run.zarr")


@pytest.fixture
def other(ds, tmp_path) -> Path:
    """Another run of the same shapes."""
    return lk.save(ds.assign(lca=-ds["lca"], theta=ds["theta"] + 1), tmp_path / "other.zarr")


def copied_over(path: Path, other: Path) -> None:
    shutil.copytree(other, path, dirs_exist_ok=True, copy_function=shutil.copyfile)


def copied_with_its_times(path: Path, other: Path) -> None:
    shutil.copytree(other, path, dirs_exist_ok=True)  # as cp -a and rsync do: no file looks new


def one_chunk(path: Path, other: Path) -> None:
    shutil.copy2(other / "lca/c/0/0", path / "lca/c/0/0")


def one_chunk_renamed(path: Path, other: Path) -> None:
    shutil.copy2(other / "lca/c/0/0", path / "lca/c/0/new")
    (path / "lca/c/0/new").replace(path / "lca/c/0/0")


def numbers_written_by_zarr(path: Path, _: Path) -> None:
    zarr.open_array(path / "lca", mode="r+")[0, 0] = 7.0


def description(path: Path, _: Path) -> None:
    file = path / "lca/zarr.json"
    file.write_text(file.read_text().replace('"little"', '"big"'))


def saved_over(path: Path, other: Path) -> None:
    lk.save(lk.open_trajectory(other), path, overwrite=True)


def renamed_over(path: Path, other: Path) -> None:
    path.rename(path.with_name("old.zarr"))
    other.rename(path)


ALL = [
    copied_over,
    copied_with_its_times,
    one_chunk,
    one_chunk_renamed,
    numbers_written_by_zarr,
    description,
    saved_over,
    renamed_over,
]


@pytest.mark.slow
@pytest.mark.parametrize("change", ALL)
def test_a_store_that_is_changed_while_it_is_open_is_refused_until_it_is_opened_again(path, other, change):
    ds = lk.open_trajectory(path)
    ds["lca"][3].load()
    change(path, other)
    with pytest.raises(lk.TrajectoryError, match=CHANGED):
        ds["lca"].load()
    if change is not description:  # which contradicts the one beside it now
        now = lk.open_trajectory(path).load()
        np.testing.assert_array_equal(now["lca"], zarr.open_array(path / "lca", mode="r")[:])


@pytest.mark.slow
def test_a_store_that_is_sent_to_a_worker_is_the_one_that_was_opened(ds, path, other):
    sent = pickle.dumps(lk.open_trajectory(path)["lca"])
    np.testing.assert_array_equal(pickle.loads(sent), ds["lca"])
    saved_over(path, other)
    with pytest.raises(lk.TrajectoryError, match=CHANGED):
        pickle.loads(sent).load()


def test_what_is_not_written_stays_readable(ds, path, other):
    os.utime(path / "lca/c/0/0", (0, 0))  # an older time than any other file
    opened = lk.open_trajectory(path)
    lk.save(tiny_trajectory(3), path.with_name("beside.zarr"))
    link = path.with_name("link.zarr")
    link.symlink_to(path, target_is_directory=True)
    linked = lk.open_trajectory(link)
    link.unlink()
    link.symlink_to(other, target_is_directory=True)  # leads elsewhere: what was opened stays whole
    for got in (opened, linked):
        np.testing.assert_array_equal(got["lca"], ds["lca"])
