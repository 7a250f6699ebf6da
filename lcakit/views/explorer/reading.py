"""Reads of a trajectory, no larger than a picture needs, kept in memory up to a limit.

A step of the player asks for one row of one tensor. The rows around it are read together and kept, so that the next
steps read nothing; sums over a span add the kept sums of whole blocks to the rows at both ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from dask.base import is_dask_collection
from dask.local import get_sync

from lcakit.trajectory.schema import CHUNK_ITERATIONS

__all__ = ["Reader", "values_of"]


def __dir__() -> list[str]:
    return __all__


_KEPT_BYTES = 256 * 2**20
_BLOCK_BYTES = 64 * 2**20
_SUM_BYTES = 4 * 2**20
"""Of few parameters, more rows are summed at a time than a chunk has: each read takes a few milliseconds."""
_Key = tuple[object, ...]


def values_of(array: xr.DataArray) -> np.ndarray:
    """Return the numbers of an array that is read from a file.

    Dask copies the single block that a small part of a file is, to give arrays that may be written to: what is only
    looked at is taken as it was read, in half the time.
    """
    data: Any = array.variable._data
    if not is_dask_collection(data) or data.npartitions > 1:
        return np.asarray(array.values)
    keys = data.__dask_keys__()
    found: Any = get_sync(data.__dask_optimize__(data.__dask_graph__(), keys), keys)
    while isinstance(found, list | tuple):
        (found,) = found
    return np.asarray(found)


class Reader:
    """Rows, sums over rows, and series of the per-parameter variables of one trajectory.

    A variable by class is read one class at a time: pass the position of the class.
    """

    def __init__(self, ds: xr.Dataset, kept_bytes: int = _KEPT_BYTES) -> None:
        self._ds, self._limit, self._held = ds, kept_bytes, 0
        self._kept: OrderedDict[_Key, np.ndarray] = OrderedDict()

    def row(self, name: str, columns: slice, t: int) -> np.ndarray:
        """Return one row (iteration or snapshot) of a range of parameters, in the dtype of the file."""
        rows = self._rows(columns)
        first = t - t % rows
        found: np.ndarray = self._block(name, columns, slice(first, first + rows))[t - first]
        return found

    def total(self, name: str, columns: slice, first: int, last: int, cls: int | None = None) -> np.ndarray:
        """Return the sum over the rows ``first`` to ``last``, both included, in float64."""
        out = np.zeros(columns.stop - columns.start)
        rows = self._rows(columns, _SUM_BYTES)
        for number in range(first // rows, last // rows + 1):
            begin, end = max(first - number * rows, 0), min(last - number * rows + 1, rows)
            part = slice(number * rows, (number + 1) * rows)
            if end - begin == rows:
                out += self._block_total(name, columns, part, cls)
            else:
                out += self._block(name, columns, part, cls)[begin:end].sum(0, dtype=np.float64)
        return out

    def series(self, name: str, column: int, cls: int | None = None) -> np.ndarray:
        """Return all rows of one parameter."""
        where = (slice(None), column) if cls is None else (slice(None), cls, column)
        return self.keep((name, column, cls), lambda: values_of(self._ds[name][where]))

    def _rows(self, columns: slice, few_bytes: int = 0) -> int:
        """Return the rows of a block: those of a chunk of the file, fewer where a tensor is very large.

        Of few parameters, as many times the rows of a chunk as there are in ``few_bytes``.
        """
        row_bytes = 4 * max(columns.stop - columns.start, 1)
        rows: int = int(np.clip(_BLOCK_BYTES // row_bytes, 1, CHUNK_ITERATIONS))
        return int(max(rows, few_bytes // (rows * row_bytes) * rows))

    def _block(self, name: str, columns: slice, part: slice, cls: int | None = None) -> np.ndarray:
        where = (part, columns) if cls is None else (part, cls, columns)
        key = (name, columns.start, columns.stop, part.start, part.stop, cls)
        return self.keep(key, lambda: values_of(self._ds[name][where]))

    def _block_total(self, name: str, columns: slice, part: slice, cls: int | None) -> np.ndarray:
        key = (name, columns.start, columns.stop, part.start, part.stop, cls, "total")
        return self.keep(key, lambda: self._block(name, columns, part, cls).sum(0, dtype=np.float64))

    def keep(self, key: _Key, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what is kept under a key, or make and keep it; the least recently used goes first."""
        if key not in self._kept:
            value = make()
            self._kept[key] = value
            self._held += value.nbytes
            while self._held > self._limit and len(self._kept) > 1:
                self._held -= self._kept.popitem(last=False)[1].nbytes
            return value
        self._kept.move_to_end(key)
        return self._kept[key]
