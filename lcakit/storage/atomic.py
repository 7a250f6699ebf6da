"""Files that are whole or not there, and folders that one process writes at a time."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lcakit.errors import RecordingError
from lcakit.text import printable

__all__ = ["Lock", "cannot_write", "remove_stale", "sync", "writable_parent", "written", "written_whole"]


def __dir__() -> list[str]:
    return __all__


fcntl: Any
try:
    import fcntl
except ModuleNotFoundError:  # no such locks on Windows
    fcntl = None

_LOCK = "lock"


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; at the end flush it to the disk and rename it to ``path``.

    On an error the temporary file is removed and ``path`` is left unchanged.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Lock:
    """Holds a recording for one writer, where the system has file locks; a killed process lets go by itself.

    A process that is forked meanwhile (a worker of a DataLoader, of a pool) does not hold it.
    """

    def __init__(self, directory: Path) -> None:
        self._file = (directory / _LOCK).open("a")
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise RecordingError(
                f"{directory} is being written by another recorder. Wait until it is done, or record to another file."
            ) from None
        _HELD.add(self)

    def release(self) -> None:
        """Let others write."""
        if not self._file.closed and fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # of the file, whatever process has it open
        self.forget()

    def forget(self) -> None:
        """Close the file in this process: another one that has it open still holds the lock."""
        _HELD.discard(self)
        self._file.close()

    @contextlib.contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Let go if something fails; otherwise go on holding."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


_HELD: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_HELD):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)  # or it would keep the lock of a recorder that died


def remove_stale(target: Path) -> None:
    """Remove what a killed process left half written of ``target``."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.tmp-*"):
        if path.is_dir():  # of a Zarr store
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def writable_parent(path: Path) -> None:
    """Make the folder of a file to write, and write there for a trial: permissions alone do not tell.

    Raises
    ------
    RecordingError
        If one of these is not possible.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise cannot_write(path, error.strerror or str(error)) from error


def cannot_write(path: Path, why: str) -> RecordingError:
    """Build the error for a file that cannot be written."""
    return RecordingError(
        f"cannot write {path}: {why}. Choose another place, or check that the disk has space and that you may write "
        "there."
    )


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, which becomes ``path`` at the end; its folder is made where there is none.

    Raises
    ------
    RecordingError
        If the file cannot be written; an older file is then left unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            yield temporary
    except OSError as error:
        raise cannot_write(path, error.strerror or printable(error)) from error
