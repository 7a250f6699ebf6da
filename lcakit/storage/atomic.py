"""Files that are whole or not there, and folders that one process writes at a time."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import itertools
import os
import shutil
import socket
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lcakit.errors import RecordingError
from lcakit.text import printable

__all__ = [
    "Lock",
    "behind_links",
    "cannot_write",
    "exclusively",
    "remove_stale",
    "swap",
    "sync",
    "temporary_name",
    "writable_parent",
    "written",
    "written_whole",
]


def __dir__() -> list[str]:
    return __all__


fcntl: Any
try:
    import fcntl
except ModuleNotFoundError:  # no such locks on Windows
    fcntl = None

_LOCK = "lock"
_NUMBERS = itertools.count()
_THREADS = threading.Lock()


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; at the end flush it to the disk and rename it to ``path``.

    On an error the temporary file is removed and ``path`` is left unchanged. Where ``path`` is a symbolic link, the
    file that it leads to is written, and the link stays.
    """
    path = behind_links(path)
    temporary = temporary_name(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def behind_links(path: Path) -> Path:
    """Return the file that a symbolic link leads to, there or not; any other path as it is.

    Raises
    ------
    RecordingError
        For links that lead back to themselves.
    """
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as error:
        raise RecordingError(f"{path} is a symbolic link that leads nowhere ({error}). Remove it.") from error


def temporary_name(path: Path) -> Path:
    """Return a name beside a file that no other process, and no other thread of this one, writes to."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}.{next(_NUMBERS)}.{socket.gethostname()}")


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
        try:
            self._file = (directory / _LOCK).open("a")
        except OSError as error:
            raise cannot_write(directory, error.strerror or str(error)) from error
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


@contextlib.contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Change a file as the only one: others who want to, in whatever process or thread, wait until this one is done.

    The lock is a file beside it, ``.run.nc.lock``, which goes with the last one; that of a killed process is free.
    Where the system has no file locks, only threads of this process wait.
    """
    beside = behind_links(path)
    beside = beside.with_name(f".{beside.name}.lock")
    with _THREADS if fcntl is None else _locked(beside):
        yield


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file that its last holder removes: of one that was removed meanwhile, another one is made."""
    while True:
        with _beside(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(path, file.fileno()):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return


def _beside(path: Path) -> TextIO:
    try:
        return path.open("a")
    except OSError as error:
        raise cannot_write(path, error.strerror or str(error)) from error


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def remove_stale(target: Path) -> None:
    """Remove what killed processes of this machine left half written of ``target``."""
    target = behind_links(target)
    for path in target.parent.glob(f".{glob.escape(target.name)}.tmp-*"):
        process, _, rest = path.name.rpartition(".tmp-")[2].partition(".")
        host = rest.partition(".")[2]
        if host not in ("", socket.gethostname()) or not process.isdigit() or _runs(int(process)):
            continue
        if path.is_dir():  # of a Zarr store
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Say whether a process of this machine runs; where that cannot be asked, all do but this one."""
    if process == os.getpid() or os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def swap(new: Path, path: Path) -> None:
    """Exchange a folder and another one that has the name it shall get, so that the name always leads to one of them.

    Where the system cannot, the older one is moved aside for a moment.
    """
    if not _exchanged(new, path):
        aside = new.with_name(new.name.replace(".tmp-", ".old-"))
        path.rename(aside)
        try:
            new.rename(path)
        except OSError:
            aside.rename(path)
            raise
        aside.rename(new)


def _exchanged(a: Path, b: Path) -> bool:
    """Exchange two names at once, as Linux can (renameat2 with RENAME_EXCHANGE, 2)."""
    here = -100  # AT_FDCWD: paths count from the working directory
    exchange = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    return exchange is not None and exchange(here, os.fsencode(a), here, os.fsencode(b), 2) == 0


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
