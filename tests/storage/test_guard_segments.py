"""Segments of an unfinished recording that are damaged, or made by somebody else."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import lcakit as lk
from lcakit.storage import guard
from lcakit.storage.paths import partial_path
from lcakit.testing import tiny_trajectory
from tests.support.hdf5_files import patched
from tests.support.mutations import Trap
from tests.support.recordings import record


@pytest.fixture
def partial(ds, tmp_path) -> Path:
    """The folder of a recording that stopped before it was finished."""
    record(ds, tmp_path / "run.nc", block_rows=5).close()
    return partial_path(tmp_path / "run.nc")


def rewritten(segment: Path, **arrays) -> None:
    with np.load(segment) as archive:
        old = {name: archive[name] for name in archive.files}
    np.savez(segment, **{**old, **arrays})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"theta_val_": np.zeros(3)}, "not a plain variable"),
        ({"config": np.zeros(3)}, "not a plain variable"),
        ({"theta": np.zeros((5, 61))}, "type float64"),
        ({"theta": np.zeros((5, 60), "f4")}, r"shape \(5, 60\)"),
        ({"theta": np.asfortranarray(np.zeros((5, 61), "f4"))}, "shape"),
        ({"theta": np.zeros(61, "f4")}, "shape"),
        ({"loss": np.zeros(4)}, "contradict|conflicting"),
    ],
)
def test_segments_hold_what_a_recording_writes(partial, arrays, message):
    rewritten(partial / "000001.npz", **arrays)
    with pytest.raises(lk.TrajectoryError, match=rf"run\.nc\.partial.*({message})"):
        lk.open_trajectory(partial)


def test_a_segment_that_declares_more_than_it_holds(tmp_path):
    buffer, path = io.BytesIO(), tmp_path / "000000.npz"
    np.save(buffer, np.zeros(4))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("loss.npy", buffer.getvalue().replace(b"(4,), ", b"(9,), "))
        archive.writestr("residual.npy", bytes(1000))
    with pytest.raises(lk.TrajectoryError, match=r"000000\.npz.*declares shape \(9,\)"):
        guard.check_segment(path, {})


def test_nothing_is_unpickled(partial, tmp_path):
    rewritten(partial / "000001.npz", theta=np.array([Trap(tmp_path / "trapped")] * 5, object))
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz"):
        lk.open_trajectory(partial)
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz"):
        lk.validate(partial)
    assert not (tmp_path / "trapped").exists()


def test_a_header_that_is_damaged(partial):
    header = partial / "header.nc"
    patched(header, 200, os.urandom(200))
    with pytest.raises(lk.TrajectoryError, match=r"header\.nc"):
        lk.open_trajectory(partial)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def elsewhere(path: Path) -> None:
    path.symlink_to(path.rename(path.parent.parent / "elsewhere"))


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are those of Unix")
@pytest.mark.parametrize("spoil", [fifo, endless, elsewhere])
@pytest.mark.parametrize("name", ["000001.npz", "header.nc"])
def test_only_plain_files_are_read(partial, spoil, name):
    spoil(partial / name)
    with pytest.raises(lk.TrajectoryError, match=rf"{name} is a (pipe|symbolic link), not a plain file"):
        lk.open_trajectory(partial)


def test_a_variable_that_is_there_twice(partial):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(partial / "000001.npz", "a") as archive:
        archive.writestr("loss.npy", archive.read("loss.npy"))
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz.*'loss' twice"):
        lk.open_trajectory(partial)


@pytest.mark.parametrize(
    "header",
    [b"(" * 3000, b"{'descr': " + b"[" * 3000, b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 3000],
)
def test_headers_that_are_deep_or_break_off(partial, header):
    text = (b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header).ljust(4000)
    with zipfile.ZipFile(partial / "000001.npz", "w") as archive:
        archive.writestr("loss.npy", text)
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz"):
        lk.open_trajectory(partial)


def test_an_archive_of_very_many_members(partial):
    with zipfile.ZipFile(partial / "000001.npz", "w") as archive:
        for number in range(6000):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz.*some arrays"):
        lk.open_trajectory(partial)


@pytest.mark.parametrize("size", [100, 10**6], ids=["shorter", "longer"])
def test_a_segment_that_changes_after_it_was_opened(partial, size):
    ds = lk.open_trajectory(partial)
    os.truncate(partial / "000001.npz", size)
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz changed since it was opened"):
        ds["lca"].load()


def test_a_damaged_segment_is_not_merged_into_a_file(tmp_path):
    record(tiny_trajectory(200), tmp_path / "run.nc", block_rows=100).close()
    segment = partial_path(tmp_path / "run.nc") / "000001.npz"
    with zipfile.ZipFile(segment) as archive:
        place = archive.getinfo("theta.npy").header_offset + 20_000
    patched(segment, place, b"\xff\xff")
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz: theta\.npy differs from its checksum"):
        lk.finish(tmp_path / "run.nc")
    assert [p.name for p in tmp_path.iterdir()] == ["run.nc.partial"]
