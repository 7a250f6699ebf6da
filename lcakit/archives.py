"""NumPy archives that are written array by array and read piece by piece: the files of a recording in progress."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lcakit.errors import TrajectoryError

Arrays = Iterable[tuple[str, np.ndarray]]
ITERATIONS = "iterations"
"""In a file of running statistics: the number of iterations that they are of."""


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write an archive as ``np.savez`` does, but one array after the other, so that one at a time is in memory."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


class StoredArray:
    """A variable of a segment on disk: an array-like that reads what it is asked for, and holds nothing.

    It is mapped for the time of one read only, so that neither memory nor the number of maps grows with a recording.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> None:
        self.path, self.dtype, self.shape, self.offset = path, dtype, shape, offset
        self.ndim = len(shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)[key]
        return np.array(np.memmap(self.path, self.dtype, "r", self.offset, self.shape)[key])


def open_segment(path: Path) -> dict[str, StoredArray]:
    """Return the variables of a segment; nothing but their headers is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        return {member.filename.removesuffix(".npy"): _member(path, member) for member in members}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise TrajectoryError(f"{path}: the segment cannot be read ({error})") from error


def _member(path: Path, member: zipfile.ZipInfo) -> StoredArray:
    """Locate one stored .npy member of an .npz: it begins behind its local header (30 bytes, name, extra field)."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"member {member.filename} is compressed")
    with path.open("rb") as file:
        file.seek(member.header_offset)
        local = file.read(30)
        file.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), os.SEEK_CUR)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject or fortran:
            raise ValueError(f"member {member.filename} is no plain array")
        return StoredArray(path, dtype, shape, file.tell())
