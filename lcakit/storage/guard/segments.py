"""Segments of an unfinished recording: plain files of plain arrays, each once, and as long as they say."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lcakit.storage.guard.blocks import CorruptError
from lcakit.storage.guard.reading import reading
from lcakit.storage.npz import ITERATIONS
from lcakit.text import printable
from lcakit.trajectory import schema

__all__ = ["check_plain", "check_running", "check_segment"]


def __dir__() -> list[str]:
    return __all__


_MOST_HEADER = 4096  # of an array in a segment: ours have about 100 bytes
_MOST_DIRECTORY = 2**18  # bytes of a segment's list of members: each takes about 60
_END = b"PK\x05\x06"
"""How the last record of a zip archive begins; behind it are 18 more bytes and a comment, of which ours have none."""


def check_plain(path: Path) -> None:
    """Refuse what is no plain file, such as a link, a pipe or a device, before it is opened.

    Raises
    ------
    CorruptError
        Saying what it is.
    """
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder"}
        what = kinds.get(stat.S_IFMT(mode), "a device or socket")
        raise CorruptError(f"{path.name} is {what}, not a plain file, so it is not read")


def _members(path: Path) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo], int]:
    """Open an archive; return it, what it lists, and the size of the file."""
    check_plain(path)
    end = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, end - 22))
        last = file.read(22)
    if last[:4] != _END or int.from_bytes(last[12:16], "little") > _MOST_DIRECTORY:
        raise CorruptError("it does not end as an archive of some arrays does")
    archive = zipfile.ZipFile(path)
    names = [member.filename.removesuffix(".npy") for member in archive.infolist()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        archive.close()
        raise CorruptError(f"it holds {printable(twice[0], 80)!r} twice")
    return archive, archive.infolist(), end


def check_segment(path: Path, sizes: Mapping[Any, int]) -> None:
    """Check a segment of an unfinished recording before it is read: known variables, plain and whole.

    Parameters
    ----------
    sizes
        Of the dimensions of the recording's header; others may have any.

    Raises
    ------
    TrajectoryError
        With the segment's name and what is wrong.
    """
    with reading(path, "Restore the segment, or remove it and all that follow it."):
        archive, members, end = _members(path)
        with archive:
            for member in members:
                _check_member(archive, member, end, sizes)


def check_running(path: Path, sizes: Mapping[Any, int]) -> None:
    """Check a file of running statistics before it is read, as :func:`check_segment` does a segment."""
    with reading(path, "Remove it: the recording opens without it, and a resume goes back to the one before."):
        kinds = {name: schema.VARIABLES[name].dtype for name in schema.STATISTICS}
        kinds |= {sign: "i1" for signs in schema.SIGNS.values() for sign in signs}
        archive, members, end = _members(path)
        with archive:
            for member in members:
                name, shape, dtype = _declared(archive, member, end)
                length = 1 if name == ITERATIONS else sizes.get("parameter", shape[0] if shape else 0)
                if shape != (length,) or dtype != np.dtype("i8" if name == ITERATIONS else kinds.get(name, "V")):
                    raise CorruptError(f"{printable(name, 80)!r} has shape {shape} and type {dtype}")


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, end: int, sizes: Mapping[Any, int]) -> None:
    name, shape, dtype = _declared(archive, member, end)
    base, _ = schema.split_name(name)
    spec = schema.VARIABLES.get(base) or schema.COORDINATES.get(name)
    if spec is None:
        raise CorruptError(f"it holds {printable(name, 80)!r}, which is not a plain variable of a recording")
    expected = tuple(sizes.get(dim, n) for dim, n in zip(spec.dims[1:], shape[1:], strict=False))
    if dtype != np.dtype(spec.dtype) or len(shape) != len(spec.dims) or shape[1:] != expected:
        raise CorruptError(f"{name!r} has shape {shape} and type {dtype}, not {spec.dims} and {spec.dtype}")


def _declared(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, end: int
) -> tuple[str, tuple[int, ...], np.dtype[Any]]:
    """Return name, shape and type of a member that is plain and whole."""
    name = member.filename.removesuffix(".npy")
    if member.header_offset + member.file_size > end or member.compress_type != zipfile.ZIP_STORED:
        raise CorruptError(f"it holds {printable(name, 80)!r}, which is not a plain variable of a recording")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=_MOST_HEADER)
        if fortran:
            raise CorruptError(f"{name!r} has shape {shape} and type {dtype}, in Fortran order")
        if file.tell() + dtype.itemsize * int(np.prod(shape, dtype=object)) != member.file_size:
            raise CorruptError(f"{name!r} declares shape {shape}, but {member.file_size:,} bytes are stored")
    return name, shape, dtype
