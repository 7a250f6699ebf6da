"""The bytes of HDF5 files: what lies where, files with single bytes changed, files by other writers."""

from __future__ import annotations

from pathlib import Path

import netCDF4

from lcakit.storage.guard.hdf5 import Stored, walk
from tests.support.mutations import claims


def walked(path: Path) -> dict[str, Stored]:
    with path.open("rb") as file:
        return walk(file, path.stat().st_size)


def write(path: Path, make, **options) -> Path:
    with netCDF4.Dataset(path, "w", **options) as file:
        make(file)
    return path


def block_of(path: Path, what: str) -> tuple[int, int]:
    """Return address and length of a block by what it is."""
    return next((a, n) for a, (n, told) in claims(path.read_bytes()).items() if what in told)


def patched(path: Path, place: int, new: bytes) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:place] + new + data[place + len(new) :])
