"""Memory for large arrays, used again: new memory from the system costs as much as reading a file into it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["empty"]


def __dir__() -> list[str]:
    return __all__


_LEAST_BYTES = 2**22  # smaller arrays come from memory that the C library keeps
_MOST_BYTES = 2**27
"""An array above it gets memory of its own: blocks of a trajectory have half of that."""

_MOST_KEPT = min(2**29, 2**26 * (os.cpu_count() or 1))


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Return a new array of any content, as ``np.empty`` does; its memory may have been that of one now gone."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if not _LEAST_BYTES <= size <= _MOST_BYTES:
        return np.empty(shape, kind)
    leased: np.ndarray = np.asarray(_Lease(size))[:size].view(kind)
    return leased.reshape(shape)


class _Lease:
    """Memory that is in use by an array and the views of it; given back when the last of them is gone."""

    def __init__(self, size: int) -> None:
        self._memory = _taken(size)
        self.__array_interface__ = self._memory.__array_interface__

    def __del__(self) -> None:
        _FREE[id(self._memory)] = self._memory
        kept = 0
        for memory in reversed(tuple(_FREE.values())):  # the oldest goes first
            kept += memory.nbytes
            if kept > _MOST_KEPT:
                _FREE.pop(id(memory), None)


_FREE: dict[int, np.ndarray] = {}
"""What is free. Changed in single steps without a lock: arrays end in any thread, whatever that holds."""


def _taken(size: int) -> np.ndarray:
    """Return the smallest memory that is free and large enough, if it is not far too large, or new memory."""
    for memory in sorted(_FREE.values(), key=lambda memory: memory.nbytes):
        if size <= memory.nbytes <= 2 * size and _FREE.pop(id(memory), None) is not None:
            return memory
    return np.empty(size, np.uint8)
