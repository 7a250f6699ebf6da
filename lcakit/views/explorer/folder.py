"""The folder that an explorer was started in: its trajectories can be opened from the page, and nothing else can."""

from __future__ import annotations

import os
from pathlib import Path

from lcakit.errors import unknown
from lcakit.storage.paths import PARTIAL, is_zarr

__all__ = ["MOST_FILES", "Folder"]


def __dir__() -> list[str]:
    return __all__


MOST_FILES = 500
"""Most names that are listed: the first in alphabetical order."""


class Folder:
    """A folder whose trajectories are listed by name.

    Parameters
    ----------
    path
        The folder. What lies above it, in folders inside it, or behind links that lead out of it is not listed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).resolve()

    def names(self) -> list[str]:
        """Return the names of finished and unfinished trajectories as they are now; none where it cannot be read."""
        try:
            found = sorted(entry.name for entry in self._path.iterdir() if self._is_trajectory(entry))
        except OSError:
            return []
        return found[:MOST_FILES]

    def _is_trajectory(self, entry: Path) -> bool:
        if entry.name.startswith(".") or entry.resolve().parent != self._path:
            return False
        if entry.suffix == ".nc":
            return entry.is_file()
        if entry.name.endswith(f".nc{PARTIAL}"):
            return entry.is_dir() and not entry.with_name(entry.name.removesuffix(PARTIAL)).exists()
        return entry.suffix == ".zarr" and entry.is_dir() and is_zarr(entry)

    def path(self, name: str) -> str:
        """Return the path of a file that is listed.

        Raises
        ------
        ValueError
            For any other name, whatever it leads to.
        """
        names = self.names()
        if name not in names:
            raise unknown("file of this folder", name, names)
        return str(self._path / name)
