"""Variables of netCDF-4 files, read chunk by chunk without the HDF5 library: on disk and behind URLs.

The library reads behind one lock, and inflates whatever a packed chunk holds, while a megabyte can hold a gigabyte of
zeros. Here any number of threads read and unpack at once, no chunk takes more memory than it should, and of chunks that
are not packed only the bytes that were asked for are read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from lcakit.errors import TrajectoryError
from lcakit.storage.guard.hdf5 import Stored
from lcakit.storage.guard.messages import TEXT
from lcakit.storage.kept import Kept
from lcakit.storage.local import Run
from lcakit.storage.memory import empty
from lcakit.storage.packed import unpacked

__all__ = ["ChunkArray", "Chunks", "Source", "chunks_of"]


def __dir__() -> list[str]:
    return __all__


_NEAR_BYTES = 4096
"""Indices of one axis that are so near to each other are read with what lies between."""

_Place = tuple[int, ...]
_Key = int | slice | np.ndarray
_Part = tuple[slice, slice]
"""Along an axis: which of a chunk's indices are wanted, and where they go."""

_Wanted = tuple[_Place, list[tuple[_Part, ...]]]
"""A chunk, and what is wanted of it."""


class Source(Protocol):
    """A file that can be read in parts."""

    at_once: int
    """Bytes of packed chunks that are best asked for together."""

    def fill(self, runs: Iterable[Run]) -> None:
        """Fill arrays with the bytes at their places."""
        ...

    def check(self) -> None:
        """Raise TrajectoryError where it is known that the file was overwritten."""
        ...


# ---- where chunks lie ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunks:
    """The chunks of a variable: where each lies in the file, by its place in the grid, and in what form.

    Data without chunks is one chunk. A chunk that has no range was never written, and holds ``fill``.
    """

    shape: _Place
    chunk: _Place
    dtype: np.dtype[Any]
    filters: _Place = ()
    ranges: Mapping[_Place, tuple[int, int]] = field(default_factory=dict)
    fill: bytes = b""

    @property
    def nbytes(self) -> int:
        """Bytes of a chunk, unpacked."""
        return math.prod(self.chunk) * self.dtype.itemsize

    def step(self, axis: int) -> int:
        """Return the bytes from one index of an axis to the next, inside a chunk."""
        return math.prod(self.chunk[axis + 1 :]) * self.dtype.itemsize


def chunks_of(stored: Stored) -> Chunks | None:
    """Return where the chunks of a variable lie; None for text of any length, and for data among the attributes."""
    kind = stored.dtype.number or ("S1" if (stored.dtype.kind, stored.dtype.size) == (TEXT, 1) else "")
    if not kind or stored.data is not None:
        return None
    filters = tuple(step.number for step in stored.filters)
    return Chunks(stored.shape, stored.chunk, np.dtype(kind), filters, stored.ranges, stored.fill)


# ---- reading ---------------------------------------------------------------------------------------------------


class ChunkArray(BackendArray):
    """A variable in chunks, for xarray: reads of the file what a key needs.

    Parameters
    ----------
    where
        File and variable, for messages.

    Raises
    ------
    TrajectoryError
        On reading, with the variable and the chunk that is cut short or damaged.
    """

    def __init__(self, file: Source, chunks: Chunks, where: str) -> None:
        self.file, self.chunks, self.where = file, chunks, where
        self.shape, self.dtype = chunks.shape, chunks.dtype
        self._mine = object()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return the numbers at a key of xarray."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self.read)

    def read(self, key: tuple[_Key, ...]) -> np.ndarray:
        """Return the numbers where the indices of all axes cross: a box of what is near, from which they are picked."""
        chunk = self.chunks.chunk
        axes = [
            _Axis(k, self.shape[n], chunk[n], _NEAR_BYTES // max(1, self.chunks.step(n))) for n, k in enumerate(key)
        ]
        out = empty([axis.length for axis in axes], self.dtype)
        if out.size:
            self._fill(out, axes)
        for number, axis in enumerate(axes):
            if isinstance(axis.pick, np.ndarray):
                out = out.take(axis.pick, number)
        picks = (slice(None) if isinstance(axis.pick, np.ndarray) else axis.pick for axis in axes)
        return out[(..., *picks)]  # an array even of one number, which keeps its order of bytes

    def _fill(self, out: np.ndarray, axes: Sequence[_Axis]) -> None:
        there: list[_Wanted] = []
        for place in itertools.product(*(axis.parts for axis in axes)):
            parts = list(itertools.product(*(axis.parts[step] for axis, step in zip(axes, place, strict=True))))
            if place in self.chunks.ranges:
                there.append((place, parts))
            else:
                for part in parts:
                    out[_region(part)] = np.frombuffer(self.chunks.fill or bytes(self.dtype.itemsize), self.dtype)[0]
        fill = self._unpack if self.chunks.filters else self._read
        for group in self._groups(there):
            try:
                fill(group, out)
            except (OSError, ValueError) as error:
                first, _ = group[0]
                raise TrajectoryError(
                    f"{self.where}: damaged: chunk {first}: {error}. Get the file again, or record it again."
                ) from error

    def _groups(self, there: list[_Wanted]) -> Iterator[list[_Wanted]]:
        """Yield chunks that the file is asked for together, in the order in which they lie there."""
        group: list[_Wanted] = []
        size = 0
        for wanted in sorted(there, key=lambda wanted: self.chunks.ranges[wanted[0]]):
            start, end = self.chunks.ranges[wanted[0]]
            if group and size + end - start > self.file.at_once:
                yield group
                group, size = [], 0
            group.append(wanted)
            size += end - start
        if group:
            yield group

    def _read(self, group: list[_Wanted], out: np.ndarray) -> None:
        self.file.fill(run for place, parts in group for part in parts for run in self._runs(place, part, out))

    def _runs(self, place: _Place, part: tuple[_Part, ...], out: np.ndarray) -> Iterator[Run]:
        """Yield the stretches of a chunk that lie in one piece in the file and in memory."""
        chunk, target = self.chunks.chunk, out[_region(part)]
        axis = max(out.ndim - 1, 0)
        while axis and target.shape[axis] == chunk[axis] == out.shape[axis]:
            axis -= 1
        steps = [self.chunks.step(n) for n in range(out.ndim)]
        first = sum(inside.start * step for (inside, _), step in zip(part, steps, strict=True))
        offsets = np.array(self.chunks.ranges[place][0] + first)
        for size, step in zip(target.shape[:axis], steps[:axis], strict=True):
            offsets = np.add.outer(offsets, step * np.arange(size))
        rows = list(target) if axis == 1 else [target[(*k, ...)] for k in np.ndindex(offsets.shape)]
        return zip(offsets.ravel().tolist(), rows, strict=True)

    def _unpack(self, group: list[_Wanted], out: np.ndarray) -> None:
        size = self.dtype.itemsize
        apart: Any = out.view(np.uint8).reshape(*out.shape, size) if out.ndim else out.reshape(1).view(np.uint8)
        for parts, values in self._unpacked(group):
            for part in parts:
                inside: Any = tuple(a for a, _ in part)
                where: Any = tuple(b for _, b in part)
                if values.flags.c_contiguous:
                    out[(..., *where)] = values.view(self.dtype).reshape(self.chunks.chunk)[inside]
                    continue
                for byte in range(size):  # so each is a plain copy
                    apart[(*where, byte)] = values[:, byte].reshape(self.chunks.chunk)[inside]

    def _unpacked(self, group: list[_Wanted]) -> Iterator[tuple[list[tuple[_Part, ...]], np.ndarray]]:
        """Yield what is wanted of each chunk, with its numbers; a chunk of which little is wanted is kept."""
        ranges, kept = self.chunks.ranges, {}
        for place, _ in group:
            if (values := _KEPT.get((self._mine, place))) is not None:
                kept[place] = values
        if kept:
            self.file.check()
        sizes = {place: ranges[place][1] - ranges[place][0] for place, _ in group if place not in kept}
        missing = {place: np.empty(size, np.uint8) for place, size in sizes.items()}
        if missing:
            self.file.fill((ranges[place][0], data) for place, data in missing.items())
        for place, parts in group:
            if place in kept:
                values = kept[place]
            else:
                values = unpacked(missing.pop(place), self.chunks.filters, self.chunks.nbytes, self.dtype.itemsize)
                if 2 * self._wanted(parts) <= math.prod(self.chunks.chunk):
                    _KEPT.put((self._mine, place), values)
            yield parts, values

    @staticmethod
    def _wanted(parts: list[tuple[_Part, ...]]) -> int:
        return sum(math.prod(inside.stop - inside.start for inside, _ in part) for part in parts)


_KEPT = Kept()


def _region(part: tuple[_Part, ...]) -> tuple[Any, ...]:
    return (..., *(where for _, where in part))


class _Axis:
    """What a key wants along one axis.

    Attributes
    ----------
    parts
        By number of the chunk: stretches of its indices, and where they go in the box.
    length
        Of the box.
    pick
        What to take from the box.
    """

    def __init__(self, key: _Key, size: int, chunk: int, near: int) -> None:
        stretches: list[tuple[int, int]] = []
        if isinstance(key, slice) and key.step in (None, 1, -1):
            found = range(size)[key]
            self.pick: _Key = slice(None, None, key.step)
            if found:
                stretches = [(min(found[0], found[-1]), max(found[0], found[-1]) + 1)]
        else:
            indices = np.arange(size)[key] if isinstance(key, slice) else _inside(np.asarray(key), size)
            self.pick = indices if indices.ndim else 0
            if indices.size:
                wanted = np.unique(indices)
                cuts = np.flatnonzero(np.diff(wanted) > near + 1)
                firsts, lasts = wanted[np.append(0, cuts + 1)], wanted[np.append(cuts, -1)]
                stretches = list(zip(firsts.tolist(), (lasts + 1).tolist(), strict=True))
                before = np.cumsum([0, *(lasts + 1 - firsts)]) - np.append(firsts, 0)
                if indices.ndim:
                    self.pick = indices + before[np.searchsorted(firsts, indices, "right") - 1]
        self.length = 0
        self.parts: dict[int, list[_Part]] = {}
        for low, high in stretches:
            for step in range(low // chunk, -(-high // chunk)):
                a, b = max(low, step * chunk), min(high, (step + 1) * chunk)
                inside, where = slice(a - step * chunk, b - step * chunk), slice(self.length, self.length + b - a)
                self.parts.setdefault(step, []).append((inside, where))
                self.length += b - a


def _inside(indices: np.ndarray, size: int) -> np.ndarray:
    """Return indices counted from the beginning."""
    counted = np.where(indices < 0, indices + size, indices)
    if ((counted < 0) | (counted >= size)).any():
        raise IndexError(f"an index is outside an axis of {size:,}")
    return counted
