"""Chunks of the file that a recording becomes, written while it goes on, so that closing has little left to do.

A recording's segments hold rows, its file holds chunks: merging ten gigabytes at the end would take minutes. So the
thread that writes segments also copies each, in its idle time, to where its numbers will lie in the file. At the end
the netCDF library adds all that is small behind them, and their index is written (:mod:`lcakit.storage.chunk_index`).

Nothing depends on it. Segments are what a killed process leaves, and what others open. Where the early chunks turn out
to be of no use (no room on the disk, another length than was said, a damaged segment) they are given up, and the
segments are merged when the recording is closed.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.storage.chunk_index import set_end, write_index
from lcakit.storage.guard.hdf5 import walk
from lcakit.storage.npz import damage, open_segment
from lcakit.trajectory import schema

__all__ = ["EarlyChunks", "remove_early"]


def __dir__() -> list[str]:
    return __all__


LEAST_BYTES = 512 * 2**20
"""Of segments, before chunks are written early: less is merged in a few seconds."""

_FILE = "early.nc"
_BEGIN = 2**16
"""Room for the beginning of the file, which the library makes at the end (a few kB)."""

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

    def pieces(self, values: np.ndarray) -> Iterator[np.ndarray]:
        """Cut rows at the borders of chunks; each piece is as wide as a chunk, also at the end."""
        for place in np.ndindex(self.grid):
            part = values[
                (slice(None), *(slice(n * c, (n + 1) * c) for n, c in zip(place, self.chunk[1:], strict=True)))
            ]
            piece = np.zeros((len(values), *self.chunk[1:]), self.dtype)
            piece[tuple(map(slice, part.shape))] = part
            yield piece

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
        self._next, self._end = 0, _BEGIN

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
            if shutil.disk_usage(self._directory).free < max(self._end, 2 * path.stat().st_size) or damage(path):
                self.give_up()
                return False
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
        return sum(path.stat().st_size for path in self._directory.glob("[0-9]*.npz")) >= LEAST_BYTES

    def _add(self, path: Path) -> None:
        file = self._file = self._file or self.path.open("w+b", buffering=0)
        for name, stored in open_segment(path).items():
            dims = schema.VARIABLES[base].dims if (base := schema.split_name(name)[0]) in schema.VARIABLES else ()
            if dims[:1] in (("snapshot",), ("iteration",)) and dims[-1] == "parameter":
                if name not in self._variables:
                    self._variables[name] = self._variable(dims, stored.shape[1:], stored.dtype)
                self._put(file, self._variables[name], stored.view(slice(None)))
                stored.forget(0, stored.shape[0])

    def _variable(self, dims: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> _Variable:
        rows = self._iterations + (dims[0] == "snapshot")
        return _Variable(dims, shape, dtype, schema.chunk_sizes(dims, dict(zip(dims, (rows, *shape), strict=True))))

    def _put(self, file: BinaryIO, variable: _Variable, values: np.ndarray) -> None:
        row = variable.nbytes // variable.chunk[0]
        while len(values):
            number, inside = divmod(variable.rows, variable.chunk[0])
            if number == len(variable.starts):
                variable.starts.append(self._end)
                self._end += variable.nbytes * math.prod(variable.grid)
            part, values = np.split(values, [variable.chunk[0] - inside])
            place = variable.starts[number] + inside * row
            for piece in variable.pieces(part):
                file.seek(place)
                _write_all(file, piece)
                place += variable.nbytes
            variable.rows += len(part)

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
                addresses = variable.addresses() | {place: start for place, (start, _) in found[name].ranges.items()}
                end = write_index(file, found[name].index, end, variable.chunk, variable.dtype.itemsize, addresses)
            set_end(file, end)
            file.truncate(end)
            found = walk(file, end)
        if missing := [name for name in self._variables if not found[name].complete]:
            raise OSError(f"chunks of {missing[0]} are missing")


def remove_early(directory: Path) -> None:
    """Remove what a killed process left of early chunks: the file that is merged instead may need the room."""
    if (directory / _FILE).exists():
        (directory / _FILE).unlink()


def _write_all(file: BinaryIO, array: np.ndarray) -> None:
    left: Any = memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    while left:
        left = left[file.write(left) :]
