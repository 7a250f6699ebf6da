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
