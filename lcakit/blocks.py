"""From the chunks of a file to the blocks of Dask: whole chunks, about 64 MB, dimensions in the order of the format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from lcakit import schema

BLOCK_BYTES = 64 * 2**20
WINDOW_BYTES = 64 * 2**20


def dask_chunks(ds: xr.Dataset) -> dict[str, int]:
    """Return Dask chunk sizes: multiples of the file's chunks, about 64 MB for a per-parameter variable."""
    sizes = {str(dim): n for dim, n in ds.sizes.items()}
    steps, columns = _file_chunks(ds)
    wide = max(1, BLOCK_BYTES // (4 * steps * columns)) * columns
    width = max(min(wide, sizes.get("parameter", 1)), sizes.get("unit", 1) * sizes.get("class", 1))
    tall = max(1, BLOCK_BYTES // (4 * steps * width)) * steps
    chunks = {"parameter": wide, "iteration": tall, "snapshot": tall}
    return {dim: chunks.get(dim, n) for dim, n in sizes.items()}


def _file_chunks(ds: xr.Dataset) -> tuple[int, int]:
    """Return iterations and parameters of a chunk of the file; those of the format where they make no sense."""
    large = [array for array in ds.data_vars.values() if {"parameter", "unit"} & set(array.dims)]
    found = [array.encoding.get("preferred_chunks", {}) for array in large]
    steps = max((int(c.get(dim, 0)) for c in found for dim in ("iteration", "snapshot")), default=0)
    columns = max((int(c.get("parameter", 1)) for c in found), default=0)
    if 0 < 4 * steps * columns <= BLOCK_BYTES:
        return steps, columns
    return schema.CHUNK_ITERATIONS, schema.CHUNK_PARAMETERS


def in_order(name: str, variable: xr.Variable) -> Any:
    """Return a variable of a file with its dimensions in the order of the format: compact copies have time last."""
    spec = schema.VARIABLES.get(schema.split_name(name)[0])
    order = spec.dims if spec is not None else ()
    dims = sorted(map(str, variable.dims), key=lambda dim: order.index(dim) if dim in order else -1)
    return variable if dims == list(variable.dims) else _Reordered(variable, tuple(dims))


class _Reordered:
    """A variable of a file, not read yet, with its dimensions in another order; blocks of it are laid out anew."""

    def __init__(self, variable: xr.Variable, dims: tuple[str, ...]) -> None:
        self._variable, self.dims = variable, dims
        self._axes = [variable.dims.index(dim) for dim in self.dims]
        self.shape = tuple(variable.shape[axis] for axis in self._axes)
        self.dtype, self.ndim, self.attrs = variable.dtype, variable.ndim, variable.attrs
        self.encoding = {k: v for k, v in variable.encoding.items() if k not in ("chunksizes", "original_shape")}

    def __getitem__(self, key: tuple[Any, ...]) -> xr.Variable:
        place = dict(zip(self._axes, key, strict=True))
        part = self._variable[tuple(place[axis] for axis in range(self.ndim))]
        dims = [dim for dim in self.dims if dim in part.dims]
        return xr.Variable(dims, np.asarray(part.values.transpose([part.dims.index(d) for d in dims]), order="C"))


def windows(array: xr.DataArray) -> Iterator[tuple[slice, ...]]:
    """Cut a variable into windows of whole file chunks, at most WINDOW_BYTES each: long rows first, then many rows."""
    window = window_shape(tuple(map(str, array.dims)), array.shape, array.dtype.itemsize)
    for index in np.ndindex(*(-(-n // w) for n, w in zip(array.shape, window, strict=True))):
        yield tuple(slice(i * w, min((i + 1) * w, n)) for i, w, n in zip(index, window, array.shape, strict=True))


def window_shape(dims: tuple[str, ...], shape: tuple[int, ...], itemsize: int) -> list[int]:
    """Return the shape of a window of a variable: whole chunks of the file, at most WINDOW_BYTES."""
    window = list(schema.chunk_sizes(dims, dict(zip(dims, shape, strict=True))))
    for axis in reversed(range(len(window))):
        room = WINDOW_BYTES // (itemsize * int(np.prod(window)))
        if room > 1:
            window[axis] = min(shape[axis], window[axis] * room)
    return window
