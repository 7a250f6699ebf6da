"""Reading a file after it was opened: lazily, from any process, with errors that name the file and the variable."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import lcakit as lk
from tests.support.hdf5_files import block_of, patched
from tests.support.laziness import nothing_computed


def test_opening_reads_no_numbers(path):
    with nothing_computed(), lk.open_trajectory(path) as got:
        assert got["lca"].chunks


def test_what_cannot_be_read_names_the_file_and_the_variable(ds, tmp_path):
    path = lk.save(ds, tmp_path / "run.nc", compression="zlib")
    address, length = block_of(path, "a chunk of 'gradient'")
    patched(path, address + length // 2, bytes(50))
    with (
        lk.open_trajectory(path) as got,
        pytest.raises(lk.TrajectoryError, match=r"run\.nc, 'gradient': damaged.* again"),
    ):
        got["gradient"].values.sum()
    with lk.open_trajectory(path) as got:
        assert np.array_equal(got["lca"], ds["lca"])  # the rest is as it was


def test_open_files_travel_to_other_processes(ds, path):
    with lk.open_trajectory(path) as got:
        there = pickle.loads(pickle.dumps(got[["lca"]]))
        assert np.array_equal(there["lca"], ds["lca"])


def test_fancy_selections_of_open_files(ds, path):
    with lk.open_trajectory(path) as got:
        rows, columns = [7, 2, 2], [60, 0, 5]
        assert np.array_equal(got["lca"][rows][:, columns], ds["lca"].values[rows][:, columns])
        assert np.array_equal(got["lca"][::-2, 3], ds["lca"].values[::-2, 3])
