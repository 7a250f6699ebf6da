"""Files behind a URL: read in place, part by part, where the server can send parts; otherwise downloaded whole first.

A server is not believed: every read gives exactly the bytes that were asked for, and in time, or an error that names
the URL. Bytes that are merely wrong are noticed where they are compressed (each chunk has a checksum) or break the
structure; ``lk.fetch`` compares the whole file with a known sha256.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import re
import shutil
import tempfile
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from lcakit import guard
from lcakit.errors import LcakitError, LcakitWarning, TrajectoryError
from lcakit.packages import package
from lcakit.progress import progress

TIMEOUT, PATIENCE = 30.0, 10
"""Seconds without a byte after which a server counts as hung, and how many times that a part of a file may take."""

SLOWEST = 1024
"""Bytes that must come in that time: a server that sends single bytes hangs too."""

BLOCK_BYTES, BLOCKS = 2**18, 64  # what one request fetches at least, and how many of these are kept
PIECE_BYTES = 2**16


def is_url(source: str) -> bool:
    """Say whether a text is a URL (``https://…``, ``s3://…``, ``gs://…``), also a chained one of fsspec."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)", source) is not None


def local_path(url: str) -> str | None:
    """Return the path behind a ``file://`` URL, None for any other."""
    return unquote(urlsplit(url).path) if url.lower().startswith("file://") else None


def url_name(url: str) -> str:
    """Return the last part of a URL's path: the name of the file."""
    return unquote(urlsplit(url.rpartition("::")[2]).path).rstrip("/").rpartition("/")[2]


@contextlib.contextmanager
def telling(url: str) -> Iterator[None]:
    """Raise whatever goes wrong with a server as a TrajectoryError that names the URL."""
    try:
        yield
    except LcakitError:
        raise
    except ImportError as error:
        raise LcakitError(f"{url}: cannot be opened here: {error}") from error
    except Exception as error:  # each protocol has its own errors, from packages that need not be here
        raise TrajectoryError(f"{url}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # fsspec calls every failure of a web server so
    if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
        return "the server did not answer in time. Try again later."
    if isinstance(error, FileNotFoundError) or getattr(error, "status", None) in (404, 410):
        return "the server has no such file. Check the address."
    said = str(error).rstrip(".") or type(error).__name__
    return f"cannot be read: {said}. Check the address, or try again later."


def storage_options(url: str, timeout: float) -> dict[str, Any]:
    """Return what fsspec is to know about a URL: for web servers, how long to wait, and to send plain bytes."""
    if not url.lower().startswith(("http://", "https://")):
        return {}
    limits = package("aiohttp", "reading web addresses").ClientTimeout(
        total=PATIENCE * timeout, sock_connect=timeout, sock_read=timeout
    )
    return {"client_kwargs": {"timeout": limits}, "headers": {"Accept-Encoding": "identity"}}


class RangeFile(io.RawIOBase):
    """A remote file, seekable and read-only; ``in_parts`` says whether the server sends parts of it.

    What is read before :meth:`seal` is kept: a structure that was checked is the one that is used, whatever the server
    sends later.

    Raises
    ------
    TrajectoryError
        Wherever the server fails, sends less or more than asked for, or takes too long.
    """

    mode = "rb"

    def __init__(self, url: str, timeout: float | None = None) -> None:
        super().__init__()
        self.url, self.timeout = url, TIMEOUT if timeout is None else timeout
        self._place, self._kept, self._recent = 0, dict[int, bytes](), OrderedDict[int, bytes]()
        self._sealed = False
        core = package("fsspec.core", "reading URLs")
        with telling(url):
            self._system, self._path = core.url_to_fs(url, **storage_options(url, self.timeout))
            with self._system.open(self._path, "rb", block_size=64, cache_type="none") as file:
                self.size = int(getattr(file, "size", None) or 0)
                self.in_parts = bool(self.size and file.seekable() and self._sends_parts(file))

    def __reduce__(self) -> tuple[Any, ...]:
        return _checked_file, (self.url, self.timeout)

    def _sends_parts(self, file: Any) -> bool:
        """Ask for the last byte, which also tells whether the file is as long as the server says."""
        try:
            file.seek(self.size - 1)
            last = file.read(1)
        except ValueError as error:
            if "range requests" in str(error):
                return False
            raise
        self._check(last, self.size - 1, 1)
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; nothing is read yet."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def seal(self) -> None:
        """Keep what was read so far for good; of what comes later only the most recent blocks."""
        self._sealed = True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, up to the end of the file."""
        view = memoryview(buffer).cast("B")
        start, end = self._place, min(self._place + len(view), self.size)
        done = 0
        while start + done < end:
            part = self._from(start + done, end)
            view[done : done + len(part)] = part
            done += len(part)
        self._place += done
        return done

    def _from(self, start: int, end: int) -> bytes:
        """Return bytes from ``start`` on, at most to ``end``: of a block, or at once where no block is there."""
        number, inside = divmod(start, BLOCK_BYTES)
        if self._sealed and not self._has(number):
            after = number + 1
            while after * BLOCK_BYTES < end and not self._has(after):
                after += 1
            if min(end, after * BLOCK_BYTES) - start > BLOCK_BYTES:
                return self._fetched(start, min(end, after * BLOCK_BYTES))
        return self._block(number)[inside : inside + end - start]

    def _has(self, number: int) -> bool:
        return number in self._kept or number in self._recent

    def _block(self, number: int) -> bytes:
        if number in self._kept:
            return self._kept[number]
        if number not in self._recent:
            first = number * BLOCK_BYTES
            blocks = self._recent if self._sealed else self._kept
            blocks[number] = self._fetched(first, min(first + BLOCK_BYTES, self.size))
            if not self._sealed:
                return self._kept[number]
        self._recent.move_to_end(number)
        while len(self._recent) > BLOCKS:
            self._recent.popitem(last=False)
        return self._recent[number]

    def _fetched(self, start: int, end: int) -> bytes:
        with telling(self.url):
            data = bytes(self._system.cat_file(self._path, start=start, end=end))
        return self._check(data, start, end - start)

    def _check(self, data: bytes, start: int, count: int) -> bytes:
        if len(data) != count:
            raise TrajectoryError(
                f"{self.url}: the server sent {len(data):,} bytes at {start:,} where {count:,} were asked for: "
                "it was cut short, or is not what the server says. Try again, or get all of it with lk.fetch."
            )
        return data


def _checked_file(url: str, timeout: float) -> RangeFile:
    """Open a remote file in another process, where its structure is checked again."""
    file = RangeFile(url, timeout)
    guard.check_file(url, file)  # type: ignore[arg-type]
    file.seal()
    return file


def downloaded(url: str, timeout: float | None = None) -> Path:
    """Download a file that the server does not send in parts, to a folder that is removed when Python ends."""
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
        f"{url}: the server does not send parts of a file, so all {path.stat().st_size:,} bytes were downloaded to a "
        "temporary folder. lk.fetch keeps what it downloads.",
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
    stream = _web_stream if url.lower().startswith(("http://", "https://")) else _stream
    with telling(url), stream(url, limit) as (total, pieces):
        written = 0
        with progress(total, f"downloading {url_name(url)}", unit="B", quiet=quiet) as bar:
            for piece in _in_time(pieces, limit):
                written += file.write(piece)
                bar.update(len(piece))
                if most is not None and written > most:
                    raise TrajectoryError(f"{url}: over {most:,} bytes come, more than is accepted here")
    if total is not None and written != total:
        raise TrajectoryError(f"{url}: cut short: {written:,} of {total:,} bytes came. Try again.")


@contextlib.contextmanager
def _web_stream(url: str, timeout: float) -> Iterator[tuple[int | None, Iterator[bytes]]]:
    requests = package("requests", "downloading")
    with requests.get(url, stream=True, timeout=timeout, headers={"Accept-Encoding": "identity"}) as answer:
        if answer.status_code in (404, 410):
            raise FileNotFoundError(url)
        answer.raise_for_status()
        length = answer.headers.get("Content-Length")
        yield int(length) if length else None, iter(lambda: answer.raw.read1(PIECE_BYTES), b"")


@contextlib.contextmanager
def _stream(url: str, timeout: float) -> Iterator[tuple[int | None, Iterator[bytes]]]:
    core = package("fsspec.core", "reading URLs")
    system, path = core.url_to_fs(url)
    with system.open(path, "rb") as file:
        yield getattr(file, "size", None), iter(lambda: file.read(BLOCK_BYTES), b"")


def _in_time(pieces: Iterator[bytes], timeout: float) -> Iterator[bytes]:
    """Pass pieces on as long as enough of them come."""
    since, count = time.monotonic(), 0
    for piece in pieces:
        yield piece
        count += len(piece)
        if count >= SLOWEST:
            since, count = time.monotonic(), 0
        elif time.monotonic() - since > timeout:
            raise TimeoutError
