"""Reads of a trajectory, no larger than a picture needs, kept in memory up to a limit.

A step of the player asks for one row of one tensor. The rows around it are read together and kept, so that the next
steps read nothing; sums over a span add the kept sums of whole blocks to the rows at both ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import xarray as xr

from lcakit.trajectory.schema import CHUNK_ITERATIONS

__all__ = ["Reader"]


def __dir__() -> list[str]:
    return __all__


_KEPT_BYTES = 256 * 2**20
_BLOCK_BYTES = 64 * 2**20
_Key = tuple[object, ...]


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
        found: np.ndarray = self._block(name, columns, t // rows)[t % rows]
        return found

    def total(self, name: str, columns: slice, first: int, last: int, cls: int | None = None) -> np.ndarray:
        """Return the sum over the rows ``first`` to ``last``, both included, in float64."""
        out = np.zeros(columns.stop - columns.start)
        rows = self._rows(columns)
        for number in range(first // rows, last // rows + 1):
            begin, end = max(first - number * rows, 0), min(last - number * rows + 1, rows)
            if end - begin == rows:
                out += self._block_total(name, columns, number, cls)
            else:
                out += self._block(name, columns, number, cls)[begin:end].sum(0, dtype=np.float64)
        return out

    def series(self, name: str, column: int, cls: int | None = None) -> np.ndarray:
        """Return all rows of one parameter."""
        where = (slice(None), column) if cls is None else (slice(None), cls, column)
        return self.keep((name, column, cls), lambda: np.asarray(self._ds[name][where].values))

    def _rows(self, columns: slice) -> int:
        """Return the rows of a block: those of a chunk of the file, fewer where a tensor is very large."""
        return int(np.clip(_BLOCK_BYTES // (4 * max(columns.stop - columns.start, 1)), 1, CHUNK_ITERATIONS))

    def _block(self, name: str, columns: slice, number: int, cls: int | None = None) -> np.ndarray:
        rows = self._rows(columns)
        part = slice(number * rows, (number + 1) * rows)
        where = (part, columns) if cls is None else (part, cls, columns)
        key = (name, columns.start, columns.stop, number, cls)
        return self.keep(key, lambda: np.asarray(self._ds[name][where].values))

    def _block_total(self, name: str, columns: slice, number: int, cls: int | None) -> np.ndarray:
        key = (name, columns.start, columns.stop, number, cls, "total")
        return self.keep(key, lambda: self._block(name, columns, number, cls).sum(0, dtype=np.float64))

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
