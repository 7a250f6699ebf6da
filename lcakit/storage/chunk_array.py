"""Variables of netCDF-4 files, read chunk by chunk without the HDF5 library: on disk and behind URLs.

The library inflates whatever a packed chunk holds, and a megabyte can hold a gigabyte of zeros. Here no chunk takes
more memory than it should, and chunks are unpacked by several threads at once, since no lock of the library is held.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from lcakit.errors import TrajectoryError
from lcakit.storage.guard.hdf5 import Stored
from lcakit.storage.state import State

__all__ = ["DEFLATE", "SHUFFLE", "ChunkArray", "Chunks", "LocalFile", "Parts", "packed_chunks"]


def __dir__() -> list[str]:
    return __all__


DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3  # numbers of the HDF5 filters
_REQUEST_BYTES, GAP_BYTES = 2**23, 2**16  # chunks so near to each other are asked for together

_Place = tuple[int, ...]
_Range = tuple[int, int]


class Parts(Protocol):
    """A file that can be read in parts."""

    def parts(self, ranges: Sequence[_Range]) -> list[bytes]:
        """Return the bytes from each start to each end."""
        ...


class LocalFile:
    """A file on disk: always the same one, whatever gets its name meanwhile.

    Raises
    ------
    TrajectoryError
        Where the file of that name is another one when it is opened, in a worker or again.
    """

    def __init__(self, path: str, state: State) -> None:
        self.path, self.state = path, state
        self._close: Any = None
        self._open()

    def _open(self) -> int:
        self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._close = weakref.finalize(self, os.close, self._descriptor)
        if State.of(self._descriptor) != self.state:
            self.close()
            raise TrajectoryError(f"{self.path} was replaced since it was opened. Open it again.")
        return self._descriptor

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        self._close()

    def parts(self, ranges: Sequence[_Range]) -> list[bytes]:
        """Return the bytes from each start to each end; OSError where the file is shorter."""
        with _READING:
            descriptor = self._descriptor if self._close.alive else self._open()
            return [_read(descriptor, start, end) for start, end in ranges]

    def __getstate__(self) -> tuple[str, State]:
        return self.path, self.state

    def __setstate__(self, state: tuple[str, State]) -> None:
        LocalFile.__init__(self, *state)


_READING = threading.Lock()  # a descriptor has one place


def _read(descriptor: int, start: int, end: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    data = bytearray()
    while len(data) < end - start:  # the system may give less than all at once
        part = os.read(descriptor, end - start - len(data))
        if not part:
            raise OSError(f"it ends before byte {end:,}")
        data += part
    return bytes(data)


# ---- where chunks lie ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunks:
    """The chunks of a variable: where each lies in the file, by its place in the grid, and in what form."""

    shape: _Place
    chunk: _Place
    dtype: np.dtype[Any]
    filters: _Place
    ranges: Mapping[_Place, _Range]

    def unpacked(self, data: bytes) -> np.ndarray:
        """Return the numbers of a chunk. What is packed has a checksum, which is compared."""
        size = math.prod(self.chunk) * self.dtype.itemsize
        if FLETCHER32 in self.filters:  # beside deflate, which has a checksum of its own
            data = data[:-4]
        if DEFLATE in self.filters:
            data = _inflated(data, size)
        if len(data) != size:
            raise ValueError(f"a chunk has {len(data):,} bytes, not {size:,}")
        if SHUFFLE in self.filters:
            data = np.frombuffer(data, np.uint8).reshape(self.dtype.itemsize, -1).T.tobytes()
        return np.frombuffer(data, self.dtype).reshape(self.chunk)


def _inflated(data: bytes, size: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        out = inflate.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"a packed chunk is damaged: {error}") from error
    if not inflate.eof:
        raise ValueError("a packed chunk does not end where it should")
    return out


def packed_chunks(stored: Stored) -> Chunks | None:
    """Return the chunks of a variable that is packed by deflate; None for any other, which the library reads."""
    plain = tuple(f for f in stored.filters if f != SHUFFLE)
    shuffled_first = SHUFFLE not in stored.filters[1:]
    if plain not in ((DEFLATE,), (DEFLATE, FLETCHER32)) or not shuffled_first or not stored.dtype.number:
        return None
    return Chunks(stored.shape, stored.chunk, np.dtype(stored.dtype.number), stored.filters, stored.ranges)


# ---- reading ---------------------------------------------------------------------------------------------------


class ChunkArray(BackendArray):
    """A variable in chunks, for xarray: asks the file for the chunks that a read needs."""

    def __init__(self, file: Parts, chunks: Chunks) -> None:
        self.file, self.chunks = file, chunks
        self.shape, self.dtype = chunks.shape, chunks.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return the numbers at a key of xarray."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self.read)

    def read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        """Return the numbers at slices and places, one of each dimension: read the box around them, then pick."""
        picked = [
            range(n)[k] if isinstance(k, slice) else range(n)[k : k + 1 or None]
            for k, n in zip(key, self.shape, strict=True)
        ]
        out = np.empty([max(p) + 1 - min(p) if p else 0 for p in picked], self.dtype)
        if out.size:
            self._fill(out, [min(p) for p in picked])
        return out[tuple(_inside(k, p) for k, p in zip(key, picked, strict=True))]

    def _fill(self, out: np.ndarray, start: list[int]) -> None:
        sides = zip(start, out.shape, self.chunks.chunk, strict=True)
        places = itertools.product(*(range(a // c, -(-(a + n) // c)) for a, n, c in sides))
        groups = list(_neighbours({place: self.chunks.ranges[place] for place in places}))
        requests = [(min(a for a, _ in g.values()), max(b for _, b in g.values())) for g in groups]
        for group, (first, _), data in zip(groups, requests, self.file.parts(requests), strict=True):
            for place, (a, b) in group.items():
                self._put(out, start, place, self.chunks.unpacked(data[a - first : b - first]))

    def _put(self, out: np.ndarray, start: list[int], place: _Place, block: np.ndarray) -> None:
        """Copy what a chunk and the box have in common."""
        corner = [p * c - a for p, c, a in zip(place, self.chunks.chunk, start, strict=True)]
        ends = [(max(0, a), min(n, a + c)) for a, c, n in zip(corner, block.shape, out.shape, strict=True)]
        inside = tuple(slice(low - a, high - a) for a, (low, high) in zip(corner, ends, strict=True))
        out[tuple(slice(low, high) for low, high in ends)] = block[inside]


def _inside(key: int | slice, picked: range) -> int | slice:
    """Return where in the box lies what was picked."""
    if not isinstance(key, slice):
        return 0
    return slice(picked[0] - min(picked), None, picked.step) if picked else slice(0, 0)


def _neighbours(ranges: dict[_Place, _Range]) -> Iterator[dict[_Place, _Range]]:
    """Group chunks that lie side by side in the file."""
    group: dict[_Place, _Range] = {}
    first = last = 0
    for place, (start, end) in sorted(ranges.items(), key=lambda item: item[1]):
        if group and (start - last > GAP_BYTES or end - first > _REQUEST_BYTES):
            yield group
            group = {}
        first, last = (first if group else start), end
        group[place] = (start, end)
    if group:
        yield group
