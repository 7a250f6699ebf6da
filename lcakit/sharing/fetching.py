"""Trajectories by name: a registry gives the address and the sha256 of each file; what is fetched is kept in a cache.

A registry is a text file of lines ``name url sha256``; empty lines and those that begin with ``#`` are ignored. A file
beside the registry is given by its name instead of a URL, and is used where it is. Any other file is downloaded under a
temporary name and gets its name in the cache only after its hash has been compared. A file from the cache is compared
again each time, so what ``fetch`` returns is always what the registry promises.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from lcakit.errors import LcakitError, TrajectoryError, unknown
from lcakit.packages import bundled, package
from lcakit.storage.remote import TIMEOUT, download
from lcakit.storage.urls import is_url, local_path
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["MOST_REGISTRY_BYTES", "REGISTRY", "SCHEMES", "Entry", "fetch", "read_registry"]


def __dir__() -> list[str]:
    return __all__


REGISTRY = bundled("data") / "registry.txt"
"""The registry of the trajectories that come with lcakit."""

SCHEMES = ("https://", "http://", "s3://", "gs://")
MOST_REGISTRY_BYTES = 2**22


@dataclass(frozen=True)
class Entry:
    """A line of a registry: the name of a file, its URL (or path), and the sha256 of its bytes in hexadecimal."""

    name: str
    url: str
    sha256: str


@checks_arguments
def fetch(
    name: str,
    registry: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    *,
    timeout: float = TIMEOUT,
    quiet: bool = False,
) -> Path:
    """Return the local path of a trajectory of a registry; download it if it is not in the cache yet.

    Parameters
    ----------
    name
        A name in the registry, such as ``"mnist-fc-sgd-0.nc"``.
    registry
        Path or URL of a registry; by default that of the project (``data/registry.txt``).
    cache
        Folder to keep files in; by default the user's cache folder for lcakit.
    timeout
        Seconds without an answer after which a server counts as hung.
    quiet
        No progress bar.

    Returns
    -------
    Path
        Of a file with the sha256 of the registry. Open it with ``lk.open_trajectory``.

    Raises
    ------
    ValueError
        For a name that the registry does not have.
    TrajectoryError
        If the registry cannot be read, the server fails or hangs, or what it sent has a different hash; nothing of it
        is kept then.

    Examples
    --------
    >>> import tempfile
    >>> import lcakit as lk
    >>> from lcakit.testing import tiny_trajectory
    >>> folder = Path(tempfile.mkdtemp())
    >>> run = lk.save(tiny_trajectory(), folder / "run.nc")
    >>> digest = hashlib.sha256(run.read_bytes()).hexdigest()
    >>> _ = (folder / "registry.txt").write_text(f"my-run.nc run.nc {digest}")
    >>> fetch("my-run.nc", folder / "registry.txt").name
    'run.nc'
    """
    entries = read_registry(registry, timeout=timeout)
    if name not in entries:
        raise unknown("trajectory", name, entries)
    entry = entries[name]
    if not is_url(entry.url):
        return _beside(entry)
    pooch = package("pooch", "fetching files")
    folder = Path(cache) if cache is not None else Path(pooch.os_cache("lcakit"))
    with _quiet_pooch(pooch):
        try:
            found = pooch.retrieve(
                entry.url,
                known_hash=f"sha256:{entry.sha256}",
                fname=entry.name,
                path=folder,
                downloader=_Downloader(timeout, quiet),
            )
        except LcakitError as error:  # of an address that the user may never have seen
            error.args = (f"{entry.name}: {error}",)
            raise
        except ValueError as error:  # what pooch raises for a different hash
            raise TrajectoryError(
                f"{entry.url}: the file is not the one in the registry: its sha256 is not {entry.sha256}. "
                "Nothing of it was kept. Tell the maintainer of the registry."
            ) from error
        except OSError as error:
            raise TrajectoryError(
                f"{folder / entry.name}: cannot be written: {error}. Choose another cache."
            ) from error
    return Path(found)


def read_registry(registry: str | os.PathLike[str] | None = None, *, timeout: float = TIMEOUT) -> dict[str, Entry]:
    """Read a registry: names in the order of the file.

    Parameters
    ----------
    registry
        Path or URL; None for that of the project.

    Raises
    ------
    TrajectoryError
        If there is none, or a line is not ``name url sha256``; the message names the line.
    """
    where = os.fspath(REGISTRY if registry is None else registry)
    entries: dict[str, Entry] = {}
    for number, line in enumerate(_text(where, timeout).splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        problem = _problem(words, entries)
        if problem:
            raise TrajectoryError(f"{where}, line {number}: {problem}. A line is: name url sha256")
        entries[words[0]] = Entry(words[0], _place(words[1], where), words[2].lower())
    return entries


def _beside(entry: Entry) -> Path:
    """Return a file that lies beside its registry, if its hash is that of the registry."""
    path = Path(entry.url)
    try:
        _check_plain(path)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TrajectoryError(
            f"{path}: cannot be read: {error}. The registry beside it gives it as {entry.name!r}."
        ) from error
    if found != entry.sha256:
        raise TrajectoryError(f"{path}: its sha256 is {found}, not {entry.sha256} as the registry beside it says.")
    return path


def _check_plain(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise OSError("it is a folder, a pipe or a device, not a file")


def _place(url: str, registry: str) -> str:
    """Return where a file lies; one named without a scheme lies beside its registry."""
    if is_url(url):
        return url
    path = local_path(registry) if is_url(registry) else registry
    return urljoin(registry, url) if path is None else str(Path(path).parent / url)


def _problem(words: list[str], entries: dict[str, Entry]) -> str | None:
    """Say what is wrong with a line. Names become names of files, so nothing else is allowed in them."""
    if len(words) != 3:
        return f"{len(words)} words"
    name, url, sha256 = words
    if not _is_file_name(name):
        return (
            f"{name[:80]!r} is not a valid file name: it may hold letters, digits and . _ + -, and must begin with a "
            "letter or digit"
        )
    if name in entries:
        return f"{name!r} is listed twice"
    if not (url.lower().startswith(SCHEMES) or _is_file_name(url)):
        begin = ", ".join(SCHEMES)
        return f"{url[:80]!r} is neither a URL that begins with {begin} nor the name of a file beside the registry"
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        return f"{sha256[:80]!r} is not a sha256 (64 hexadecimal digits)"
    return None


def _is_file_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}", text) is not None


def _text(where: str, timeout: float) -> str:
    path = local_path(where) if is_url(where) else where
    try:
        if path is not None:
            _check_plain(Path(path))
            with Path(path).open("rb") as file:
                data = file.read(MOST_REGISTRY_BYTES + 1)
        else:
            with tempfile.TemporaryFile() as temporary:
                download(where, temporary, timeout, most=MOST_REGISTRY_BYTES)
                temporary.seek(0)
                data = temporary.read()
        if len(data) > MOST_REGISTRY_BYTES:
            raise TrajectoryError(f"{where}: over {MOST_REGISTRY_BYTES:,} bytes, too large for a registry")
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrajectoryError(
            f"{where}: the registry cannot be read ({error}). Pass registry= with the path or URL of a text "
            "file of lines: name url sha256"
        ) from error


class _Downloader:
    """Called by pooch to download a URL into a temporary file."""

    def __init__(self, timeout: float, quiet: bool) -> None:
        self._timeout, self._quiet = timeout, quiet

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        with Path(output_file).open("wb") as file:
            download(url, file, self._timeout, self._quiet)


@contextlib.contextmanager
def _quiet_pooch(pooch: Any) -> Iterator[None]:
    """Silence pooch's log: the progress bar and the errors tell the user what happens."""
    logger: logging.Logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
