"""HDF5 files of other programs, read without the HDF5 library: their structure is walked, as that of trajectories is.

What they declare is compared with what is stored before memory is taken for it, packed chunks are inflated never beyond
what a chunk holds, and a file that is overwritten or replaced later is refused. The walk
(:mod:`lcakit.storage.guard.hdf5`) knows what h5py writes unless it is told to use the newest structures.
"""

from __future__ import annotations

import math
import os
from contextlib import closing
from pathlib import Path

import numpy as np

from lcakit.errors import TrajectoryError
from lcakit.storage.chunked import ChunkArray, chunks_of
from lcakit.storage.guard import CorruptError, Stored
from lcakit.storage.guard.hdf5 import walk
from lcakit.storage.guard.messages import TEXT, Attribute
from lcakit.storage.local import LocalFile
from lcakit.storage.state import State
from lcakit.text import printable

ENDINGS = ("", ".h5", ".hdf5", ".hdf")
_MOST_TEXT = 2**24
_REWRITE = "If it is whole, write it again by h5py with its own settings (libver='earliest', gzip or no compression)."


def find(folder: Path, name: str) -> File | None:
    """Return the file ``name`` of a folder, with or without an ending of HDF5; None if there is none."""
    found = [path for ending in ENDINGS if (path := folder / f"{name}{ending}").is_file()]
    if len(found) > 1:
        raise TrajectoryError(f"{folder}: which file is meant, {' or '.join(p.name for p in found)}? Keep one of them.")
    return File(found[0]) if found else None


class File:
    """A file whose structure was checked; errors name it.

    Raises
    ------
    TrajectoryError
        If its structure is damaged, leads out of the file, or is one that lcakit does not know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as handle:
                self.state = State.of(handle.fileno())
                self._stored = walk(handle, self.state.size, older=True)
        except (CorruptError, OSError, UnicodeDecodeError, RecursionError) as error:
            why = printable(error, 400)
            raise TrajectoryError(f"{path}: cannot be read as an HDF5 file ({why}). {_REWRITE}") from error

    def __str__(self) -> str:
        return str(self.path)

    def holds(self, name: str) -> bool:
        """Say whether the file has an array of that name."""
        return name in self._stored

    def shape(self, name: str, expected: tuple[int | None, ...]) -> tuple[int, ...]:
        """Return the shape of an array of numbers, which is as expected (None: any size).

        Raises
        ------
        TrajectoryError
            If it is missing, has another type or shape, or was never written in full.
        """
        found = self._numbers(name)
        shape, where = found.shape, f"{self}: {name!r}"
        fits = len(shape) == len(expected) and all(e in (None, n) for n, e in zip(shape, expected, strict=True))
        if not fits:
            wanted = ", ".join("any" if n is None else str(n) for n in expected)
            raise TrajectoryError(f"{where} has the shape {shape}, expected ({wanted})")
        if not found.complete:
            raise TrajectoryError(f"{where} declares the shape {shape}, but was not written in full")
        return shape

    def _numbers(self, name: str) -> Stored:
        if name not in self._stored:
            there = ", ".join(repr(printable(n, 80)) for n in list(self._stored)[:20]) or "nothing"
            raise TrajectoryError(f"{self}: {name!r} is not there; the file has {there}")
        if not self._stored[name].dtype.number:
            raise TrajectoryError(f"{self}: {name!r} is not an array of numbers")
        return self._stored[name]

    def read(self, name: str, *key: slice) -> np.ndarray:
        """Return the numbers of an array at one slice for each of its dimensions.

        Raises
        ------
        TrajectoryError
            If they cannot be read, or the file was overwritten or replaced since it was checked.
        """
        found = self._numbers(name)
        chunks = chunks_of(found)
        try:
            if chunks is not None:
                with closing(LocalFile(str(self.path), self.state)) as file:
                    values = ChunkArray(file, chunks, f"{self}: {name!r}").read(key)
            else:
                values = np.frombuffer(found.data or b"", found.dtype.number).reshape(found.shape)[key]
        except TrajectoryError:
            self._check_unchanged()
            raise
        except (OSError, ValueError) as error:
            raise TrajectoryError(f"{self}: {name!r} cannot be read ({printable(error, 400)})") from error
        self._check_unchanged()
        return values

    def vector(self, name: str, size: int | None = None) -> np.ndarray | None:
        """Return a short array of one dimension; None if it is not there."""
        if not self.holds(name):
            return None
        self.shape(name, (size,))
        return self.read(name, slice(None))

    def text(self, name: str, owner: str) -> str:
        """Return a text attribute of an array, or of the file."""
        for attributes in (self._numbers(owner).attributes, self._stored.attributes):
            if name in attributes:
                return self._as_text(attributes[name], name)
        raise TrajectoryError(f"{self}: attribute {name!r} of {owner!r} is not there")

    def _as_text(self, attribute: Attribute, name: str) -> str:
        kind, one = attribute.dtype.kind, math.prod(attribute.shape) == 1
        if not one or not (kind == TEXT or attribute.dtype.text):
            raise TrajectoryError(f"{self}: attribute {name!r} is not text")
        value = attribute.value if kind == TEXT else b"".join(attribute.held)
        if len(value) > _MOST_TEXT:
            raise TrajectoryError(f"{self}: attribute {name!r} has {len(value):,} letters, over {_MOST_TEXT:,}")
        return value.rstrip(b"\0").decode("utf-8", "replace")

    def _check_unchanged(self) -> None:
        if State.of(os.fspath(self.path)) != self.state:
            raise TrajectoryError(
                f"{self} was overwritten or replaced since it was opened. Open it again with lk.read_lca_hdf5."
            )
