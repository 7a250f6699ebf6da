"""Chunks that are written while a recording goes on: the file is the one that merging at the end makes."""

from __future__ import annotations

import errno

import netCDF4
import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.storage import chunk_index, early_chunks, saving, segments
from lcakit.storage.early_chunks import EarlyChunks
from lcakit.storage.paths import partial_path
from lcakit.testing import tiny_trajectory
from lcakit.trajectory import schema
from tests.support.recordings import record


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """All is written early, in chunks so small that an index has several levels."""
    monkeypatch.setattr(early_chunks, "LEAST_BYTES", 0)
    monkeypatch.setattr(schema, "CHUNK_ITERATIONS", 4)
    monkeypatch.setattr(schema, "CHUNK_PARAMETERS", 16)


def recorded(ds, path, iterations, **options):
    """Record with early chunks, for so many iterations as was said, and make it a file; return what was early."""
    early = EarlyChunks(partial_path(path), iterations)
    record(ds, path, early=early, **options).close()
    saving.merge(path, early=early)
    return early


def merged(ds, path):
    record(ds, path).close()
    return lk.finish(path)


def shown(path):
    """Return all that the netCDF library says of a file, and all numbers."""
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        about = {
            name: (v.dimensions, v.dtype, v.chunking(), v.filters(), v.endian()) for name, v in file.variables.items()
        }
        attributes = {name: sorted((k, str(v.getncattr(k))) for k in v.ncattrs()) for name, v in file.variables.items()}
        dims = {name: (len(dim), dim.isunlimited()) for name, dim in file.dimensions.items()}
        numbers = {name: np.asarray(v[:]) for name, v in file.variables.items()}
        return list(file.variables), dims, about, attributes, file.__dict__, numbers


@pytest.mark.parametrize(("iterations", "rows"), [(3, 1), (4, 3), (7, 64), (30, 3)])
def test_the_file_is_the_merged_one(tmp_path, iterations, rows):
    ds = tiny_trajectory(iterations)
    early = recorded(ds, tmp_path / "early.nc", iterations, block_rows=rows)
    assert {"theta", "gradient", "lca"} <= set(early.chunks)
    assert not early.path.exists()
    *about, numbers = shown(tmp_path / "early.nc")
    *expected, wanted = shown(merged(ds, tmp_path / "merged.nc"))
    assert about == expected
    for name, values in wanted.items():
        assert np.array_equal(numbers[name], values, equal_nan=values.dtype.kind == "f"), name
    got = lk.open_trajectory(tmp_path / "early.nc")
    xr.testing.assert_identical(got.load(), lk.open_trajectory(tmp_path / "merged.nc").load())


@pytest.mark.parametrize(("iterations", "levels"), [(80, 2), (1100, 3)])
def test_indexes_of_several_levels_lead_to_every_chunk(tmp_path, monkeypatch, iterations, levels):
    monkeypatch.setattr(schema, "CHUNK_ITERATIONS", 4 if levels == 2 else 1)
    ds = tiny_trajectory(iterations)
    chunks = recorded(ds, tmp_path / "run.nc", iterations).chunks["lca"]
    entries = np.prod([-(-n // c) for n, c in zip(ds["lca"].shape, chunks, strict=True)])
    assert 64 ** (levels - 1) < entries <= 64**levels
    with netCDF4.Dataset(tmp_path / "run.nc") as file:
        for name in ("theta", "gradient", "lca"):
            assert np.array_equal(file[name][:], ds[name])
            for t in (0, iterations // 2, iterations - 1):
                assert np.array_equal(file[name][t, ::5], ds[name][t, ::5])


def test_class_resolution_by_parameter_is_written_early_too(tmp_path):
    ds = tiny_trajectory(9, class_parameters=True)
    assert "lca_class" in recorded(ds, tmp_path / "run.nc", 9, block_rows=2).chunks
    assert np.array_equal(lk.open_trajectory(tmp_path / "run.nc")["lca_class"], ds["lca_class"])


@pytest.mark.parametrize(
    ("iterations", "said", "is_early"),
    [
        (40, None, True),  # 41 snapshots in chunks for 44
        (21, None, True),  # 22 in chunks for 24
        (8, None, False),  # 9 snapshots in chunks for 12: a quarter would be empty
        (39, 4000, True),  # stopped early
        (40, 12, True),
        (2, None, False),  # shorter than a chunk
        (30, 2, False),  # said too little: chunks of two iterations
    ],
)
def test_a_recording_of_another_length_than_was_said_is_whole(tmp_path, monkeypatch, iterations, said, is_early):
    monkeypatch.setattr(early_chunks, "_MOST_EMPTY", 0.1)
    ds, used = tiny_trajectory(iterations), []
    monkeypatch.setattr(EarlyChunks, "write_indexes", _noted(EarlyChunks.write_indexes, used))
    recorded(ds, tmp_path / "run.nc", said, block_rows=5)
    assert bool(used) == is_early
    got = lk.open_trajectory(tmp_path / "run.nc")
    for name in ds.data_vars:
        assert np.array_equal(got[name], ds[name], equal_nan=True), name
    assert not partial_path(tmp_path / "run.nc").exists()


def _noted(function, calls):
    def called(*args):
        calls.append(args)
        return function(*args)

    return called


def test_a_recording_that_another_process_ends_is_begun_anew(tmp_path):
    ds, path = tiny_trajectory(12), tmp_path / "run.nc"
    early = EarlyChunks(partial_path(path), 12)
    record(ds, path, stop=8, block_rows=4, early=early).close()
    early.add_next()  # if it was not in idle time
    assert early.path.exists()
    assert np.array_equal(lk.open_trajectory(path)["lca"], ds["lca"][:8])
    lk.finish(path)
    assert np.array_equal(lk.open_trajectory(path)["lca"], ds["lca"][:8])
    assert not partial_path(path).exists()


def test_chunks_that_find_no_room_are_given_up_and_the_recording_goes_on(tmp_path, monkeypatch):
    ds, path = tiny_trajectory(12), tmp_path / "run.nc"

    def full(file, array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(early_chunks, "_write_all", full)
    early = recorded(ds, path, 12, block_rows=3)
    assert not early.path.exists()
    assert np.array_equal(lk.open_trajectory(path)["lca"], ds["lca"])


def test_segments_get_the_room_of_chunks(tmp_path, monkeypatch):
    ds, path, real = tiny_trajectory(12), tmp_path / "run.nc", segments.write_arrays
    early = EarlyChunks(partial_path(path), 12)

    def full_while_there_are_chunks(file, arrays):
        if "000002" in file.name:
            early.add_next()
            if early.path.exists():
                raise OSError(errno.ENOSPC, "No space left on device")
        real(file, arrays)

    monkeypatch.setattr(segments, "write_arrays", full_while_there_are_chunks)
    record(ds, path, block_rows=3, early=early).close()
    saving.merge(path, early=early)
    assert np.array_equal(lk.open_trajectory(path)["lca"], ds["lca"])


def test_little_is_not_written_early_nor_where_the_disk_is_nearly_full(tmp_path, monkeypatch):
    ds, path = tiny_trajectory(12), tmp_path / "run.nc"
    early = EarlyChunks(partial_path(path), 12)
    monkeypatch.setattr(early_chunks, "LEAST_BYTES", 10**6)
    record(ds, path, block_rows=3, early=early).close()
    assert not early.add_next()
    monkeypatch.setattr(early_chunks, "LEAST_BYTES", 0)
    monkeypatch.setattr(early_chunks.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    assert not early.add_next()
    assert not early.path.exists()


def test_a_damaged_segment_is_told_when_the_recording_is_closed(tmp_path):
    ds, path = tiny_trajectory(12), tmp_path / "run.nc"
    early = EarlyChunks(partial_path(path), 12)
    record(ds, path, block_rows=3).close()
    damaged = partial_path(path) / "000001.npz"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(lk.TrajectoryError, match=r"000001\.npz.*CRC-32"):
        saving.merge(path, early=early)
    assert damaged.exists()
    assert not path.exists()


def test_a_file_whose_beginning_is_another_one_is_refused(tmp_path):
    path = tmp_path / "run.nc"
    path.write_bytes(bytes(100))
    with path.open("r+b") as file, pytest.raises(ValueError, match="superblock"):
        chunk_index.set_end(file, 50)
