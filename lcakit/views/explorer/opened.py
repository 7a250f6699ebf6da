"""What pages show: the files that were given, and those of the folder that users open from a page."""

from __future__ import annotations

import os
from collections.abc import Iterable

from lcakit.errors import LcakitError
from lcakit.views.explorer.examples import Examples
from lcakit.views.explorer.folder import Folder
from lcakit.views.explorer.runs import Models
from lcakit.views.explorer.sources import Pathlike, Sources

__all__ = ["MOST_TOGETHER", "Library", "Opened"]


def __dir__() -> list[str]:
    return __all__


_MOST_OPEN = 3
"""Most choices of files of the folder whose numbers are kept."""
MOST_TOGETHER = 60
"""Most files that a page opens together: as many runs as it lays over each other."""


class Opened:
    """Files that belong together, and the models of their runs, which all pages share.

    Raises
    ------
    TrajectoryError
        If one of them cannot be opened, or the first cannot be explored.
    """

    def __init__(self, given: Pathlike | Iterable[Pathlike], examples: Examples | None = None) -> None:
        self.sources, self._examples = Sources(given), examples
        self._open()
        self.models.first()

    def _open(self) -> None:
        found = self.sources.open()
        runs = found if len(found) > 1 else next(iter(found.values()))
        self.models = Models(runs, self.sources.files, self._examples)

    def refresh(self) -> str:
        """Open the files again if they have changed; return what is wrong with them, else nothing."""
        if self.sources.trouble():
            try:
                self._open()
            except LcakitError as error:
                return str(error)
        return ""


class Library:
    """The files given, and a folder whose files can be opened instead.

    Parameters
    ----------
    given
        Files, unfinished recordings, stores, URLs, or patterns of them.
    folder
        Where other files are listed; None for no others.
    examples
        Images that the given networks were trained on.
    """

    def __init__(
        self,
        given: Pathlike | Iterable[Pathlike],
        folder: str | os.PathLike[str] | None = None,
        examples: Examples | None = None,
    ) -> None:
        self.own = Opened(given, examples)
        self._folder = None if folder is None else Folder(folder)
        self._others: dict[tuple[str, ...], Opened] = {}

    def names(self) -> list[str]:
        """Return the names of the files that can be opened."""
        return [] if self._folder is None else self._folder.names()

    def get(self, *names: str) -> Opened:
        """Return files of the folder by their names, together; those that were given for no name, or ``""``.

        Raises
        ------
        ValueError
            If the folder has no such file, or for more files than are opened together.
        TrajectoryError
            If one cannot be opened, or the first cannot be explored.
        """
        wanted = tuple(dict.fromkeys(name for name in names if name))
        if not wanted or self._folder is None:
            return self.own
        if len(wanted) > MOST_TOGETHER:
            raise ValueError(f"{len(wanted)} files are too many to open together: choose at most {MOST_TOGETHER}.")
        paths = [self._folder.path(name) for name in wanted]
        found = self._others.pop(wanted, None) or Opened(paths)
        self._others[wanted] = found  # last: the least recently used one comes first
        if len(self._others) > _MOST_OPEN:
            del self._others[next(iter(self._others))]
        return found
