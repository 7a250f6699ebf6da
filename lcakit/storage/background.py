"""Blocks of rows, written by a thread while the next one is filled."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lcakit.trajectory.schema import COORDINATES, VARIABLES, split_name

__all__ = ["THREAD", "BackgroundWriter", "Block"]


def __dir__() -> list[str]:
    return __all__


THREAD = "lcakit-writer"
"""Name of the threads that write."""


class Block:
    """Rows in memory, in arrays that are allocated once per variable, and used again once they are written."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._arrays: dict[str, np.ndarray] = {}
        self._counts: dict[str, int] = {}

    def put(self, row: Mapping[str, Any]) -> None:
        """Copy one value of each variable behind those that are there."""
        for name, value in row.items():
            value = np.asarray(value)
            if name not in self._arrays:
                self._arrays[name] = np.empty((self.rows + 1, *value.shape), _dtype(name))
            place = self._counts.get(name, 0)
            self._arrays[name][place] = value
            self._counts[name] = place + 1

    def filled(self) -> dict[str, np.ndarray]:
        """Return the rows of each variable; empty where there is none."""
        return {name: self._arrays[name][:count] for name, count in self._counts.items()}

    def clear(self) -> None:
        """Forget the rows, and keep their memory for others."""
        self._counts.clear()


def _dtype(name: str) -> str:
    base, _ = split_name(name)
    return (VARIABLES.get(base) or COORDINATES[base]).dtype


class BackgroundWriter:
    """Writes blocks in the order in which they come, from a thread of its own.

    At most three blocks exist: one that the caller fills, one that waits, one that is being written.

    Parameters
    ----------
    write
        Called on the thread with a path, a block, and the state of the loop at its end, or None.
    rows
        Size of new blocks.
    idle
        Called on the thread while no block waits, again and again until it returns False.

    Attributes
    ----------
    error
        What went wrong on the thread; nothing is written after it. The caller looks at it and raises it.
    """

    def __init__(
        self, write: Callable[[Path, Block, bytes | None], None], rows: int, idle: Callable[[], bool] = lambda: False
    ) -> None:
        self.error: BaseException | None = None
        self._write, self._rows, self._idle = write, rows, idle
        self._spare: list[Block] = []
        self._queue: queue.Queue[tuple[Path, Block, bytes | None] | None] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
        self._thread.start()

    def new_block(self) -> Block:
        """Return an empty block: one that has been written, where there is one."""
        return self._spare.pop() if self._spare else Block(self._rows)

    def put(self, path: Path, block: Block, state: bytes | None) -> None:
        """Hand a block over; wait while the one before has not been begun."""
        self._queue.put((path, block, state))

    def stop(self) -> None:
        """Write what was handed over, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            if self.error is not None:
                continue  # keep emptying the queue, so that the caller is never stuck before it sees the error
            try:
                self._write(*item)
            except Exception as error:  # noqa: BLE001  the caller's thread raises it; dying here would block that
                self.error = error
            else:
                item[1].clear()
                self._spare.append(item[1])

    def _next(self) -> tuple[Path, Block, bytes | None] | None:
        while self.error is None:
            try:
                return self._queue.get_nowait()
            except queue.Empty:
                if not self._idle():
                    break
        return self._queue.get()
