"""Web servers that are not trusted: every answer is bounded in time and size, and a file that changes is noticed."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import aiohttp
from fsspec.asyn import sync
from fsspec.implementations.http import HTTPFileSystem

__all__ = ["MOST_WHOLE", "WebFiles", "WholeFile"]


def __dir__() -> list[str]:
    return __all__


MOST_WHOLE = 2**28
"""Bytes of a file that is asked for as a whole into memory: a chunk of a Zarr store, or its metadata."""

_PIECE_BYTES = 2**16

_Result = TypeVar("_Result")


class WholeFile(OSError):
    """A server sends no parts."""


class WebFiles(HTTPFileSystem):  # type: ignore[misc]
    """Files behind ``http`` and ``https``, for fsspec.

    A part of a file is a part, of no more bytes than were asked for, and of the same file as the parts before it: its
    entity tag or the time of its last change must be the same, where the server tells them.
    """

    cachable = False  # what was seen of a file is of one dataset

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: dict[str, tuple[str | None, str | None]] = {}
        self.most_of: Callable[[str], int] = lambda url: MOST_WHOLE
        """Bytes of a file that is asked for as a whole."""

    async def set_session(self) -> Any:
        """Return the connections of these files, which are closed with them."""
        new = self._session is None
        session = await super().set_session()
        if new and self.asynchronous:  # fsspec leaves it to others
            weakref.finalize(self, self.close_session, None, session)
        return session

    async def _cat_file(self, url: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        part = start is not None or end is not None
        if part and start == end:
            return b""
        options = {**self.kwargs, **kwargs}
        if part:
            limits = await self._process_limits(url, start, end)
            options["headers"] = {**options.get("headers", {}), "Range": limits}
        most = end - start if start is not None and end is not None and end > start >= 0 else self.most_of(url)
        session = await self.set_session()
        async with session.get(self.encode_url(url), **options) as answer:
            self._raise_not_found_for_status(answer, url)
            if part and answer.status != 206:
                raise WholeFile("the server sends the whole file where a part was asked for")
            _check_plain(answer.headers)
            self.check_same(url, answer.headers)
            return await _read(answer, most)

    def check_same(self, url: str, headers: Mapping[str, str]) -> None:
        """Raise OSError if a file is not the one that was seen before; one of two marks may differ between mirrors."""
        told = (headers.get("ETag"), headers.get("Last-Modified"))
        before = self.seen.get(url, (None, None))
        known = [old == new for old, new in zip(before, told, strict=True) if old is not None and new is not None]
        if known and not any(known):
            raise OSError("the file behind it changed since it was opened. Open it again")
        self.seen[url] = (before[0] or told[0], before[1] or told[1])

    # ---- downloads ---------------------------------------------------------------------------------------------

    def wait(self, work: Coroutine[Any, Any, _Result], seconds: float) -> _Result:
        """Return the result of work for the network; TimeoutError after so many seconds, whatever was sent."""

        async def limited() -> _Result:
            return await asyncio.wait_for(work, seconds)

        found: _Result = sync(self.loop, limited)
        return found

    async def begin(self, url: str) -> Any:
        """Ask for a whole file; return the answer once its headers are there, with errors where it is none."""
        session = await self.set_session()
        answer = await session.get(self.encode_url(url), timeout=aiohttp.ClientTimeout(total=None), **self.kwargs)
        if answer.status == 410:
            raise FileNotFoundError(url)
        self._raise_not_found_for_status(answer, url)
        _check_plain(answer.headers)
        return answer

    async def piece(self, answer: Any) -> bytes:
        """Return what came of the body; nothing at its end, and where the server hung up."""
        try:
            data: bytes = await answer.content.read(_PIECE_BYTES)
        except aiohttp.ClientPayloadError:
            return b""
        return data

    async def end(self, answer: Any) -> None:
        """Let the server know that nothing more is wanted."""
        answer.close()


def _check_plain(headers: Mapping[str, str]) -> None:
    packed = headers.get("Content-Encoding", "identity")
    if packed.lower() != "identity":
        raise OSError(f"the server sends it packed ({packed[:40]}), though it was asked not to")


async def _read(answer: Any, most: int) -> bytes:
    """Read a body of at most so many bytes."""
    data = bytearray()
    async for piece in answer.content.iter_chunked(_PIECE_BYTES):
        data += piece
        if len(data) > most:
            raise OSError(f"the server sends more than the {most:,} bytes that were asked for")
    return bytes(data)
