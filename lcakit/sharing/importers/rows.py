"""Tables (rows, columns) that are read in blocks when Dask asks for them; nothing is kept in memory."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from lcakit.storage.blocks import MERGED_BYTES, window_shape
from lcakit.trajectory.schema import CHUNK_ITERATIONS, CHUNK_PARAMETERS

__all__ = ["BLOCK_BYTES", "WIDEST", "Rows", "lazy", "to_write"]


def __dir__() -> list[str]:
    return __all__


BLOCK_BYTES = 64 * 2**20
WIDEST = 16 * CHUNK_PARAMETERS
"""With 64 rows this is 64 MB."""


class Rows:
    """A table, of float32 by default. Subclasses say how a block of it is read."""

    dtype: np.dtype[Any] = np.dtype("f4")
    ndim = 2

    def __init__(self, rows: int, columns: int) -> None:
        self.shape = rows, columns

    def read(self, start: int, stop: int, left: int, right: int) -> np.ndarray:
        """Return the rows ``start:stop`` of the columns ``left:right``."""
        raise NotImplementedError

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = key if isinstance(key, tuple) else (key,)
        rows, columns = (_span(k, n) for k, n in zip((*keys, slice(None))[:2], self.shape, strict=True))
        block = self.read(*rows[0], *columns[0])
        out: np.ndarray = block[rows[1]][..., columns[1]]
        return out


def _span(key: Any, size: int) -> tuple[tuple[int, int], Any]:
    """Return the range of an axis that holds what ``key`` asks for, and the key inside that range."""
    if isinstance(key, slice) and key.step in (None, 1):
        start, stop, _ = key.indices(size)
        return (start, max(start, stop)), slice(None)
    picked = np.arange(size)[key]
    start, stop = (int(picked.min()), int(picked.max()) + 1) if picked.size else (0, 0)
    return (start, stop), picked - start


def lazy(rows: Rows, whole_rows: bool = False) -> da.Array:
    """Return a table as a Dask array in blocks of about 64 MB, which are read in the parts that are asked for."""
    width = max(1, rows.shape[1] if whole_rows else min(WIDEST, rows.shape[1]))
    tall = max(1, BLOCK_BYTES // (4 * width))
    tall = tall if tall < CHUNK_ITERATIONS else tall // CHUNK_ITERATIONS * CHUNK_ITERATIONS
    out: da.Array = da.from_array(rows, chunks=(tall, width), name=False, meta=np.empty((0, 0), rows.dtype))
    return out


def to_write(rows: Rows, dims: tuple[str, ...]) -> da.Array:
    """Return a table as a Dask array in the windows that a file is written in, which take little memory each."""
    chunks = window_shape(dims, rows.shape, rows.dtype.itemsize, MERGED_BYTES)
    out: da.Array = da.from_array(rows, chunks=tuple(chunks), name=False, meta=np.empty((0, 0), rows.dtype))
    return out
