"""Chunks that were unpacked for a small part of them, kept for the next: of one parameter, of one iteration."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np

__all__ = ["MOST_BYTES", "Kept"]


def __dir__() -> list[str]:
    return __all__


MOST_BYTES = 2**27
"""What is kept in a process: a row of chunks of a network of some hundred thousand parameters."""


class Kept:
    """Arrays by key, shared by threads: at most so many bytes, and those that were not asked for longest go first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> np.ndarray | None:
        """Return what was kept; None if it is not there."""
        with self._lock:
            found = self._arrays.get(key)
            if found is not None:
                self._arrays.move_to_end(key)
            return found

    def put(self, key: Hashable, array: np.ndarray) -> None:
        """Keep an array, which nobody changes."""
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = array
                self._bytes += array.nbytes
            while self._bytes > MOST_BYTES:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
