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
from lcakit.storage.npz import damage
from lcakit.storage.partial import open_partial
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


def killed(ds, path, said=12, stop=None):
    """Leave segments of four iterations, all of them in early chunks, as a process that is killed does."""
    early = EarlyChunks(partial_path(path), said)
    record(ds, path, stop=stop, block_rows=4, early=early).close()
    while early.add_next():  # those that were not added in idle time
        pass
    early.close()
    return early


@pytest.fixture
def written(monkeypatch):
    """What is written to early chunks from now on: the number of rows and the width of each block."""
    blocks, real = [], early_chunks._write_all
    monkeypatch.setattr(early_chunks, "_write_all", lambda file, array: (blocks.append(array.shape), real(file, array)))
    return blocks


def test_what_a_killed_process_wrote_is_used(tmp_path, written):
    ds, path = tiny_trajectory(12), tmp_path / "run.nc"
    killed(ds, path)
    assert written
    written.clear()
    lk.finish(path)
    assert not written
    *about, numbers = shown(path)
    *expected, wanted = shown(merged(ds, tmp_path / "merged.nc"))
    assert about == expected
    for name, values in wanted.items():
        assert np.array_equal(numbers[name], values, equal_nan=values.dtype.kind == "f"), name
    assert not partial_path(path).exists()


def test_what_a_killed_process_had_no_time_for_is_added(tmp_path, written):
    ds, path = tiny_trajectory(12), tmp_path / "run.nc"
    early = EarlyChunks(partial_path(path), 12)
    record(ds, path, block_rows=4).close()
    assert early.add_next()
    early.close()
    first = len(written)
    lk.finish(path)
    assert len(written) == 3 * first
    assert np.array_equal(lk.open_trajectory(path)["lca"], ds["lca"])


def test_who_goes_on_leaves_what_is_there(tmp_path, written):
    ds, path = tiny_trajectory(12), tmp_path / "run.nc"
    killed(ds, path, stop=8)
    first = len(written)
    early = EarlyChunks(partial_path(path), 12)
    record(ds, path, start=8, block_rows=4, resume=True, early=early).close()
    saving.merge(path, early=early)
    assert len(written) == first * 3 / 2
    assert np.array_equal(lk.open_trajectory(path)["lca"], ds["lca"])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data, place: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], id="a bit"),
        pytest.param(lambda data, place: data[:place], id="cut"),
        pytest.param(lambda data, place: data[:100], id="its beginning alone"),
        pytest.param(lambda data, place: data[:5], id="nothing"),
        pytest.param(lambda data, place: b"\x89HDF\r\n\x1a\n" + data[8:], id="become a file"),
        pytest.param(lambda data, place: data[:8] + bytes([3]) + data[9:], id="of another length"),
    ],
)
def test_what_is_not_as_it_was_written_is_copied_again(tmp_path, change):
    ds, path = tiny_trajectory(12), tmp_path / "run.nc"
    early = killed(ds, path)
    data = early.path.read_bytes()
    place = data.index(ds["lca"].values[5, :8].tobytes())
    early.path.write_bytes(change(data, place))
    lk.finish(path)
    got = lk.open_trajectory(path)
    for name in ("theta", "gradient", "lca"):
        assert np.array_equal(got[name], ds[name]), name
    assert not partial_path(path).exists()


def test_early_chunks_that_are_a_link_are_not_followed(tmp_path):
    ds, path = tiny_trajectory(12), tmp_path / "run.nc"
    early = killed(ds, path)
    elsewhere = early.path.rename(tmp_path / "elsewhere")
    before = elsewhere.read_bytes()
    early.path.symlink_to(elsewhere)
    lk.finish(path)
    assert elsewhere.read_bytes() == before
    assert np.array_equal(lk.open_trajectory(path)["lca"], ds["lca"])


def test_a_row_that_is_damaged_in_its_segment_alone_is_not_lost(tmp_path):
    ds, path = tiny_trajectory(12), tmp_path / "run.nc"
    killed(ds, path)
    opened = open_partial(partial_path(path))
    segment = partial_path(path) / "000001.npz"
    data = segment.read_bytes()
    place = data.index(ds["lca"].values[5, :8].tobytes())
    segment.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert damage(segment)
    assert EarlyChunks.left(partial_path(path)).complete(opened)


@pytest.mark.parametrize("how", [{"compression": "zlib"}, {"suffix": ".zarr"}])
def test_early_chunks_are_not_used_for_other_files(tmp_path, how):
    ds, path = tiny_trajectory(12), tmp_path / f"run{how.pop('suffix', '.nc')}"
    killed(ds, path)
    lk.finish(path, **how)
    assert np.array_equal(lk.open_trajectory(path)["lca"], ds["lca"])
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
