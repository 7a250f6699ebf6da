"""The files of an explorer: opened together, and watched, as one may be deleted or replaced while it is viewed."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.storage.opening import open_trajectory
from lcakit.storage.paths import no_match, partial_path, run_names
from lcakit.storage.urls import is_url

__all__ = ["Pathlike", "Sources"]


def __dir__() -> list[str]:
    return __all__


Pathlike = str | os.PathLike[str]
_Stamp = tuple[int, ...] | None


class Sources:
    """Files that an explorer shows, each a run of its own; they need not be of one network.

    Parameters
    ----------
    given
        Files, unfinished recordings, stores, URLs, or glob patterns.

    Raises
    ------
    TrajectoryError
        If there is none, or no file matches a pattern.
    """

    def __init__(self, given: Pathlike | Iterable[Pathlike]) -> None:
        several = [given] if isinstance(given, str | os.PathLike) else list(given)
        self.files = [file for one in several for file in _expanded(os.fspath(one))]
        if not self.files:
            raise TrajectoryError("no runs to open: the list of files is empty")
        self.names = run_names(self.files)
        self._stamps: list[_Stamp] = []

    @property
    def title(self) -> str:
        """The name of the file, or how many there are."""
        return os.path.basename(self.files[0]) if len(self.files) == 1 else f"{len(self.files)} files"

    def open(self) -> dict[str, xr.Dataset]:
        """Open all files again, and remember what they are now."""
        self._stamps = [_stamp(file) for file in self.files]
        return {name: open_trajectory(file) for name, file in zip(self.names, self.files, strict=True)}

    def trouble(self) -> str:
        """Return what has happened to the files since they were opened, as a sentence; empty if nothing."""
        for file, before in zip(self.files, self._stamps, strict=True):
            now = _stamp(file)
            if now == before:
                continue
            name = os.path.basename(file)
            if now is None:
                return f"{name} has been deleted or moved. What is on screen is of the file as it was."
            return f"{name} has been replaced or changed. What is on screen is of the file before; reload this page."
        return ""


def _expanded(file: str) -> Sequence[str]:
    if is_url(file) or not glob.has_magic(file) or Path(file).exists():
        return [file]
    found = sorted(glob.glob(file))
    if not found:
        raise no_match(file)
    return found


def _stamp(file: str) -> _Stamp:
    """Return what tells a file from another one in its place; None where there is none.

    Of a folder (a store, or a recording that grows) it tells the folder only; URLs are not asked again.
    """
    if is_url(file):
        return ()
    path = Path(file)
    try:
        found = (path if path.exists() else partial_path(path)).stat()
    except OSError:
        return None
    identity = found.st_dev, found.st_ino
    return identity if path.is_dir() or not path.exists() else (*identity, found.st_size, found.st_mtime_ns)
