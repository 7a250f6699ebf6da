"""Chunks of the file that a recording becomes, written while it goes on, so that closing has little left to do.

A recording's segments hold rows, its file holds chunks: merging ten gigabytes at the end would take minutes. So the
thread that writes segments also copies each, in its idle time, to where its numbers will lie in the file. At the end
the netCDF library adds all that is small behind them, and their index is written (:mod:`lcakit.storage.chunk_index`).

Nothing depends on it. Segments are what a killed process leaves, and what others open. Where the early chunks turn out
to be of no use (no room on the disk, another length than was said, a damaged segment) they are given up, and the
segments are merged when the recording is closed.

A process that is killed leaves its early chunks, too. Where each lies follows from the segments and from the number of
iterations, which the file begins with. Who goes on, or makes the file, reads them back: rows with the checksums that
the segments have are there, and all others are copied anew.
"""

from __future__ import annotations

import math
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.storage.chunk_index import set_end, write_index
from lcakit.storage.guard.blocks import CorruptError
from lcakit.storage.guard.hdf5 import walk
from lcakit.storage.guard.segments import check_plain
from lcakit.storage.npz import StoredArray, damage, open_segment
from lcakit.trajectory import schema

__all__ = ["EarlyChunks", "remove_early"]


def __dir__() -> list[str]:
    return __all__


LEAST_BYTES = 512 * 2**20
"""Of segments, before chunks are written early: less is merged in a few seconds."""

_FILE = "early.nc"
_BEGIN = 2**16
"""Room for the beginning of the file, which the library makes at the end (a few kB)."""

_MARK, _MAGIC = struct.Struct("<8sQ"), b"lcaearly"
"""What the file begins with until then: what it is, and the iterations that its chunks are made for."""

_COMPARED = 2**24
"""Bytes that are read back at a time, of a row that is no larger."""

_UNKNOWN = 2**40
_MOST_EMPTY, _LEAST_PART = 0.05, 0.75
"""Where a recording has another length than was said: the share of a variable that its last chunks may hold empty, and
the iterations of a chunk against those that it would have."""


@dataclass
class _Variable:
    """Rows of a variable, in chunks: ``starts`` are the places of the first chunk of each row of chunks."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]  # of a row
    dtype: np.dtype[np.generic]
    chunk: tuple[int, ...]
    starts: list[int] = field(default_factory=list)
    rows: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of a chunk."""
        return self.dtype.itemsize * math.prod(self.chunk)

    @property
    def grid(self) -> tuple[int, ...]:
        """Numbers of chunks that a row is cut into, along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunk[1:], strict=True))

    def blocks(self, first: int, count: int) -> Iterator[tuple[tuple[slice, ...], tuple[int, ...], int]]:
        """Cut rows at the borders of chunks.

        Yields the place of a block in these rows, its shape, which is as wide as a chunk also at the end, and where in
        the file it lies.
        """
        row, done = self.nbytes // self.chunk[0], 0
        while done < count:
            number, inside = divmod(first + done, self.chunk[0])
            rows = slice(done, min(count, done + self.chunk[0] - inside))
            for at, place in enumerate(np.ndindex(self.grid)):
                columns = (slice(n * c, (n + 1) * c) for n, c in zip(place, self.chunk[1:], strict=True))
                start = self.starts[number] + at * self.nbytes + inside * row
                yield (rows, *columns), (rows.stop - rows.start, *self.chunk[1:]), start
            done = rows.stop

    def addresses(self) -> dict[tuple[int, ...], int]:
        """Return where each chunk lies, by its place in the grid."""
        places = list(np.ndindex(self.grid))
        return {
            (row, *place): start + number * self.nbytes
            for row, start in enumerate(self.starts)
            for number, place in enumerate(places)
        }

    def fits(self, array: xr.DataArray) -> bool:
        """Say whether all rows of a variable are here, in chunks like those that it would be merged into."""
        if self.rows != array.shape[0]:
            return False
        own = self.chunk[0]
        rows, *others = schema.chunk_sizes(self.dims, {str(dim): n for dim, n in array.sizes.items()})
        alike = _LEAST_PART * rows <= own <= self.rows and -self.rows % own <= _MOST_EMPTY * self.rows
        return tuple(others) == self.chunk[1:] and (rows == own or alike)


class EarlyChunks:
    """The chunks of a recording that are written early; not made before there is much to write.

    Parameters
    ----------
    directory
        Folder of the recording.
    iterations
        That it will have, as far as is known: where chunks end depends on it.

    Attributes
    ----------
    path : Path
        The file, in the folder of the recording.
    """

    def __init__(self, directory: Path, iterations: int | None) -> None:
        self.path = directory / _FILE
        self._directory, self._iterations = directory, iterations or _UNKNOWN
        self._variables: dict[str, _Variable] = {}
        self._file: BinaryIO | None = None
        self._given_up = False
        self._next, self._end, self._found = 0, _BEGIN, 0

    @classmethod
    def left(cls, directory: Path) -> EarlyChunks | None:
        """Return those that a killed process has left in a folder; None where there are none."""
        iterations = _made_for(directory / _FILE)
        return None if iterations is None else cls(directory, iterations)

    @property
    def chunks(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of the chunks of each variable."""
        return {name: variable.chunk for name, variable in self._variables.items()}

    # ---- while the recording goes on -----------------------------------------------------------------------------

    def add_next(self) -> bool:
        """Add the next finished segment; return whether another one may wait. Whatever fails, gives up."""
        path = self._directory / f"{self._next:06d}.npz"
        if self._given_up or not path.exists() or not (self._file or self._is_worth_it()):
            return False
        try:
            self._add(path)
        except (OSError, TrajectoryError):
            self.give_up()
            return False
        self._next += 1
        return True

    def give_up(self) -> bool:
        """Remove what was written; return whether others have more room now."""
        self._given_up = True
        if self._file is None:
            return False
        self.close()
        self._file = None
        self.path.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Write no further segment now."""
        if self._file is not None:
            self._file.close()

    def _is_worth_it(self) -> bool:
        if self.path.exists():
            return True
        return sum(path.stat().st_size for path in self._directory.glob("[0-9]*.npz")) >= LEAST_BYTES

    def _add(self, path: Path) -> None:
        file = self._file = self._file or self._opened()
        large = {name: stored for name, stored in open_segment(path).items() if self._is_in_chunks(name, stored)}
        missing = [name for name, stored in large.items() if not self._is_there(file, self._variables[name], stored)]
        if missing and shutil.disk_usage(self._directory).free < max(self._end, 2 * path.stat().st_size):
            raise OSError("the disk is nearly full")
        if damaged := damage(path, but=large.keys() - missing):
            raise TrajectoryError(f"{path}: {damaged}")
        for name in missing:
            self._put(file, self._variables[name], large[name].view(slice(None)))
            large[name].forget(0, large[name].shape[0])
        for name, stored in large.items():
            self._variables[name].rows += stored.shape[0]

    def _opened(self) -> BinaryIO:
        """Open the file that a process left, if its chunks are made for as many iterations; else begin one."""
        if _made_for(self.path) == self._iterations:
            self._found = self.path.stat().st_size
            return self.path.open("r+b", buffering=0)
        self.path.unlink(missing_ok=True)
        file = self.path.open("w+b", buffering=0)
        file.write(_MARK.pack(_MAGIC, self._iterations))
        return file

    def _is_in_chunks(self, name: str, stored: StoredArray) -> bool:
        """Say whether a variable is written early; if so, find places for these rows of it."""
        dims = schema.VARIABLES[base].dims if (base := schema.split_name(name)[0]) in schema.VARIABLES else ()
        if dims[:1] not in (("snapshot",), ("iteration",)) or dims[-1] != "parameter":
            return False
        if name not in self._variables:
            self._variables[name] = self._variable(dims, stored.shape[1:], stored.dtype)
        variable = self._variables[name]
        while len(variable.starts) * variable.chunk[0] < variable.rows + stored.shape[0]:
            variable.starts.append(self._end)
            self._end += variable.nbytes * math.prod(variable.grid)
        return True

    def _variable(self, dims: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> _Variable:
        rows = self._iterations + (dims[0] == "snapshot")
        return _Variable(dims, shape, dtype, schema.chunk_sizes(dims, dict(zip(dims, (rows, *shape), strict=True))))

    def _is_there(self, file: BinaryIO, variable: _Variable, stored: StoredArray) -> bool:
        """Say whether another process has written these rows: what lies there has their checksum."""
        first, end = variable.rows, variable.rows + stored.shape[0]
        if all(place >= self._found for *_, place in variable.blocks(first, end - first)):
            return False
        some = max(1, _COMPARED // (variable.dtype.itemsize * math.prod(variable.shape)))
        return stored.equals(_rows(file, variable, n, min(some, end - n)) for n in range(first, end, some))

    def _put(self, file: BinaryIO, variable: _Variable, values: np.ndarray) -> None:
        for part, shape, place in variable.blocks(variable.rows, len(values)):
            piece, some = np.zeros(shape, variable.dtype), values[part]
            piece[tuple(map(slice, some.shape))] = some
            file.seek(place)
            _write_all(file, piece)

    # ---- when it is over -----------------------------------------------------------------------------------------

    def complete(self, ds: xr.Dataset) -> bool:
        """Add what is left; return whether all can be used. Otherwise what was written is removed."""
        while self.add_next():
            pass
        names = [name for name, variable in self._variables.items() if name not in ds or not variable.fits(ds[name])]
        if self._file is None or self._given_up or names:
            self.give_up()
            return False
        return True

    def become(self, path: Path, beginning: Callable[[Path], None]) -> None:
        """Give the file another name, and a beginning: the library goes on behind the chunks."""
        self.close()
        beginning(path)
        begin = path.read_bytes()
        if len(begin) > _BEGIN:
            raise OSError(f"the beginning of a file takes {len(begin):,} bytes")
        with self.path.open("r+b") as file:
            file.truncate(self._end)
            file.write(begin)
            set_end(file, self._end)
        self.path.replace(path)

    def write_indexes(self, path: Path) -> None:
        """Write the index of all chunks of all variables, which the library has made there."""
        with path.open("r+b") as file:
            end = file.seek(0, 2)
            found = walk(file, end)
            for name, variable in self._variables.items():
                end = write_index(
                    file, found[name].index, end, variable.chunk, variable.dtype.itemsize, variable.addresses()
                )
            set_end(file, end)
            file.truncate(end)
            found = walk(file, end)
        if missing := [name for name in self._variables if not found[name].complete]:
            raise OSError(f"chunks of {missing[0]} are missing")


def remove_early(directory: Path) -> None:
    """Remove what a killed process left of early chunks: the file that is merged instead may need the room."""
    if (directory / _FILE).exists():
        (directory / _FILE).unlink()


def _made_for(path: Path) -> int | None:
    """Return the iterations that chunks are made for; None where there are no early chunks."""
    try:
        check_plain(path)
        with path.open("rb") as file:
            mark, iterations = _MARK.unpack(file.read(_MARK.size))
    except (OSError, CorruptError, struct.error):
        return None
    return int(iterations) if mark == _MAGIC else None


def _rows(file: BinaryIO, variable: _Variable, first: int, count: int) -> np.ndarray:
    """Read rows; what lies behind the end of the file is zero."""
    rows = np.empty((count, *variable.shape), variable.dtype)
    for part, shape, place in variable.blocks(first, count):
        piece, into = np.zeros(shape, variable.dtype), rows[part]
        file.seek(place)
        _read_all(file, piece)
        into[...] = piece[tuple(map(slice, into.shape))]
    return rows


def _bytes(array: np.ndarray) -> Any:
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def _write_all(file: BinaryIO, array: np.ndarray) -> None:
    left = _bytes(array)
    while left:
        left = left[file.write(left) :]


def _read_all(file: Any, array: np.ndarray) -> None:
    """Read an array as far as the file goes."""
    left = _bytes(array)
    while left and (count := file.readinto(left)):
        left = left[count:]
