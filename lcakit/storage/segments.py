"""Recording to disk without ever losing a finished block.

While a run is recorded, its folder ``run.nc.partial/`` holds::

    header.nc          labels, tables and attributes
    000000.npz         block 0: the rows of some iterations, each variable as one uncompressed .npy member
    000001.npz         …   (a member carries its CRC-32, so a damaged segment is noticed)
    000001.state       state of the training loop after block 1 (the last two are kept)
    000001.running     running statistics of all up to block 1 (the last two are kept), as one more such archive
    early.nc           of a large recording: chunks of the file that it becomes, written in idle time
    lock               held by the process that writes
    merged             instead of the header: all is in a file, or was nothing; what is left here is being removed

Each file is written under a temporary name, flushed to the disk and renamed, so a file that has its name is whole.
Blocks are written by a background thread. They are plain NumPy archives, not HDF5, because an HDF5 library tolerates
no second thread: a reader elsewhere in the process could crash the recording.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import RecordingError, TrajectoryError
from lcakit.storage.atomic import Lock, written_whole
from lcakit.storage.background import BackgroundWriter, Block
from lcakit.storage.early_chunks import EarlyChunks
from lcakit.storage.netcdf import write_netcdf
from lcakit.storage.netcdf_reading import open_local
from lcakit.storage.npz import Arrays, write_arrays

__all__ = [
    "BLOCK",
    "BLOCK_BYTES",
    "BLOCK_ROWS",
    "BLOCK_SECONDS",
    "HEADER",
    "RUNNING",
    "STATE",
    "SegmentWriter",
    "has_rows",
    "is_rest",
    "read_header",
    "remove",
    "segment_paths",
    "write_header",
    "write_rows",
    "write_segment",
]


def __dir__() -> list[str]:
    return __all__


BLOCK_BYTES = 32 * 2**20
BLOCK_ROWS = 64
BLOCK_SECONDS = 60.0
HEADER, _REST = "header.nc", "merged"
STATE, RUNNING = ".state", ".running"
BLOCK = "block_iterations"
"""Attribute of a folder whose blocks are written in any order (:mod:`lcakit.record.allocation.cluster`)."""


class SegmentWriter:
    """Collects rows and writes them as numbered segments from a background thread.

    Parameters
    ----------
    directory
        The ``.partial`` folder; made if missing.
    header
        Labels and attributes, written once as ``header.nc``.
    resume
        Go on after the segments that are there; otherwise the folder must be new.
    state
        Called on the caller's thread whenever a block is closed; bytes that it returns are kept beside the segment.
    running
        Gives the running statistics, which are written on the caller's thread when a block is closed: they can be as
        large as the network, and a copy for the background thread would be another one.
    block_rows, block_bytes, block_seconds
        A block is closed when it has that many iterations or bytes, or is that old.
    early
        Chunks of the file, to be written in idle time; the caller merges with them.

    Raises
    ------
    RecordingError
        From ``append``, ``flush`` or ``close``, if the background thread could not write (a full disk, say). All
        segments written before stay valid.
    """

    def __init__(
        self,
        directory: Path,
        header: xr.Dataset,
        *,
        resume: bool = False,
        state: Callable[[], bytes | None] | None = None,
        running: Callable[[], Arrays] | None = None,
        block_rows: int = BLOCK_ROWS,
        block_bytes: int = BLOCK_BYTES,
        block_seconds: float = BLOCK_SECONDS,
        early: EarlyChunks | None = None,
    ) -> None:
        self.directory = directory
        self._state, self._running = state, running
        self._rows, self._bytes, self._seconds = max(1, block_rows), block_bytes, block_seconds
        self._closed = False
        try:
            directory.mkdir(parents=True, exist_ok=resume)
            self._lock = Lock(directory)
            if not resume:
                with self._lock.released_on_error():
                    write_header(directory, header)
        except OSError as error:
            raise RecordingError(
                f"cannot write to {directory}: {error}. Choose a place that can be written."
            ) from error
        self._next = len(segment_paths(directory))
        self._waiting: tuple[Mapping[str, Any], ...] = ()
        self._early = early
        self._background = BackgroundWriter(self._write_block, self._rows, early.add_next if early else lambda: False)
        self._begin_block()

    def append(self, snapshot: Mapping[str, Any], iteration: Mapping[str, Any]) -> None:
        """Add the rows of one move: the snapshot it ends at, and the iteration ({} for the first snapshot)."""
        self._raise_error()
        values = (*snapshot.values(), *iteration.values())
        if iteration and not self._moves:  # the first whole row says how many fit
            row_bytes = sum(getattr(value, "nbytes", 8) for value in values)
            self._block.rows = max(1, min(self._rows, self._bytes // max(row_bytes, 1)))
        self._put_waiting()
        self._waiting = (snapshot, iteration)
        if not any(hasattr(value, "arrives") for value in values):
            self._put_waiting()
        self._moves += bool(iteration)
        if self._moves >= self._block.rows or (self._moves and time.monotonic() - self._began > self._seconds):
            self.flush()

    def flush(self, with_state: bool = True) -> None:
        """Close the block in memory and hand it to the background thread."""
        self._raise_error()
        self._put_waiting()
        if self._block.filled():
            path = self.directory / f"{self._next:06d}.npz"
            self._write_running(path)
            state = self._state() if self._state is not None and with_state else None
            self._background.put(path, self._block, state)
            self._next += 1
            self._begin_block()

    def close(self, with_state: bool = True) -> None:
        """Write what is in memory, wait for the thread, and raise what went wrong in it.

        After an error in the loop its state is that of no snapshot: ``with_state=False`` keeps the rows without it,
        and a resume goes back to the last block that has one.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if not with_state:  # a device that failed gives no further numbers; those that are here are kept
                self._give_up_waiting()
            if self._background.error is None:
                self.flush(with_state)
        finally:
            self._background.stop()
            self._lock.release()
            self._running = None  # it holds numbers as large as the network
        self._raise_error()

    def _put_waiting(self) -> None:
        """Take over the last rows, whose numbers may have been on their way from a GPU until now."""
        rows = [{name: np.asarray(value) for name, value in row.items()} for row in self._waiting]
        self._waiting = ()
        for row in rows:
            self._block.put(row)

    def _give_up_waiting(self) -> None:
        try:
            self._put_waiting()
        except RuntimeError:
            self._waiting, self._running = (), None

    def _write_block(self, path: Path, block: Block, state: bytes | None) -> None:
        try:
            _write_block(path, block, state)
        except OSError:
            if self._early is None or not self._early.give_up():
                raise
            _write_block(path, block, state)  # there is more room now

    def _write_running(self, segment: Path) -> None:
        if self._running is None:
            return
        try:
            write_segment(segment.with_suffix(RUNNING), self._running())
        except OSError as error:
            self._background.error = error
            self._raise_error()

    def _begin_block(self) -> None:
        self._block = self._background.new_block()
        self._moves = 0
        self._began = time.monotonic()

    def _raise_error(self) -> None:
        error = self._background.error
        if error is not None:
            raise RecordingError(
                f"cannot write to {self.directory}: {error}. What was recorded up to the last finished segment is "
                "intact: free some space, then continue with resume=True, or open it as it is."
            ) from error


def _write_block(path: Path, block: Block, state: bytes | None) -> None:
    """Write a segment; the state before it, so that a segment never lacks the one that belongs to it."""
    if state is not None:
        with written_whole(path.with_suffix(STATE)) as temporary:
            temporary.write_bytes(state)
    write_segment(path, block.filled().items())
    _remove_older_states(path)


def write_rows(
    path: Path,
    rows: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]],
    count: int,
    running: Callable[[], Arrays] | None = None,
) -> None:
    """Write at most ``count`` iterations as one segment, at once (:class:`SegmentWriter` writes a recording).

    ``running`` gives the running statistics of these iterations, once the rows are there.
    """
    block = Block(count)
    for snapshot, iteration in rows:
        block.put(snapshot)
        block.put(iteration)
    if running is not None:
        write_segment(path.with_suffix(RUNNING), running())
    write_segment(path, block.filled().items())


def write_segment(path: Path, arrays: Arrays) -> None:
    """Write one archive of a recording, whole or not at all."""
    with written_whole(path) as temporary:
        write_arrays(temporary, arrays)


def _remove_older_states(segment: Path) -> None:
    for old in (*segment.parent.glob(f"*{STATE}"), *segment.parent.glob(f"*{RUNNING}")):
        if int(old.stem) < int(segment.stem) - 1:
            old.unlink(missing_ok=True)


def write_header(directory: Path, header: xr.Dataset) -> None:
    """Write labels and attributes of a recording, before its first segment."""
    with written_whole(directory / HEADER) as temporary:
        write_netcdf(header, temporary)


def read_header(directory: Path) -> xr.Dataset:
    """Return labels and attributes of a recording."""
    path = directory / HEADER
    try:
        header, _ = open_local(path)
        with header:
            return header.load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise TrajectoryError(f"{directory}: not a recording, its {HEADER} cannot be read ({error})") from error


def segment_paths(directory: Path) -> list[Path]:
    """Return the finished segments in order.

    Raises
    ------
    TrajectoryError
        If one in the middle is missing.
    """
    paths = sorted(directory.glob("[0-9]*.npz"))
    for number, path in enumerate(paths):
        if int(path.stem) != number:
            raise TrajectoryError(
                f"{directory}: segment {number:06d}.npz is missing ({path.name} follows). Restore it; without it the "
                "trajectory has a hole."
            )
    return paths


def has_rows(directory: Path) -> bool:
    """Say whether a recording's folder has a header and a finished segment."""
    return (directory / HEADER).exists() and bool(segment_paths(directory))


def is_rest(directory: Path) -> bool:
    """Say whether a folder is what a killed process left of a recording that it was removing."""
    return (directory / _REST).exists()


def remove(directory: Path) -> None:
    """Remove a recording's folder once it is merged: first it stops being a recording, so that no half of one stays."""
    if (directory / HEADER).exists():
        (directory / HEADER).replace(directory / _REST)
    for path in sorted(directory.iterdir(), key=lambda p: p.name == _REST):
        path.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
