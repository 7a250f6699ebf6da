"""Chunks read without the HDF5 library: the numbers of the library, for any key, layout, filter and thread."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcakit.errors import TrajectoryError
from lcakit.storage import chunked, kept, local, memory, packed
from lcakit.storage.chunked import ChunkArray, Chunks, chunks_of
from lcakit.storage.guard import check_file
from lcakit.storage.local import LocalFile
from lcakit.storage.state import State
from tests.support.descriptors import descriptors

FILTERS = [
    {},
    {"contiguous": True},
    {"zlib": True},
    {"zlib": True, "shuffle": False},
    {"zlib": True, "fletcher32": True},
    {"shuffle": False, "fletcher32": True},
]


def write(path: Path, values: np.ndarray, rows: int | None = None, **options) -> np.ndarray:
    """Write a variable ``x``, perhaps only some rows of it; return it as the library reads it."""
    with netCDF4.Dataset(path, "w") as file:
        dims = [f"d{axis}" for axis in range(values.ndim)]
        for name, size in zip(dims, values.shape, strict=True):
            file.createDimension(name, size)
        endian = "big" if values.dtype.str[0] == ">" else "native"
        x = file.createVariable("x", values.dtype, dims, endian=endian, **options)
        where = ... if rows is None else slice(rows)
        x[where] = values[where]
    with netCDF4.Dataset(path) as file:
        file["x"].set_auto_maskandscale(False)
        return np.asarray(file["x"][...])


def opened(path: Path) -> ChunkArray:
    chunks = chunks_of(check_file(path)["x"])
    assert chunks is not None
    return ChunkArray(LocalFile(str(path), State.of(path)), chunks, "run.nc, 'x'")


def picked(values: np.ndarray, key: tuple) -> np.ndarray:
    """Index axis by axis: where the indices of all axes cross."""
    for axis in reversed(range(values.ndim)):
        values = values[(slice(None),) * axis + (key[axis],)]
    return values


def keys(size: int) -> st.SearchStrategy[int | slice | np.ndarray]:
    place = st.integers(-size, size - 1)
    bound = st.none() | st.integers(-size - 2, size + 2)
    step = st.none() | st.sampled_from([1, 2, 3, -1, -2])
    return st.integers(0, size - 1) | st.builds(slice, bound, bound, step) | st.lists(place, max_size=5).map(np.int64)


@st.composite
def cases(draw):
    shape = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    return (
        tuple(shape),
        draw(st.tuples(*(st.integers(1, n) for n in shape))),
        [draw(st.tuples(*map(keys, shape))) for _ in range(8)],
    )


@given(
    cases(),
    st.sampled_from(FILTERS),
    st.sampled_from(["f4", "f8", "i2", ">f4", ">i8", "u1"]),
    st.sampled_from([None, 1]),
    st.sampled_from([0, 16, 4096]),
)
def test_any_key_gives_the_numbers_of_the_library(tmp_path_factory, case, options, dtype, rows, near):
    shape, chunk, wanted = case
    path = tmp_path_factory.mktemp("chunks") / "x.nc"
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    expected = write(path, values, rows, **options | ({} if "contiguous" in options else {"chunksizes": chunk}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked, "_NEAR_BYTES", near)
        patch.setattr(local, "_GAP_BYTES", near)
        array = opened(path)
        for key in wanted:
            got = array.read(key)
            np.testing.assert_array_equal(got, picked(expected, key))
            assert got.dtype == np.dtype(dtype)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)], ids=str)
def test_variables_without_numbers_are_read(tmp_path, shape):
    write(tmp_path / "x.nc", np.empty(shape, "f4"), rows=0, contiguous=0 not in shape)
    assert opened(tmp_path / "x.nc").read((slice(None),) * len(shape)).shape == shape


def test_a_number_without_dimensions_is_read(tmp_path):
    expected = write(tmp_path / "x.nc", np.array(2.5))
    got = opened(tmp_path / "x.nc").read(())
    assert got == expected == 2.5
    assert got.shape == ()


@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_threads_that_read_at_once_get_their_own_numbers(tmp_path, options):
    values = np.arange(40 * 300, dtype="f4").reshape(40, 300)
    write(tmp_path / "x.nc", values, **options | ({} if "contiguous" in options else {"chunksizes": (7, 50)}))
    array = opened(tmp_path / "x.nc")
    wanted = [(slice(n % 40, None, 1 + n % 3), slice(n, n + 90)) for n in range(200)]
    with ThreadPoolExecutor(8) as threads:
        for key, got in zip(wanted, threads.map(array.read, wanted), strict=True):
            np.testing.assert_array_equal(got, values[key])


class Counting:
    """A file that counts what is read of it."""

    at_once = 0

    def __init__(self, file: LocalFile) -> None:
        self.file, self.bytes = file, 0

    def fill(self, runs):
        runs = list(runs)
        self.bytes += sum(view.nbytes for _, view in runs)
        self.file.fill(runs)

    def check(self):
        self.file.check()


def test_packed_chunks_are_kept_for_the_next_small_part_of_them(tmp_path, monkeypatch):
    values = np.arange(64 * 400, dtype="f4").reshape(64, 400)
    write(tmp_path / "x.nc", values, zlib=True, chunksizes=(16, 100))
    array = opened(tmp_path / "x.nc")
    array.file = Counting(array.file)
    column, row = (slice(None), 130), (5, slice(None))
    np.testing.assert_array_equal(array.read(column), values[column])
    read = array.file.bytes
    np.testing.assert_array_equal(array.read((slice(None), 199)), values[:, 199])
    assert array.file.bytes == read
    np.testing.assert_array_equal(array.read(row), values[row])
    assert array.file.bytes > read  # three more chunks
    monkeypatch.setattr(kept, "MOST_BYTES", 2 * 4 * 1600)  # two chunks, of the four of a column
    array.read((40, slice(None)))
    for _ in range(2):
        read = array.file.bytes
        np.testing.assert_array_equal(array.read(column), values[column])
        assert array.file.bytes > read


def test_kept_chunks_of_a_file_that_was_overwritten_are_not_given(tmp_path):
    path = tmp_path / "x.nc"
    write(path, np.ones((8, 8), "f4"), zlib=True, chunksizes=(8, 8))
    array = opened(path)
    assert array.read((0, slice(None))).tolist() == [1] * 8
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, (1, 1))
    with pytest.raises(TrajectoryError, match=r"x\.nc"):
        array.read((0, slice(None)))


def test_large_parts_of_packed_chunks_are_not_kept(tmp_path):
    write(tmp_path / "x.nc", np.ones((8, 8), "f4"), zlib=True, chunksizes=(8, 8))
    array = opened(tmp_path / "x.nc")
    array.file = Counting(array.file)
    for _ in range(2):
        array.read((slice(None), slice(None)))
    assert array.file.bytes == 2 * sum(b - a for a, b in array.chunks.ranges.values())


def test_of_chunks_that_are_not_packed_only_what_is_wanted_is_read(tmp_path):
    values = np.arange(64 * 4000, dtype="f4").reshape(64, 4000)
    write(tmp_path / "x.nc", values, chunksizes=(64, 4000))
    array = opened(tmp_path / "x.nc")
    array.file = file = Counting(array.file)
    for key in ((slice(None), 5), (7, slice(None)), (np.array([3, 60]), slice(100, 200)), (slice(None, None, 9), 7)):
        before = file.bytes
        np.testing.assert_array_equal(got := array.read(key), picked(values, key))
        assert file.bytes - before == got.nbytes


def test_a_fill_value_stands_where_nothing_was_written(tmp_path):
    values = np.ones((6, 4), "f4")
    write(tmp_path / "x.nc", values, rows=2, chunksizes=(2, 4), fill_value=np.float32(-7))
    got = opened(tmp_path / "x.nc").read((slice(None), slice(None)))
    np.testing.assert_array_equal(got, np.where(np.arange(6)[:, None] < 2, 1, -7) * values)


# ---- what is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-9], lambda data: data[:20] + bytes(20) + data[40:], lambda data: b"\1" * len(data)],
    ids=["cut", "changed", "empty"],
)
@pytest.mark.parametrize("filters", [(2, 1), (1,), (1, 3), (3, 2, 1), (3,)], ids=str)
def test_a_damaged_chunk_is_an_error_that_names_variable_and_chunk(tmp_path, filters, damage):
    options = {"zlib": 1 in filters, "shuffle": 2 in filters, "fletcher32": 3 in filters}
    path, values = tmp_path / "x.nc", np.random.default_rng(0).integers(0, 9, (8, 60)).astype("f4")
    write(path, values, chunksizes=(4, 60), **options)
    start, end = chunks_of(check_file(path)["x"]).ranges[1, 0]
    data = path.read_bytes()
    path.write_bytes(data[:start] + damage(data[start:end]).ljust(end - start, b"\0") + data[end:])
    array = opened(path)
    np.testing.assert_array_equal(array.read((slice(0, 4), slice(None))), values[:4])
    with pytest.raises(TrajectoryError, match=r"run\.nc, 'x': damaged: chunk \(1, 0\): .* Get the file again"):
        array.read((slice(None), slice(None)))


def test_a_packed_chunk_that_grows_beyond_its_size_is_refused():
    bomb = np.frombuffer(packed.zlib.compress(bytes(10**7)), np.uint8)
    with pytest.raises(ValueError, match="does not end where it should"):
        packed.unpacked(bomb, (1,), 1000, 4)


@pytest.mark.parametrize("filters", [(), (1,)], ids=str)
def test_a_chunk_outside_the_file_is_an_error(tmp_path, filters):
    path = tmp_path / "x"
    path.write_bytes(bytes(100))
    chunks = Chunks((50,), (10,), np.dtype("f4"), filters, {(4,): (90, 130)})
    array = ChunkArray(LocalFile(str(path), State.of(path)), chunks, "run.nc, 'x'")
    with pytest.raises(TrajectoryError, match=r"'x': damaged: chunk \(4,\): the file ends at byte 100"):
        array.read((slice(40, 50),))


@pytest.mark.parametrize("wrong", [50, -51])
def test_an_index_outside_its_axis_is_refused(tmp_path, wrong):
    write(tmp_path / "x.nc", np.arange(50, dtype="f4"))
    with pytest.raises(IndexError, match="outside an axis of 50"):
        opened(tmp_path / "x.nc").read((np.array([0, wrong]),))


@pytest.mark.parametrize("size", [0, 1, 2, 7, 719, 720, 721, 200_000])
def test_the_checksum_is_that_of_its_definition(size):
    data = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8).tobytes()
    first = second = 0
    for at in range(0, size, 2):
        first += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        first = (first & 0xFFFF) + (first >> 16)
        second += first
        second = (second & 0xFFFF) + (second >> 16)
    assert packed.fletcher32(np.frombuffer(data, np.uint8)) == second << 16 | first


# ---- files of the system -------------------------------------------------------------------------------------------


def test_a_closed_file_is_opened_again_when_it_is_read(tmp_path):
    write(tmp_path / "x.nc", np.arange(9.0))
    array = opened(tmp_path / "x.nc")
    assert descriptors(tmp_path / "x.nc") == 1
    array.file.close()
    assert descriptors(tmp_path / "x.nc") == 0
    np.testing.assert_array_equal(array.read((slice(2, 4),)), [2, 3])


def test_many_open_files_do_not_take_all_descriptors(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_MOST_OPEN", 3)
    paths = [tmp_path / f"{k}.nc" for k in range(6)]
    for k, path in enumerate(paths):
        write(path, np.full(3, float(k)))
    arrays = [opened(path) for path in paths]
    assert sum(map(descriptors, paths)) <= 4
    assert [array.read((0,)) for array in arrays] == [0, 1, 2, 3, 4, 5]


def test_an_array_in_another_process_reads_the_same_file_or_none(tmp_path):
    path, other = tmp_path / "x.nc", tmp_path / "y.nc"
    write(path, np.arange(9.0))
    write(other, np.arange(9.0) + 1)
    sent = pickle.dumps(opened(path))
    np.testing.assert_array_equal(pickle.loads(sent).read((slice(None),)), np.arange(9.0))
    other.replace(path)
    with pytest.raises(TrajectoryError, match=r"x\.nc was replaced since"):
        pickle.loads(sent)


def test_where_the_system_gives_less_than_all_the_rest_is_asked_for(tmp_path, monkeypatch):
    values = np.arange(600.0).reshape(20, 30)
    write(tmp_path / "x.nc", values, chunksizes=(7, 13))
    monkeypatch.setattr(local, "_read_at", lambda number, views, at: os.preadv(number, [memoryview(views[0])[:5]], at))
    array = opened(tmp_path / "x.nc")
    np.testing.assert_array_equal(array.read((slice(1, 19), slice(3, 29))), values[1:19, 3:29])


def test_a_system_without_reads_at_a_place_reads_the_same(tmp_path, monkeypatch):
    values = np.arange(600.0).reshape(20, 30)
    write(tmp_path / "x.nc", values, chunksizes=(7, 13))
    monkeypatch.delattr(os, "preadv", raising=False)
    np.testing.assert_array_equal(opened(tmp_path / "x.nc").read((slice(None), slice(2, 30))), values[:, 2:])


# ---- memory --------------------------------------------------------------------------------------------------------


def test_memory_is_used_again_once_no_view_of_it_is_left(monkeypatch):
    monkeypatch.setattr(memory, "_LEAST_BYTES", 1000)
    monkeypatch.setattr(memory, "_FREE", {})
    first = memory.empty((10, 50), "f8")
    view, place = first[3:5], first.ctypes.data
    del first
    other = memory.empty((10, 50), "f8")
    assert other.ctypes.data != place
    view[:] = 7
    other[:] = 1
    assert (view == 7).all()
    del view
    assert memory.empty((1800,), "i2").ctypes.data == place
    assert memory.empty((3,), "f8").shape == (3,)


def test_memory_that_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(memory, "_LEAST_BYTES", 100)
    monkeypatch.setattr(memory, "_MOST_KEPT", 5000)
    monkeypatch.setattr(memory, "_FREE", {})
    arrays = [memory.empty((size,), "u1") for size in range(1000, 2000, 100)]
    del arrays
    assert 3000 < sum(kept.nbytes for kept in memory._FREE.values()) <= 5000
