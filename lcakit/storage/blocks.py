"""From the chunks of a file to the blocks of Dask: whole chunks, dimensions in the order of the format."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dask
import dask.threaded
import numpy as np
import xarray as xr

from lcakit.trajectory import schema

__all__ = [
    "BLOCK_BYTES",
    "MERGED_BYTES",
    "WINDOW_BYTES",
    "dask_chunks",
    "in_order",
    "threads_by_default",
    "window_shape",
    "windows",
]


def __dir__() -> list[str]:
    return __all__


BLOCK_BYTES = 64 * 2**20
WINDOW_BYTES = 64 * 2**20
MERGED_BYTES = 28 * 2**20
"""What is merged at a time: glibc reuses the memory of arrays below 32 MB, and maps larger ones each time."""


def dask_chunks(ds: xr.Dataset, far: bool = False) -> dict[str, int]:
    """Return Dask chunk sizes: multiples of the file's chunks, about 64 MB for a per-parameter variable.

    Of a file that is ``far``, behind a URL, a block has as many chunks along iterations as along parameters: whichever
    of the two a selection is narrow in, there are several chunks to wait for at the same time. Else its rows are long.
    """
    sizes = {str(dim): n for dim, n in ds.sizes.items()}
    steps, columns = _file_chunks(ds)
    fitting = max(1, BLOCK_BYTES // (4 * steps * columns))
    wide = (math.isqrt(fitting) if far else fitting) * columns
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
    """A variable of a file, not read yet, with its dimensions in another order; blocks are transposed when read."""

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
    """Cut a variable into windows of whole file chunks, at most WINDOW_BYTES each.

    They are the blocks of Dask where these are so, since a block that is computed is best computed once.
    """
    window = _dask_blocks(array) or window_shape(tuple(map(str, array.dims)), array.shape, array.dtype.itemsize)
    for index in np.ndindex(*(-(-n // w) for n, w in zip(array.shape, window, strict=True))):
        yield tuple(slice(i * w, min((i + 1) * w, n)) for i, w, n in zip(index, window, array.shape, strict=True))


def _dask_blocks(array: xr.DataArray) -> list[int] | None:
    """Return the shape of the blocks, where they are even, whole chunks of the file, and not too large."""
    if array.chunks is None or not array.size:
        return None
    chunk = schema.chunk_sizes(tuple(map(str, array.dims)), {str(dim): n for dim, n in array.sizes.items()})
    shape = [blocks[0] for blocks in array.chunks]
    even = all(set(blocks[:-1]) <= {blocks[0]} and blocks[-1] <= blocks[0] for blocks in array.chunks)
    whole = all(w % c == 0 or w == n for w, c, n in zip(shape, chunk, array.shape, strict=True))
    small = array.dtype.itemsize * int(np.prod(shape)) <= WINDOW_BYTES
    return shape if even and whole and small else None


def window_shape(dims: tuple[str, ...], shape: tuple[int, ...], itemsize: int, most: int | None = None) -> list[int]:
    """Return the shape of windows of whole file chunks: long rows first, then many, at most ``most`` bytes."""
    window = list(schema.chunk_sizes(dims, dict(zip(dims, shape, strict=True))))
    for axis in reversed(range(len(window))):
        fitting = (most or WINDOW_BYTES) // (itemsize * int(np.prod(window)))
        if fitting > 1:
            window[axis] = min(shape[axis], window[axis] * fitting)
    return window


def threads_by_default() -> AbstractContextManager[Any]:
    """Let Dask compute with threads where neither a scheduler nor a client was chosen.

    Left to choose, Dask imports ``dask.distributed`` to look for a client (0.5 s); where that was never imported, there
    is none.
    """
    chosen = "distributed" in sys.modules or dask.config.get("scheduler", None) is not None
    return nullcontext() if chosen else dask.config.set(scheduler=dask.threaded.get)
