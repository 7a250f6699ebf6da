"""The label columns of the parameters: of a large network not held in memory, since all five take 20 bytes each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

__all__ = ["LABELS", "MOST_HELD", "PART", "column_of", "is_held", "parts"]


def __dir__() -> list[str]:
    return __all__


LABELS = ("tensor_index", "layer_index", "unit_index", "input_index", "tap_index")

MOST_HELD = 2**20
"""Columns of up to so many parameters are held in memory; longer ones are computed, or read, where they are used."""

PART = 2**17
"""What is done with a whole column is done with so many parameters at a time."""


def is_held(size: int) -> bool:
    """Say whether columns of so many parameters are held in memory."""
    return size <= MOST_HELD


def parts(size: int) -> Iterator[slice]:
    """Cut the parameter axis."""
    yield from (slice(start, min(start + PART, size)) for start in range(0, size, PART))


def column_of(part: Callable[[int, int], np.ndarray], size: int) -> Any:
    """Return a label column for a Dataset: an array, or for a large network one that is computed where it is read.

    Parameters
    ----------
    part
        Returns the labels from one parameter to another, int32.

    Examples
    --------
    >>> column_of(lambda start, stop: np.arange(start, stop, dtype=np.int32), 4)
    array([0, 1, 2, 3], dtype=int32)
    """
    return part(0, size) if is_held(size) else indexing.LazilyIndexedArray(_Column(part, size))


class _Column(BackendArray):
    """A label column, for xarray, of which only what is asked for is computed."""

    dtype = np.dtype(np.int32)

    def __init__(self, part: Callable[[int, int], np.ndarray], size: int) -> None:
        self._part, self.shape = part, (size,)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice]) -> Any:
        if not isinstance(key[0], slice):
            return self._part(int(key[0]), int(key[0]) + 1)[0]
        wanted = range(self.shape[0])[key[0]]
        if not wanted:
            return np.empty(0, self.dtype)
        first, last = sorted((wanted[0], wanted[-1]))
        return self._part(first, last + 1)[:: wanted.step]
