"""The beginning of a remote file as a file object: its structure and its labels, in blocks that are asked for once."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from lcakit.storage import remote as files
from lcakit.storage.local import Run

__all__ = ["RangeFile"]


def __dir__() -> list[str]:
    return __all__


class RangeFile(io.RawIOBase):
    """A remote file as a file object. Blocks are requested when they are first read, and kept."""

    mode, at_once = "rb", 0

    def __init__(self, remote: files.Remote) -> None:
        super().__init__()
        self.remote = remote
        self._place, self._step = 0, files.BLOCK_BYTES
        self._blocks: dict[int, bytes] = {}

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
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.remote.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, up to the end of the file."""
        view = memoryview(buffer).cast("B")
        start, end = self._place, max(self._place, min(self._place + len(view), self.remote.size))
        needed = range(start // self._step, -(-end // self._step))
        self._request(needed)
        data = b"".join(self._blocks[number] for number in needed)
        view[: end - start] = data[start - needed.start * self._step : end - needed.start * self._step]
        self._place = end
        return end - start

    def _request(self, numbers: range) -> None:
        """Get those of some neighbouring blocks that are not there yet, in one request."""
        missing = [number for number in numbers if number not in self._blocks]
        if not missing:
            return
        wanted = range(missing[0], missing[-1] + 1)
        low, high = wanted.start * self._step, min(wanted.stop * self._step, self.remote.size)
        (data,) = self.remote.parts([(low, high)])
        for number in wanted:
            self._blocks[number] = data[number * self._step - low : (number + 1) * self._step - low]

    def check(self) -> None:
        """Ask nothing: blocks are kept, too."""

    def fill(self, runs: Iterable[Run]) -> None:
        """Fill arrays with the bytes at their places: small ones, that lie near to each other."""
        for start, view in runs:
            self.seek(start)
            if self.readinto(memoryview(view.reshape(-1).view(np.uint8))) != view.nbytes:  # type: ignore[arg-type]
                raise OSError(f"the file ends at byte {self.remote.size:,}, before the data does")
