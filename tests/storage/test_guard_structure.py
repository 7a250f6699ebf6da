"""Structures of an HDF5 file that contradict each other: heaps of text, indexes of chunks, blocks, sizes."""

from __future__ import annotations

import io
import time

import netCDF4
import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.storage import guard
from lcakit.storage.guard.blocks import Blocks, CorruptError, Cursor
from lcakit.storage.guard.chunks import ChunkIndex
from lcakit.storage.guard.hdf5 import Stored
from lcakit.storage.guard.heaps import REFERENCE, Texts
from lcakit.storage.guard.messages import Type, read_type
from lcakit.testing import tiny_trajectory
from lcakit.trajectory import schema
from tests.support.hdf5_files import block_of, patched


def test_text_whose_free_space_has_no_size_would_hang_the_library(path):
    address, length = block_of(path, "the text")
    data = path.read_bytes()[address : address + length]
    at = 16
    while int.from_bytes(data[at : at + 2], "little"):  # over the texts to the free space
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    patched(path, address + at + 8, bytes(8))
    began = time.monotonic()
    with pytest.raises(lk.TrajectoryError, match="free space"):
        lk.open_trajectory(path)
    assert time.monotonic() - began < 10


def test_texts_do_not_share_bytes(path):
    """A small file with very many references to one long text would fill the memory."""
    address, _ = block_of(path, "the data of 'tensor_role'")
    reference = path.read_bytes()[address : address + 16]
    patched(path, address + 16, reference)
    with pytest.raises(lk.TrajectoryError, match="belong to another"):
        lk.open_trajectory(path)


@pytest.mark.parametrize(
    ("field", "new", "message"),
    [
        (24, 1, "for .* of data"),  # bytes of a chunk
        (28, 1, "for .* of data"),  # a filter left out
        (32, 5, "not in order|does not have"),  # where the first chunk begins
        (56, 0, "same bytes|does not"),  # where its bytes are
        (56, 10**9, "but the file has"),
        (5, 1, "not readable|TREE"),  # the level
        (6, 0, "not readable"),  # the number of entries
        (6, 65, "not readable"),
    ],
)
def test_an_index_of_chunks_that_is_wrong(path, field, new, message):
    address, _ = block_of(path, "the chunk index of 'theta'")
    width = 8 if field >= 32 else 1
    patched(path, address + field, int(new).to_bytes(width, "little"))
    with pytest.raises(lk.TrajectoryError, match=rf"run\.nc.*({message})"):
        lk.open_trajectory(path)


def test_two_chunks_in_one_place(tmp_path, monkeypatch, ds):
    monkeypatch.setattr(schema, "CHUNK_ITERATIONS", 5)
    path = lk.save(ds, tmp_path / "run.nc")
    address, _ = block_of(path, "the chunk index of 'theta'")
    child = path.read_bytes()[address + 56 : address + 64]
    patched(path, address + 56 + 40, child)  # the second entry is 40 bytes behind the first
    with pytest.raises(lk.TrajectoryError, match="lie on the same bytes"):
        lk.open_trajectory(path)


@pytest.fixture
def blank() -> Blocks:
    return Blocks(io.BytesIO(bytes(100)), 100)


def test_chunks_that_unpack_to_too_much(blank):
    with pytest.raises(CorruptError, match="packed in chunks of 1,073,741,824 bytes"):
        ChunkIndex(blank, (10,), (2**28, 4), True, "v")
    ChunkIndex(blank, (10,), (2**28, 4), False, "v")
    with pytest.raises(CorruptError, match="10 bytes, for 4,000,000 of data"):
        ChunkIndex(blank, (10**6,), (10**6, 4), True, "v")._leaf(10, 0, (0, 0), 0)


def test_a_chunk_with_a_filter_left_out(blank):
    with pytest.raises(CorruptError, match="40 bytes, for 40 of data"):
        ChunkIndex(blank, (10,), (10, 4), True, "v")._leaf(40, 1, (0, 0), 0)


def test_blocks_that_overlap_in_part(blank):
    for address in (20, 0, 10):
        blank.claim(address, 10, f"block {address}")
    blank.check_overlaps()
    blank.claim(29, 5, "another")
    with pytest.raises(CorruptError, match=r"block 20 and another lie on the same bytes \(29\)"):
        blank.check_overlaps()


def test_numbers_are_those_of_ieee():
    def cursor(*bits):
        head = b"\x11\x20\x1f\x00" + (4).to_bytes(4, "little")
        return Cursor(head + bytes([0, 0, 32, 0, *bits]) + (127).to_bytes(4, "little"), "a type")

    assert read_type(cursor(23, 8, 0, 23)).size == 4
    with pytest.raises(CorruptError, match="IEEE"):
        read_type(cursor(24, 7, 0, 24))


@pytest.mark.parametrize(("length", "fine"), [(6, True), (8, True), (9, False)])
def test_a_text_is_no_longer_than_what_is_stored(length, fine):
    def entry(index, size):
        return index.to_bytes(2, "little") + bytes(6) + size.to_bytes(8, "little")

    body = entry(1, 8) + b"kernel\0\0"
    heap = b"GCOL\x01" + bytes(3) + (128).to_bytes(8, "little") + body
    heap += entry(0, 128 - len(heap))
    file = bytes(8) + heap.ljust(128, b"\0")
    texts, reference = Texts(Blocks(io.BytesIO(file), len(file))), np.array([(length, 8, 1)], REFERENCE).tobytes()
    if fine:
        assert texts.check(reference, 1, "'role'") == [b"kernel\0\0"[:length]]
    else:
        with pytest.raises(CorruptError, match="'role' points to text that is not there"):
            texts.check(reference, 1, "'role'")


def test_more_declared_than_stored():
    ds = xr.Dataset({"loss": ("snapshot", np.zeros(5))})
    guard.check_declared(ds, {"loss": Stored((5,), Type(1, 8), True, False)}, "run.nc")
    with pytest.raises(lk.TrajectoryError, match=r"'loss' declares shape \(5,\), but shape \(3,\) is stored"):
        guard.check_declared(ds, {"loss": Stored((3,), Type(1, 8), True, False)}, "run.nc")


def test_sizes_are_checked_before_anything_is_loaded(tmp_path):
    path = tmp_path / "bomb.nc"
    tiny_trajectory(3).drop_dims("parameter").to_netcdf(path, engine="netcdf4")
    with netCDF4.Dataset(path, "a") as file:
        file.createDimension("parameter", 10**10)
        file.createVariable("tensor_index", "i4", ("parameter",), compression="zlib", chunksizes=(10**6,))
    with pytest.raises(lk.TrajectoryError, match=r"'(tensor_index|parameter)' would take 40,000,000,000 bytes"):
        lk.open_trajectory(path)


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_every_cut_is_told(path, size):
    path.write_bytes(path.read_bytes()[:-size])
    with pytest.raises(lk.TrajectoryError, match="cut short"):
        lk.open_trajectory(path)


def test_remote_files_are_walked_through_their_handle(path):
    assert guard.check_file("https://x/run.nc", io.BytesIO(path.read_bytes())).keys() == guard.check_file(path).keys()
    with pytest.raises(lk.TrajectoryError, match=r"https://x/run\.nc"):
        guard.check_file("https://x/run.nc", io.BytesIO(path.read_bytes()[:-9]))
