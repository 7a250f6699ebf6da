"""Files that are made for a reader: written whole or not at all, and what prevents it is said."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lcakit.guard import printable
from lcakit.wholefiles import cannot_write, written_whole


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, which becomes ``path`` at the end; its folder is made where there is none.

    Raises
    ------
    RecordingError
        If the file cannot be written; one that was there before is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            yield temporary
    except OSError as error:
        raise cannot_write(path, error.strerror or printable(error)) from error
