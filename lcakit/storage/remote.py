"""Files behind a URL: read in place, part by part, where the server can send parts; otherwise downloaded whole first.

A server is not trusted: every read returns exactly the bytes that were asked for, in time, or raises an error that
names the URL. A server counts as hung after ``TIMEOUT`` seconds without a byte, or when a part takes ``PATIENCE`` times
that; in a download, when its headers take ``TIMEOUT`` seconds, or less than 1 KB a second comes. Bytes that are merely
wrong are noticed where they are compressed (each chunk has a checksum) or break the structure; ``lk.fetch`` compares
the whole file with a known sha256.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from lcakit.errors import LcakitError, LcakitWarning, TrajectoryError
from lcakit.packages import package
from lcakit.progress import progress
from lcakit.storage.local import Run
from lcakit.storage.urls import url_name
from lcakit.text import printable

__all__ = [
    "BLOCK_BYTES",
    "MOST_UNANNOUNCED",
    "PATIENCE",
    "TIMEOUT",
    "Remote",
    "download",
    "downloaded",
    "is_web",
    "url_errors",
    "web_files",
]


def __dir__() -> list[str]:
    return __all__


TIMEOUT, PATIENCE = 30.0, 10
"""Seconds without a byte after which a server counts as hung, and how many times that a part of a file may take."""

_SLOWEST = 1024
"""Bytes a second that must come of a download: a server that sends single bytes hangs too."""

MOST_UNANNOUNCED, _KEPT_FREE = 2**36, 2**28
"""Most bytes of a download whose size the server does not say, and what any leaves free on the disk."""

BLOCK_BYTES = 2**18  # what is asked for at once of a file's structure and labels

_REQUEST_BYTES, GAP_BYTES = 2**20, 2**16
"""Bytes of a request, of which many wait at the same time; and what is so near to each other is one request."""


@contextlib.contextmanager
def url_errors(url: str) -> Iterator[None]:
    """Turn any error that a server causes into a TrajectoryError that names the URL."""
    try:
        yield
    except LcakitError:
        raise
    except ImportError as error:
        raise LcakitError(f"{url}: cannot be opened here: {error}") from error
    except Exception as error:  # each protocol has its own errors, from packages that need not be here
        raise TrajectoryError(f"{url}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # fsspec raises it for every failure of a web server
    if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
        return "the server did not answer in time. Try again later."
    if isinstance(error, FileNotFoundError) or getattr(error, "status", None) in (404, 410):
        return "the server has no such file. Check the address."
    said = printable(error, 400).rstrip(".") or type(error).__name__  # a server chooses some of these words
    return f"cannot be read: {said}. Check the address, or try again later."


def is_web(url: str) -> bool:
    """Say whether a URL is that of a web server."""
    return url.lower().startswith(("http://", "https://"))


def web_files(url: str, timeout: float | None, asynchronous: bool = False) -> Any:
    """Return the files behind a web address: how long to wait is set, and that bytes are sent as they are."""
    aiohttp = package("aiohttp", "reading web addresses")
    package("fsspec", "reading URLs")
    with url_errors(url):
        from lcakit.storage.web import WebFiles

        seconds = TIMEOUT if timeout is None else timeout
        limits = aiohttp.ClientTimeout(total=PATIENCE * seconds, sock_connect=seconds, sock_read=seconds)
        client = {"timeout": limits, "auto_decompress": False}
        headers = {"Accept-Encoding": "identity"}
        return WebFiles(client_kwargs=client, headers=headers, asynchronous=asynchronous)


class Remote:
    """A file behind a URL; ``in_parts`` says whether the server can send parts of it.

    Raises
    ------
    TrajectoryError
        Wherever the server fails, sends less or more than asked for, or takes too long.
    """

    def __init__(self, url: str, timeout: float | None = None) -> None:
        self.url, self.timeout = url, TIMEOUT if timeout is None else timeout
        self._connect()
        with url_errors(url), self._system.open(self._path, "rb", block_size=64, cache_type="none") as file:
            self.size = int(getattr(file, "size", None) or 0)
            self.in_parts = bool(self.size and file.seekable() and self._sends_parts(file))

    def _connect(self) -> None:
        core = package("fsspec.core", "reading URLs")
        if is_web(self.url):
            self._system, self._path = web_files(self.url, self.timeout), self.url
            return
        with url_errors(self.url):
            self._system, self._path = core.url_to_fs(self.url)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name not in ("_system", "_path")}
        return state | {"seen": getattr(self._system, "seen", {})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        seen = state.pop("seen")
        vars(self).update(state)
        self._connect()
        if is_web(self.url):
            self._system.seen.update(seen)

    def _sends_parts(self, file: Any) -> bool:
        """Ask for the last byte, which also tells whether the file is as long as the server says."""
        if is_web(self.url):
            from lcakit.storage.web import WholeFile

            try:
                last = self._system.cat_file(self._path, self.size - 1, self.size)
            except WholeFile:
                return False
        else:
            file.seek(self.size - 1)
            last = file.read(1)
        self._check(last, self.size - 1, self.size)
        return True

    at_once = 2**26
    """Bytes of a variable's chunks to ask for together: requests that wait at the same time."""

    def fill(self, runs: Iterable[Run]) -> None:
        """Fill arrays with the bytes at their places; what lies near to each other is one request."""
        groups = list(_neighbours(piece for run in runs for piece in _pieces(run)))
        ranges = [(group[0][0], max(start + view.nbytes for start, view in group)) for group in groups]
        for group, (first, _), data in zip(groups, ranges, self.parts(ranges), strict=True):
            for start, view in group:
                view.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8, view.nbytes, start - first)

    def check(self) -> None:
        """Ask nothing: that the file changed is noticed with the next request."""

    def parts(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes from each start to each end, asked for at once."""
        starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
        with url_errors(self.url):
            found = self._system.cat_ranges([self._path] * len(ranges), starts, ends, on_error="raise")
            if failed := next((one for one in found if isinstance(one, Exception)), None):
                raise failed  # older versions of fsspec return it
        return [self._check(bytes(data), a, b) for data, (a, b) in zip(found, ranges, strict=True)]

    def _check(self, data: bytes, start: int, end: int) -> bytes:
        if len(data) != end - start:
            raise TrajectoryError(
                f"{self.url}: the server sent {len(data):,} bytes at {start:,} where {end - start:,} were asked for: "
                "it was cut short, or is not what the server says. Try again, or get all of it with lk.fetch."
            )
        return data


def _pieces(run: Run) -> Iterator[Run]:
    """Cut what is longer than a request."""
    start, view = run
    if view.nbytes <= _REQUEST_BYTES:
        yield run
        return
    data = view.reshape(-1).view(np.uint8)
    for first in range(0, data.size, _REQUEST_BYTES):
        yield start + first, data[first : first + _REQUEST_BYTES]


def _neighbours(runs: Iterable[Run]) -> Iterator[list[Run]]:
    """Group what lies side by side in the file."""
    group: list[Run] = []
    first = last = 0
    for start, view in sorted(runs, key=lambda run: run[0]):
        end = start + view.nbytes
        if group and (start - last > GAP_BYTES or end - first > _REQUEST_BYTES):
            yield group
            group = []
        first, last = (first if group else start), end
        group.append((start, view))
    if group:
        yield group


def downloaded(url: str, timeout: float | None = None) -> Path:
    """Download a file that cannot be read in parts, to a folder that is removed when Python ends."""
    folder = Path(tempfile.mkdtemp(prefix="lcakit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "download"
    try:
        with path.open("wb") as file:
            download(url, file, timeout, quiet=False)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    warnings.warn(
        f"{url}: this file cannot be read in parts, or its server sends none, so all {path.stat().st_size:,} bytes "
        "were downloaded to a temporary folder. lk.fetch keeps what it downloads.",
        LcakitWarning,
        stacklevel=4,
    )
    return path


def download(
    url: str, file: IO[bytes], timeout: float | None = None, quiet: bool = True, most: int | None = None
) -> None:
    """Write what is behind a URL to an open file, with a progress bar.

    Parameters
    ----------
    most
        Bytes to accept; None: as many as fit on the disk.

    Raises
    ------
    TrajectoryError
        If the server fails, sends less than it announced or more than accepted, or takes too long.
    """
    limit = TIMEOUT if timeout is None else timeout
    stream = _web_stream if is_web(url) else _stream
    with url_errors(url), stream(url, limit) as (total, pieces):
        written, accepted = 0, _accepted(url, file, total, most)
        with progress(total, f"downloading {url_name(url)}", unit="B", quiet=quiet) as bar:
            for piece in _in_time(pieces, limit):
                written += file.write(piece)
                bar.update(len(piece))
                if written > accepted:
                    raise TrajectoryError(
                        f"{url}: the server sends over {accepted:,} bytes, more than is accepted here"
                    )
    if total is not None and written != total:
        raise TrajectoryError(f"{url}: cut short: {written:,} of {total:,} bytes came. Try again.")


def _accepted(url: str, file: IO[bytes], total: int | None, most: int | None) -> int:
    """Return how many bytes are accepted: ``most``, and never more than fit on the disk."""
    accepted = most if most is not None else MOST_UNANNOUNCED if total is None else total
    if hasattr(os, "fstatvfs"):  # not on Windows
        disk = os.fstatvfs(file.fileno())
        free = max(0, disk.f_bavail * disk.f_frsize - _KEPT_FREE)
        if most is None and total is not None and total > free:
            raise TrajectoryError(f"{url}: has {total:,} bytes, and the disk has room for {free:,}. Free some space.")
        accepted = min(accepted, free)
    return accepted


@contextlib.contextmanager
def _web_stream(url: str, timeout: float) -> Iterator[tuple[int | None, Iterator[bytes]]]:
    files = web_files(url, timeout)
    answer = files.wait(files.begin(url), timeout)
    try:
        length = answer.headers.get("Content-Length")
        yield int(length) if length else None, iter(lambda: files.wait(files.piece(answer), timeout), b"")
    finally:
        files.wait(files.end(answer), timeout)


@contextlib.contextmanager
def _stream(url: str, timeout: float) -> Iterator[tuple[int | None, Iterator[bytes]]]:
    core = package("fsspec.core", "reading URLs")
    system, path = core.url_to_fs(url)
    with system.open(path, "rb") as file:
        yield getattr(file, "size", None), iter(lambda: file.read(BLOCK_BYTES), b"")


def _in_time(pieces: Iterator[bytes], timeout: float) -> Iterator[bytes]:
    """Pass pieces on; raise TimeoutError where they come too slowly."""
    since, count = time.monotonic(), 0
    for piece in pieces:
        yield piece
        count += len(piece)
        if count >= _SLOWEST * timeout:
            since, count = time.monotonic(), 0
        elif time.monotonic() - since > timeout:
            raise TimeoutError
