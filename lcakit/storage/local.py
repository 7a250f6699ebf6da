"""A file on disk that is read in parts, by any number of threads: always the same file, whatever gets its name."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

import numpy as np

from lcakit.errors import TrajectoryError
from lcakit.storage.state import State

__all__ = ["LocalFile", "Run"]


def __dir__() -> list[str]:
    return __all__


Run = tuple[int, np.ndarray]
"""Where bytes begin in a file, and the array in memory, of one piece, that they fill."""

_GAP_BYTES = 4096  # read over rather than asking again: a page of the system
_MOST_PARTS = 1024  # of one request to the system (IOV_MAX)
_MOST_OPEN = 200  # files at a time; of the 1,024 that a process often may have, others need some too


class LocalFile:
    """A file on disk. It is held open, so one that was replaced by renaming stays readable.

    Threads share it without a lock: each read says its place. A read that goes on while the file is closed keeps its
    descriptor, so it can never hit another file. Beyond many open files the oldest are closed, and opened again when
    they are read. A copy in another process opens the file by its path.

    Parameters
    ----------
    state
        Of the file when it was checked; None: now.

    Raises
    ------
    TrajectoryError
        Where the file of that name is another one when it is opened, here, in a worker or again.
    """

    at_once = 0
    """Bytes to ask for together: no request waits for another, so none."""

    def __init__(self, path: str, state: State | None = None) -> None:
        self.path = path
        descriptor = _Descriptor(path)
        self.state = state or State.of(descriptor.number)
        for file in list(_OPEN.values()):  # if it was overwritten since it was opened, those who have it hear of it
            if file.state[:2] == self.state[:2]:
                file.check()
        self._held: _Descriptor | None = self._kept(descriptor)

    def _kept(self, descriptor: _Descriptor) -> _Descriptor:
        if State.of(descriptor.number) != self.state:
            raise TrajectoryError(f"{self.path} was replaced since it was opened. Open it again.")
        with _OPENING:
            others = list(_OPEN.values())
            _OPEN[id(self)] = self
        for file in others[: max(0, len(others) - _MOST_OPEN)]:
            file.close()
        return descriptor

    @contextmanager
    def handle(self) -> Iterator[BinaryIO]:
        """Give the file as a file object, for one thread."""
        held = self._held or self._kept(_Descriptor(self.path))
        with open(held.number, "rb", closefd=False) as file:
            yield file
        self.state.check(held.number, self.path)

    def close(self) -> None:
        """Close the file, once no thread reads it; a later read opens it again."""
        self._held = None
        _OPEN.pop(id(self), None)

    def fill(self, runs: Iterable[Run]) -> None:
        """Fill arrays with the bytes at their places.

        Raises
        ------
        OSError
            Where the file is shorter.
        TrajectoryError
            Where it was written since it was opened.
        """
        held = self._held
        if held is None:
            held = self._held = self._kept(_Descriptor(self.path))
        try:
            for start, views in _together(runs):
                _fill(held.number, start, views)
        finally:
            try:
                self.state.check(held.number, self.path)
            finally:
                held = None  # the traceback of an error would keep the file open

    def check(self) -> None:
        """Raise TrajectoryError if the file was overwritten."""
        held = self._held
        if held is not None:
            self.state.check(held.number, self.path)

    def __getstate__(self) -> tuple[str, State]:
        return self.path, self.state

    def __setstate__(self, state: tuple[str, State]) -> None:
        LocalFile.__init__(self, *state)


_OPENING = threading.Lock()
_OPEN: WeakValueDictionary[int, LocalFile] = WeakValueDictionary()
"""What is open, the oldest first."""


class _Descriptor:
    """An open file of the system, closed when nobody has it any more."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


def _together(runs: Iterable[Run]) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Join runs that follow each other, or nearly, to one request each."""
    start = end = 0
    views: list[np.ndarray] = []
    for place, view in runs:
        gap = place - end
        if not 0 <= gap <= _GAP_BYTES or len(views) + 2 > _MOST_PARTS or not views:
            if views:
                yield start, views
            start, views = place, []
        elif gap:
            views.append(_UNUSED[:gap])
        views.append(view)
        end = place + view.nbytes
    if views:
        yield start, views


_UNUSED = np.empty(_GAP_BYTES, np.uint8)
"""Takes what lies between; any thread may write it, nobody reads it."""


def _fill(descriptor: int, start: int, views: Sequence[np.ndarray]) -> None:
    """Read from a place on until all arrays are full: the system may give less than all at once."""
    count = _read_at(descriptor, views, start)
    if count == (views[0].nbytes if len(views) == 1 else sum(view.nbytes for view in views)):
        return
    for view in views:
        left: Any = memoryview(view.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        while len(left):
            skipped = min(count, len(left))
            left, start, count = left[skipped:], start + skipped, count - skipped
            if len(left) and not count:
                count = _read_at(descriptor, [left], start)
                if not count:
                    raise OSError(f"the file ends at byte {start:,}, before the data does")


def _read_at(descriptor: int, views: Sequence[Any], start: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, views, start)
    with _SEEKING:  # Windows: a descriptor has one place
        os.lseek(descriptor, start, os.SEEK_SET)
        data = os.read(descriptor, views[0].nbytes)
    memoryview(views[0]).cast("B")[: len(data)] = data
    return len(data)


_SEEKING = threading.Lock()
