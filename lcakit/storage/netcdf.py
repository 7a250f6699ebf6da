"""Trajectories as netCDF-4 files: what is small at once, what is large in windows of whole chunks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any, Literal

import netCDF4
import numpy as np
import xarray as xr
from xarray.backends import NetCDF4DataStore
from xarray.backends.locks import HDF5_LOCK

from lcakit.progress import progress
from lcakit.storage.atomic import written_whole
from lcakit.storage.blocks import threads_by_default, windows
from lcakit.storage.early_chunks import EarlyChunks
from lcakit.trajectory import schema
from lcakit.trajectory.columns import parts

__all__ = ["opened", "write", "write_columns", "write_netcdf", "write_window"]


def __dir__() -> list[str]:
    return __all__


_LONG = 2.0  # seconds of writing, after which a bar shows how far it is


def write_netcdf(
    ds: xr.Dataset, path: Path, encoding: Mapping[Any, Any] | None = None, mode: Literal["w", "a"] = "w"
) -> None:
    """Write a dataset that is in memory as a new file, or (``mode="a"``) into one that has no variables yet.

    As ``to_netcdf`` does, which also asks for a client of Dask and imports ``dask.distributed`` for that (0.5 s).
    """
    with HDF5_LOCK:  # for all of it: also making a variable or an attribute is the library's work
        new = NetCDF4DataStore.open(str(path), mode=mode, lock=False)
        try:
            ds.dump_to_store(new, encoding=encoding)
        finally:
            new.close()


def write(
    ds: xr.Dataset,
    small: xr.Dataset,
    path: Path,
    compression: str | None,
    quiet: bool,
    early: EarlyChunks | None = None,
) -> None:
    """Write a trajectory as one file, whole or not at all.

    Parameters
    ----------
    ds
        The trajectory; its large variables are read and written window by window.
    small
        What of it is in memory, with the attributes of the file.
    compression
        None or ``"zlib"``.
    early
        Chunks that are written already: their file becomes this one.
    """
    columns = [str(name) for name in ds.coords if name not in small.variables]
    large = [str(name) for name in ds.data_vars if name not in small.variables]
    chunks = early.chunks if early is not None else {}
    places = [(name, window) for name in large for window in _windows(ds[name], chunks.get(name))]
    with written_whole(path) as temporary, threads_by_default():
        if early is not None:
            early.become(temporary, _write_nothing)
        encoding = {name: {"_FillValue": None} for name in small.variables}
        write_netcdf(small, temporary, encoding, mode="w" if early is None else "a")
        total = sum(ds[name].dtype.itemsize * math.prod(s.stop - s.start for s in window) for name, window in places)
        with (
            progress(total, f"writing {path.name}", unit="B", quiet=quiet, after=_LONG) as bar,
            opened(temporary) as file,
        ):
            write_columns(file, ds, columns)
            _create(file, ds, large, compression, chunks)
            for name, window, block in _read_ahead(ds, places):
                write_window(file[name], window, block)
                bar.update(block.nbytes)
        if early is not None:
            early.write_indexes(temporary)


_Window = tuple[slice, ...]


def _windows(array: xr.DataArray, chunk: tuple[int, ...] | None) -> Iterator[_Window]:
    """Cut a variable into windows to write; of one whose chunks are there, only its last: so it gets an index."""
    if chunk is None:
        yield from windows(array)
    else:
        yield tuple(slice((n - 1) // c * c, n) for n, c in zip(array.shape, chunk, strict=True))


def _write_nothing(path: Path) -> None:
    with HDF5_LOCK:
        netCDF4.Dataset(path, "w").close()


def write_columns(file: netCDF4.Dataset, ds: xr.Dataset, names: Iterable[str], **compression: Any) -> None:
    """Write the label columns of a large network in parts, each a chunk where there is compression."""
    for name in names:
        column = ds[name].variable
        chunk = next(parts(column.size)).stop
        options = {"chunksizes": (chunk,), **compression} if compression else {}
        with HDF5_LOCK:
            if "parameter" not in file.dimensions:
                file.createDimension("parameter", column.size)
            stored = file.createVariable(
                name, column.dtype.newbyteorder("="), ("parameter",), fill_value=False, **options
            )
            stored.setncatts(column.attrs)
            stored.set_auto_maskandscale(False)
        for part in parts(column.size):
            write_window(stored, (part,), np.asarray(column[part].values))


def _read_ahead(ds: xr.Dataset, places: list[tuple[str, _Window]]) -> Iterator[tuple[str, _Window, np.ndarray]]:
    """Yield windows of variables; the next one is read while the caller has one."""
    context = copy_context()  # holds the caller's client of Dask, where there is one

    def read(place: tuple[str, _Window]) -> np.ndarray:
        name, window = place
        return np.asarray(ds[name][window].values)

    with ThreadPoolExecutor(1, "lcakit-reader") as reader:
        coming = [reader.submit(context.run, read, place) for place in places[:1]]
        for place, following in zip(places, [*places[1:], None], strict=True):
            block = coming.pop().result()
            if following is not None:
                coming.append(reader.submit(context.run, read, following))
            yield *place, block


@contextmanager
def opened(path: Path) -> Iterator[netCDF4.Dataset]:
    """Open a file to write to; the library's lock is held for opening and closing, not between."""
    with HDF5_LOCK:
        file = netCDF4.Dataset(path, "a")
        file.set_fill_off()
    try:
        yield file
    finally:
        with HDF5_LOCK:
            file.close()


def _create(
    file: netCDF4.Dataset,
    ds: xr.Dataset,
    names: list[str],
    compression: str | None,
    chunks: Mapping[str, tuple[int, ...]],
) -> None:
    with HDF5_LOCK:
        for dim, size in ds.sizes.items():
            if dim not in file.dimensions:
                file.createDimension(str(dim), size)
        for name in names:
            array = ds[name]
            options: dict[str, Any] = {"compression": "zlib", "complevel": 1, "shuffle": True} if compression else {}
            dims = tuple(map(str, array.dims))
            chunk = chunks.get(name) or schema.chunk_sizes(dims, {str(k): v for k, v in ds.sizes.items()})
            variable = file.createVariable(
                name, array.dtype.newbyteorder("="), dims, chunksizes=chunk, fill_value=False, **options
            )
            coords = " ".join(str(c) for c in array.coords if c not in array.dims)
            variable.setncatts(array.attrs | ({"coordinates": coords} if coords else {}))
            variable.set_auto_maskandscale(False)
            # a cache of one chunk: each is written whole and only once, and the library would fill 64 MB
            size = variable.dtype.itemsize * math.prod(chunk)
            variable.set_var_chunk_cache(size=size, nelems=1, preemption=1.0)


def write_window(variable: netCDF4.Variable[Any], window: tuple[slice, ...], block: np.ndarray) -> None:
    """Write one window of a variable: whole chunks, each only once."""
    with HDF5_LOCK:
        variable[window] = block
