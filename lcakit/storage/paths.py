"""Paths as users give them, and the names of the folders beside a file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from lcakit.errors import LcakitError, RecordingError, TrajectoryError
from lcakit.storage import urls
from lcakit.storage.atomic import temporary_name, writable_parent
from lcakit.text import printable

__all__ = [
    "PARTIAL",
    "Pathlike",
    "allocation_partial",
    "given_path",
    "is_zarr",
    "no_file",
    "no_match",
    "partial_path",
    "run_names",
    "unfinished",
    "writable_now",
    "writable_path",
]


def __dir__() -> list[str]:
    return __all__


Pathlike = str | os.PathLike[str]
PARTIAL = ".partial"
_MOST_NAME = 255  # bytes, on the file systems in use
_MOST_NAMES = 2000  # of a folder, among which a name that was meant is looked for


def given_path(path: Pathlike, error: type[LcakitError] = TrajectoryError) -> Path:
    """Return a path that was given, with the home folder for ``~``; raise ``error`` where the name is empty."""
    if not isinstance(path, str | os.PathLike):
        raise error(f"the name of a file must be a str or a Path, got {type(path).__name__}")
    text = os.fspath(path)
    if not text:
        raise error("the name of the file is empty. Give one, such as run.nc")
    path = Path(os.path.expanduser(text))
    if why := _impossible(str(path)):
        raise error(f"{printable(text, 80)} cannot be the name of a file: {why}. Choose another name.")
    return path


def _impossible(text: str) -> str:
    """Say why no file can have a name, or no library of those used here could open it; "" for one that can be."""
    if "\0" in text:
        return "it holds a null character"
    try:
        parts = text.encode().split(os.fsencode(os.sep))
    except UnicodeEncodeError:
        return "it holds bytes that are no text (UTF-8)"
    longest = max(map(len, parts))
    return f"a part of it has {longest} bytes, and {_MOST_NAME} are possible" if longest > _MOST_NAME else ""


def partial_path(path: Pathlike) -> Path:
    """Return the folder that holds the segments of a recording to ``path``."""
    path = given_path(path)
    return path if path.name.endswith(PARTIAL) else path.with_name(path.name + PARTIAL)


def allocation_partial(path: Pathlike, name: str | None = None) -> Path:
    """Return the folder of the segments while an allocation is added to the file ``path``."""
    path = given_path(path)
    return path.with_name(path.name + (f".{name}" if name else "") + ".allocation.partial")


# ---- reading ---------------------------------------------------------------------------------------------------


def no_file(path: Path) -> TrajectoryError:
    """Build the error for a path where nothing is, or a folder that is not a trajectory."""
    if path.is_dir():
        return TrajectoryError(
            f"{path} is a folder, and neither an unfinished recording nor a Zarr store. Give a file, such as "
            f"{path / 'run.nc'}; {str(path / '*.nc')!r} opens all of its files as runs of one network."
        )
    said = f"{path}: there is no such file, and no unfinished recording of that name"
    if not path.parent.is_dir():
        return TrajectoryError(f"{said}: the folder {path.parent} does not exist.")
    close = get_close_matches(path.name, itertools.islice(_names(path.parent), _MOST_NAMES), n=3)
    return TrajectoryError(said + (f". Did you mean {' or '.join(map(printable, close))}?" if close else ""))


def no_match(pattern: Pathlike) -> TrajectoryError:
    """Build the error for a pattern that no file matches."""
    where = "" if Path(pattern).is_absolute() else f" (looked for from the folder {Path.cwd()})"
    return TrajectoryError(f"{pattern}: no file matches this pattern{where}. Check the name and the folder.")


def _names(folder: Path) -> Iterator[str]:
    """Give the names in a folder, those of unfinished recordings as their files will be called; none if unreadable."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry.name.removesuffix(PARTIAL) for entry in entries)
    except OSError:
        return


def unfinished(path: Pathlike) -> Path:
    """Return the folder of an unfinished recording; raise TrajectoryError if there is none, or it is finished."""
    path = given_path(path)
    if path.name and partial_path(path).is_dir():
        return partial_path(path)
    file = path.with_name(path.name.removesuffix(PARTIAL)) if path.name else path
    if file.is_file() or (file.suffix == ".zarr" and file.is_dir()):
        raise TrajectoryError(f"{file} is finished already: there is nothing left to write into it.")
    if file.is_dir():
        raise no_file(file)
    raise TrajectoryError(f"there is no recording {file}, finished or not. Check the name and the folder.")


def run_names(files: Sequence[str]) -> list[str]:
    """Return what runs are called: their files without folder and suffix, or whole paths where two are named alike.

    Raises
    ------
    TrajectoryError
        For one file, or recording, as two runs.
    """
    seen: dict[str, str] = {}
    for file in files:
        same = _identity(file)
        if same in seen:
            said = file if seen[same] == file else f"{file}, which is the same as {seen[same]},"
            raise TrajectoryError(f"{said} is given twice, and one file is not two runs. Give each file once.")
        seen[same] = file
    names = [_run_name(file) for file in files]
    return names if len(set(names)) == len(names) else list(files)


def _identity(file: str) -> str:
    """Return one text for all ways to name a file."""
    local = urls.local_path(file) if urls.is_url(file) else file
    return file if local is None else os.path.realpath(given_path(local)).removesuffix(PARTIAL)


def _run_name(file: str) -> str:
    name = urls.url_name(file) if urls.is_url(file) else Path(file).name
    return name.removesuffix(PARTIAL).removesuffix(".nc").removesuffix(".zarr")


# ---- writing ---------------------------------------------------------------------------------------------------


def writable_path(path: Pathlike) -> Path:
    """Return the path of a file to write; raise RecordingError for no name, a folder, and a URL, which is read only."""
    given = given_path(path, RecordingError)
    if urls.is_url(os.fspath(path)):
        raise RecordingError(
            f"{os.fspath(path)}: files behind a URL are read, not written. Write to a folder, and copy that."
        )
    if given.suffix not in (".zarr", PARTIAL) and given.is_dir() and not is_zarr(given):
        raise RecordingError(f"{printable(given, 200)} is a folder. Give the name of a file to write.")
    beside = len(os.fsencode(temporary_name(given).name)) if given.name else 0
    if beside > _MOST_NAME:
        raise RecordingError(
            f"the name {printable(given.name, 80)} is too long by {beside - _MOST_NAME} bytes: while a file is "
            "written, one with a longer name lies beside it. Choose a shorter one."
        )
    return given


def writable_now(path: Pathlike) -> Path:
    """Return the path of a file to write after long work, whose folder is made, and written to, before the work.

    Raises
    ------
    RecordingError
        If the file cannot be written there.
    """
    path = writable_path(path)
    if path.is_dir():
        raise RecordingError(f"{path} is a folder. Give the name of a file to write.")
    writable_parent(path)
    return path


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a Zarr store."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup"))
