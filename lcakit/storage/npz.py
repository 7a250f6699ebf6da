"""NumPy archives that are written array by array and read piece by piece: the files of a recording in progress."""

from __future__ import annotations

import itertools
import math
import os
import tokenize
import zipfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lcakit.errors import TrajectoryError
from lcakit.storage.packed import crc32
from lcakit.storage.state import State

__all__ = ["ITERATIONS", "Arrays", "JoinedArray", "StoredArray", "damage", "open_segment", "write_arrays"]


def __dir__() -> list[str]:
    return __all__


_MOST_HEADER = 4096  # of an array: ours have about 100 bytes
_READ, _WRITE = 2**18, 2**20  # bytes at a time: they stay in the processor's cache

Arrays = Iterable[tuple[str, np.ndarray]]
ITERATIONS = "iterations"
"""In a file of running statistics: the number of iterations that they are of."""


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write an archive as ``np.savez`` does, but one array after the other, and without copies of them."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays:
            ordered = np.asarray(array, order="C")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(ordered))
                flat = ordered.reshape(-1).view(np.uint8)
                for start in range(0, flat.size, _WRITE):
                    member.write(flat[start : start + _WRITE].data)


class StoredArray:
    """A variable of a segment on disk: an array-like that reads what it is asked for, and holds nothing.

    It is mapped for the time of one read only, so that neither memory nor the number of maps grows with a recording.
    """

    def __init__(
        self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, begin: int, checksum: int
    ) -> None:
        self.path, self.dtype, self.shape, self.offset = path, dtype, shape, offset
        self.ndim = len(shape)
        self._begin, self._checksum = begin, checksum  # of the member, which begins with what says type and shape
        self._state = State.of(path)

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.array(self.view(key))

    def view(self, key: Any) -> np.ndarray:
        """Return a part as a view of the file, which stays mapped as long as the part is in use."""
        if 0 in self.shape:
            return np.asarray(np.zeros(self.shape, self.dtype)[key])
        try:
            stored = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
            now = State.of(self.path)
        except FileNotFoundError:
            raise TrajectoryError(
                f"{self.path} is gone: the recording went on, or became a file, since it was opened. Open it again."
            ) from None
        except (OSError, ValueError) as error:  # it is shorter than it was
            raise TrajectoryError(f"{self.path} changed since it was opened: {error}. Open it again.") from error
        if now != self._state:
            raise TrajectoryError(f"{self.path} changed since it was opened. Open it again.")
        return np.asarray(stored[key])

    def equals(self, rows: Iterable[np.ndarray]) -> bool:
        """Say whether these are its rows, by its checksum: they are not read."""
        with self.path.open("rb") as file:
            file.seek(self._begin)
            found = crc32(file.read(self.offset - self._begin))
        for row in rows:
            found = crc32(row.reshape(-1).view(np.uint8), found)
        return bool(found == self._checksum)

    def forget(self, start: int, stop: int) -> None:
        """Let the system use the memory in which it keeps these rows of the file.

        A large file is merged a third faster so: what is written needs as much memory as what was read.
        """
        if hasattr(os, "posix_fadvise"):  # not on macOS and Windows
            row = self.dtype.itemsize * math.prod(self.shape[1:])
            with self.path.open("rb") as file:
                place = (self.offset + start * row, (stop - start) * row)
                os.posix_fadvise(file.fileno(), *place, os.POSIX_FADV_DONTNEED)


def _is_end(columns: Sequence[Any], shape: tuple[int, ...]) -> bool:
    """Say whether a part goes to the end of its rows, whose first parts were read before."""
    return all(not isinstance(at, slice) or at.indices(n)[1] == n for at, n in zip(columns, shape[1:], strict=False))


class JoinedArray:
    """Consecutive blocks of a variable: an array-like that reads what it is asked for into one new array.

    ``once`` says that all is read one time, in order: the system need not keep it in memory.
    """

    def __init__(self, blocks: Sequence[StoredArray], once: bool = False) -> None:
        self._blocks, self._once = blocks, once
        self._edges = list(itertools.accumulate((block.shape[0] for block in blocks), initial=0))
        self.dtype, self.ndim = blocks[0].dtype, blocks[0].ndim
        self.shape = (self._edges[-1], *blocks[0].shape[1:])

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            return self._picked(np.arange(self.shape[0])[rows], rest)
        start, stop, _ = rows.indices(self.shape[0])
        out: np.ndarray | None = None
        for block, first in zip(self._blocks, self._edges, strict=False):
            low, high = max(start - first, 0), min(stop - first, block.shape[0])
            if low < high:
                part = block.view((slice(low, high), *rest))
                if out is None:
                    out = np.empty((stop - start, *part.shape[1:]), self.dtype)
                out[first + low - start : first + high - start] = part
                del part  # the system keeps what is mapped
                if self._once and _is_end(rest, self.shape):
                    block.forget(low, high)
        return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)] if out is None else out

    def _picked(self, rows: Any, rest: Sequence[Any]) -> np.ndarray:
        """Return single rows, or some that do not follow each other."""
        if rows.ndim == 0:
            return np.asarray(self[(slice(int(rows), int(rows) + 1), *rest)][0])
        first, last = (int(rows.min()), int(rows.max())) if rows.size else (0, -1)
        return np.asarray(self[first : last + 1][(rows - first, *rest)])


def open_segment(path: Path) -> dict[str, StoredArray]:
    """Return the variables of a segment; nothing but their headers is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        return {member.filename.removesuffix(".npy"): _member(path, member) for member in members}
    except (OSError, ValueError, SyntaxError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile) as error:
        raise TrajectoryError(f"{path}: the segment cannot be read ({error})") from error


def damage(path: Path, but: Collection[str] = ()) -> str:
    """Compare every byte of an archive with the checksums in it; say what differs, or nothing.

    ``but`` names arrays that are not read.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb", buffering=0) as file:
            members = [member for member in archive.infolist() if member.filename.removesuffix(".npy") not in but]
            wrong = [member.filename for member in members if _checksum(archive, file, member) != member.CRC]
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        return f"cannot be read ({error})"
    return f"{wrong[0]} differs from its checksum" if wrong else ""


def _checksum(archive: zipfile.ZipFile, file: BinaryIO, member: zipfile.ZipInfo) -> int:
    with archive.open(member):  # which compares what its own header says with the list of all
        _go_to(file, member)
    found, left, buffer = 0, member.file_size, memoryview(bytearray(_READ))
    while left:
        count = file.readinto(buffer[:left])  # type: ignore[attr-defined]
        if not count:
            raise EOFError(f"it ends inside {member.filename}")
        found, left = crc32(buffer[:count], found), left - count
    return int(found)


def _go_to(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Go to where a stored member begins: behind its local header (30 bytes, name, extra field)."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"member {member.filename} is compressed")
    file.seek(member.header_offset)
    local = file.read(30)
    return file.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), os.SEEK_CUR)


def _member(path: Path, member: zipfile.ZipInfo) -> StoredArray:
    """Locate one stored .npy member of an .npz."""
    with path.open("rb") as file:
        begin = _go_to(file, member)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=_MOST_HEADER)
        if dtype.hasobject or fortran:
            raise ValueError(f"member {member.filename} is not a plain array")
        return StoredArray(path, dtype, shape, file.tell(), begin, member.CRC)
