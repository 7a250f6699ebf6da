"""HDF5 files of other programs, opened with care: declared sizes are checked before memory is allocated for them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from xarray.backends.locks import HDF5_LOCK

from lcakit.errors import TrajectoryError
from lcakit.packages import package

ENDINGS = ("", ".h5", ".hdf5", ".hdf")


def find(folder: Path, name: str) -> Path | None:
    """Return the file ``name`` of a folder, with or without an ending of HDF5; None if there is none."""
    found = [path for ending in ENDINGS if (path := folder / f"{name}{ending}").is_file()]
    if len(found) > 1:
        raise TrajectoryError(f"{folder}: which file is meant, {' or '.join(p.name for p in found)}? Keep one of them.")
    return found[0] if found else None


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading; errors of the HDF5 library name the file."""
    h5py = package("h5py", "reading HDF5 files")
    with HDF5_LOCK:
        try:
            with h5py.File(path, "r") as file:
                yield file
        except (OSError, RuntimeError, KeyError) as error:
            raise TrajectoryError(f"{path}: cannot be read as an HDF5 file ({error})") from error


def dataset(file: Any, name: str, shape: tuple[int | None, ...]) -> Any:
    """Return a numeric dataset of an open file whose shape is as wanted (None: any size).

    Raises
    ------
    TrajectoryError
        If it is missing, has another type or shape, lies in another file, or was never written in full.
    """
    h5py = package("h5py", "reading HDF5 files")
    where = f"{file.filename}: {name!r}"
    if not _named(file, name):
        there = ", ".join(map(repr, itertools.islice(file, 20))) or "nothing"
        raise TrajectoryError(f"{where} is not there; the file has {there}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise TrajectoryError(f"{where} is a link, and links are not followed. Copy what it points to into the file.")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "fiu" or found.shape is None:
        raise TrajectoryError(f"{where} is not an array of numbers")
    if len(found.shape) != len(shape) or any(want not in (None, n) for n, want in zip(found.shape, shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise TrajectoryError(f"{where} has the shape {found.shape}, expected ({wanted})")
    if found.is_virtual or found.external:
        raise TrajectoryError(f"{where} lies in other files, which are not followed. Copy it into the file.")
    if not _is_written(found):
        raise TrajectoryError(f"{where} declares the shape {found.shape}, but was not written in full")
    return found


def _is_written(found: Any) -> bool:
    if found.chunks is None:
        return bool(found.id.get_storage_size() >= found.nbytes)
    expected = math.prod(-(-n // chunk) for n, chunk in zip(found.shape, found.chunks, strict=True))
    return bool(found.id.get_num_chunks() == expected)


def vector(path: Path, name: str, size: int | None = None) -> np.ndarray | None:
    """Return a short dataset of one dimension; None if it is not there."""
    with opened(path) as file:
        return dataset(file, name, (size,))[:] if _named(file, name) else None


def text(file: Any, name: str, owner: str) -> str:
    """Return a text attribute of a dataset, or of its file."""
    for holder in (file[owner], file):
        if name in holder.attrs:
            value = holder.attrs[name]
            value = value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value
            value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            if isinstance(value, str):
                return value
            raise TrajectoryError(f"{file.filename}: attribute {name!r} is not text")
    raise TrajectoryError(f"{file.filename}: attribute {name!r} of {owner!r} is not there")


def holds(path: Path, name: str) -> bool:
    """Say whether a file has something of that name."""
    with opened(path) as file:
        return _named(file, name)


def _named(file: Any, name: str) -> bool:
    """Ask for the name alone: ``name in file`` would follow a link into another file."""
    return bool(file.id.links.exists(name.encode()))
