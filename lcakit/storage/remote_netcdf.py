"""netCDF-4 files behind a URL: opened from a few blocks, and then read chunk by chunk without the HDF5 library.

On opening, the structure of the file is checked, everything small is loaded, and the place of each chunk of the large
variables is noted. From then on a read asks the server for the chunks it needs, several at once, and unpacks them here:
nothing of the structure is asked for again, so a server cannot change it later, and no lock of the HDF5 library is held
while anyone waits for the network.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from lcakit.packages import package
from lcakit.storage import guard
from lcakit.storage.guard.hdf5 import Stored
from lcakit.storage.remote import RangeFile, Remote
from lcakit.trajectory import schema

__all__ = ["Chunks", "RemoteArray", "UnknownLayoutError", "chunks_of", "open_raw"]


def __dir__() -> list[str]:
    return __all__


_DEFLATE, _SHUFFLE = 1, 2  # numbers of the HDF5 filters
_REQUEST_BYTES, GAP_BYTES = 2**23, 2**16  # chunks so near to each other are asked for together

_Place = tuple[int, ...]
_Range = tuple[int, int]


class UnknownLayoutError(Exception):
    """A variable is stored in a way that is not read in parts."""


def open_raw(url: str, remote: Remote) -> tuple[xr.Dataset, dict[str, Stored]]:
    """Open a remote file as it is: small variables in memory, large ones not read; and what its structure declares.

    Raises
    ------
    TrajectoryError
        If the server fails, or the file is damaged.
    UnknownLayoutError
        If it can only be read as a whole.
    """
    package("h5netcdf", "reading a file behind a URL")
    file = RangeFile(remote)
    stored = guard.check_file(url, file)  # type: ignore[arg-type]
    with guard.reading(url):
        return file.run_offline(lambda: _opened(file)), stored


def _opened(file: RangeFile) -> xr.Dataset:
    h5py = package("h5py", "reading a file behind a URL")
    with xr.open_dataset(file, engine="h5netcdf", decode_cf=False) as ds:
        large = [str(n) for n in ds.data_vars if ds[n].ndim > 1 and n not in schema.COORDINATES]
        about = {name: ds[name].variable for name in large}
        small = ds.drop_vars(large).load()
    with h5py.File(file) as h5:
        arrays = {name: RemoteArray(file.remote, chunks_of(h5[name])) for name in large}
    lazy = {name: indexing.LazilyIndexedArray(array) for name, array in arrays.items()}
    return small.assign({name: xr.Variable(v.dims, lazy[name], v.attrs, v.encoding) for name, v in about.items()})


# ---- where chunks lie ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunks:
    """The chunks of a variable: where each lies in the file, by its place in the grid, and in what form."""

    shape: _Place
    chunk: _Place
    dtype: np.dtype[Any]
    filters: _Place
    ranges: dict[_Place, _Range]

    def unpacked(self, data: bytes) -> np.ndarray:
        """Return the numbers of a chunk. What is packed has a checksum, which is compared."""
        size = math.prod(self.chunk) * self.dtype.itemsize
        if _DEFLATE in self.filters:
            data = _inflated(data, size)
        if len(data) != size:
            raise ValueError(f"a chunk has {len(data):,} bytes, not {size:,}")
        if _SHUFFLE in self.filters:
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


def chunks_of(variable: Any) -> Chunks:
    """Return where the chunks of an ``h5py.Dataset`` lie; one without chunks is cut into rows.

    Raises
    ------
    UnknownLayoutError
        For filters other than shuffle and deflate, or numbers of another kind than integers and floats.
    """
    settings = variable.id.get_create_plist()
    filters = tuple(settings.get_filter(n)[0] for n in range(settings.get_nfilters()))
    if filters not in ((), (_DEFLATE,), (_SHUFFLE,), (_SHUFFLE, _DEFLATE)) or variable.dtype.kind not in "fiu":
        raise UnknownLayoutError
    if variable.chunks is None:
        return _rows_of(variable)
    found: list[Any] = []
    variable.id.chunk_iter(found.append)
    if any(info.filter_mask for info in found):
        raise UnknownLayoutError
    ranges = {
        tuple(a // c for a, c in zip(info.chunk_offset, variable.chunks, strict=True)): (
            info.byte_offset,
            info.byte_offset + info.size,
        )
        for info in found
    }
    return Chunks(variable.shape, variable.chunks, variable.dtype, filters, ranges)


def _rows_of(variable: Any) -> Chunks:
    start = variable.id.get_offset()
    if start is None:
        raise UnknownLayoutError
    row = math.prod(variable.shape[1:]) * variable.dtype.itemsize
    ranges = {
        (n, *[0] * (variable.ndim - 1)): (start + n * row, start + (n + 1) * row) for n in range(variable.shape[0])
    }
    return Chunks(variable.shape, (1, *variable.shape[1:]), variable.dtype, (), ranges)


# ---- reading ---------------------------------------------------------------------------------------------------


class RemoteArray(BackendArray):
    """A variable of a remote file, for xarray: asks for the chunks that a read needs."""

    def __init__(self, remote: Remote, chunks: Chunks) -> None:
        self.remote, self.chunks = remote, chunks
        self.shape, self.dtype = chunks.shape, chunks.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return the numbers at a key of xarray."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        """Read the box around slices and single places, then pick from it."""
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
        for group, (first, _), data in zip(groups, requests, self.remote.parts(requests), strict=True):
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
