"""Small files and archives of other programs: plain files of a bounded size, before they are read.

Other than in a recording, a link to a plain file is followed: caches of published models are made of links.
"""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path
from typing import Any

from lcakit.storage.guard.blocks import CorruptError

__all__ = ["MOST_INFLATED", "check_archive", "check_regular", "read_json"]


def __dir__() -> list[str]:
    return __all__


MOST_INFLATED = 2**30
"""An archive may inflate to this many bytes beyond its own size."""

_MOST_JSON = 64 * 2**20
_MOST_MEMBERS = 200_000


def check_regular(path: Path) -> int:
    """Return the size of a plain file; refuse a folder, a pipe or a device.

    Raises
    ------
    CorruptError
        Saying that it is none.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise CorruptError("it is a folder, a pipe or a device, not a plain file, so it is not read")
    return found.st_size


def read_json(path: Path) -> Any:
    """Return what a file of JSON says.

    Raises
    ------
    CorruptError
        If it is no plain file, over 64 MB, or nested so deep that no program would have written it.
    OSError, ValueError
        If it cannot be read, or is no JSON.
    """
    size = check_regular(path)
    if size > _MOST_JSON:
        raise CorruptError(f"it has {size:,} bytes; at most {_MOST_JSON:,} of JSON are read")
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise CorruptError("its lists are nested too deep") from None


def check_archive(path: Path) -> None:
    """Refuse a zip archive that would take much more memory than it is long.

    Raises
    ------
    CorruptError
        With what its members would take; or if it has a member twice, of which readers may take either.
    """
    size = check_regular(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    inflated = sum(member.file_size for member in members)
    if inflated > size + MOST_INFLATED or len(members) > _MOST_MEMBERS:
        raise CorruptError(f"its {len(members):,} parts would inflate to {inflated:,} bytes; the file has {size:,}")
    if len({member.filename for member in members}) < len(members):
        raise CorruptError("it holds a part twice")
