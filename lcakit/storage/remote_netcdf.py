"""netCDF-4 files behind a URL: opened from a few blocks, and then read chunk by chunk without the HDF5 library.

On opening, the structure of the file is checked, everything small is loaded, and the place of each chunk of the large
variables is noted. From then on a read asks the server for the chunks it needs, several at once, and unpacks them here:
nothing of the structure is asked for again, so a server cannot change it later, and no lock of the HDF5 library is held
while anyone waits for the network.
"""

from __future__ import annotations

import math
from typing import Any

import xarray as xr
from xarray.core import indexing

from lcakit.packages import package
from lcakit.storage import guard
from lcakit.storage.chunk_array import DEFLATE, SHUFFLE, ChunkArray, Chunks
from lcakit.storage.guard.hdf5 import Stored
from lcakit.storage.remote import RangeFile, Remote
from lcakit.trajectory import schema

__all__ = ["UnknownLayoutError", "chunks_of", "open_raw"]


def __dir__() -> list[str]:
    return __all__


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
        arrays = {name: ChunkArray(file.remote, chunks_of(h5[name])) for name in large}
    lazy = {name: indexing.LazilyIndexedArray(array) for name, array in arrays.items()}
    return small.assign({name: xr.Variable(v.dims, lazy[name], v.attrs, v.encoding) for name, v in about.items()})


# ---- where chunks lie ------------------------------------------------------------------------------------------


def chunks_of(variable: Any) -> Chunks:
    """Return where the chunks of an ``h5py.Dataset`` lie; one without chunks is cut into rows.

    Raises
    ------
    UnknownLayoutError
        For filters other than shuffle and deflate, or numbers of another kind than integers and floats.
    """
    settings = variable.id.get_create_plist()
    filters = tuple(settings.get_filter(n)[0] for n in range(settings.get_nfilters()))
    if filters not in ((), (DEFLATE,), (SHUFFLE,), (SHUFFLE, DEFLATE)) or variable.dtype.kind not in "fiu":
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
