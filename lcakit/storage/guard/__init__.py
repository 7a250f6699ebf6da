"""Opening what a stranger sends: everything a file declares is checked before it is believed.

In this order, by :mod:`lcakit.storage.opening`:

1. :func:`check_file` walks the structure of the HDF5 file in Python (:mod:`lcakit.storage.guard.hdf5`) before the C
   library sees it: nothing outside the file, nothing twice, nothing declared that is not stored.
2. :func:`check_declared` compares what netCDF then shows with what is stored.
3. :func:`clean_texts` and :func:`clean_tables` make attributes and names printable, and refuse what is too long or of
   the wrong type.
4. :func:`check_tables` refuses labels and tables that contradict each other (:mod:`lcakit.trajectory.consistency`).
5. :func:`lazily` makes errors of later reads name the file and the variable.

Nothing from a file is unpickled, evaluated or used as a path. Text from a file is printed
through :func:`lcakit.text.printable`.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.storage.guard.blocks import CorruptError
from lcakit.storage.guard.hdf5 import Stored, walk
from lcakit.storage.guard.reading import lazily, reading
from lcakit.storage.guard.text import clean_attributes, clean_names
from lcakit.storage.npz import ITERATIONS
from lcakit.text import printable
from lcakit.trajectory import schema
from lcakit.trajectory.consistency import contradictions

__all__ = [
    "CorruptError",
    "Stored",
    "check_declared",
    "check_file",
    "check_running",
    "check_segment",
    "check_tables",
    "clean_tables",
    "clean_texts",
    "lazily",
    "reading",
]


def __dir__() -> list[str]:
    return __all__


_NAMES = ("tensor", "tensor_role", "tensor_unit", "layer", "layer_kind", "class")
_LABEL_BYTES, _LABEL_RATIO = 64 * 2**20, 16
"""Labels are loaded on opening: at most this many bytes, or this many times the size of the file."""

_MOST_HEADER = 4096  # of an array in a segment: ours have about 100 bytes


def check_file(path: str | os.PathLike[str], handle: BinaryIO | None = None) -> dict[str, Stored]:
    """Check the structure of a netCDF-4 file without the C library, in milliseconds and without reading its numbers.

    Parameters
    ----------
    path
        The file; for messages only, where a ``handle`` is given.
    handle
        The file, open for reading in binary, such as a remote one.

    Returns
    -------
    dict
        The stored variables by name.

    Raises
    ------
    TrajectoryError
        With the file's name and the first thing that is wrong.
    """
    with reading(path):
        if handle is not None:
            return _walked(handle, handle.seek(0, os.SEEK_END))
        with Path(path).open("rb") as file:
            return _walked(file, os.fstat(file.fileno()).st_size)


def _walked(handle: BinaryIO, size: int) -> dict[str, Stored]:
    stored = walk(handle, size)
    most = max(_LABEL_BYTES, _LABEL_RATIO * size)
    for name, found in stored.items():
        if (name in schema.COORDINATES or len(found.shape) <= 1) and found.nbytes > most:
            raise CorruptError(
                f"{printable(name, 80)!r} would take {found.nbytes:,} bytes of memory; "
                f"at most {most:,} are loaded from {size:,} of file"
            )
    return stored


def check_declared(ds: xr.Dataset, stored: Mapping[str, Stored], source: str) -> None:
    """Compare the variables of a file as netCDF shows them with what is stored.

    Raises
    ------
    TrajectoryError
        For a variable of another shape than stored, or one that was never written.
    """
    for name, variable in ds.variables.items():
        found = stored.get(str(name)) or stored.get(f"_nc4_non_coord_{name}")
        if found is None or found.shape != variable.shape or not found.complete:
            held = (
                "nothing" if found is None else f"shape {found.shape}" + ("" if found.complete else ", not all of it")
            )
            raise TrajectoryError(
                f"{source}: {printable(name, 80)!r} declares shape {variable.shape}, but {held} is stored. "
                "Get the file again, or record it again."
            )


def clean_texts(ds: xr.Dataset, source: str) -> xr.Dataset:
    """Return a dataset with attributes that are safe to print.

    Raises
    ------
    TrajectoryError
        For text that is too long, or a type that the format does not have there.
    """
    suffixes = {schema.split_name(str(name))[1] for name in ds.variables} - {""}
    with reading(source):
        out = ds.copy(deep=False)
        out.attrs = clean_attributes(ds.attrs, suffixes)
        for name in out.variables:
            out[name].attrs = clean_attributes(ds[name].attrs)
    return out


def clean_tables(ds: xr.Dataset, source: str) -> xr.Dataset:
    """Return a dataset with names of tensors, layers and classes that are safe to print.

    Raises
    ------
    TrajectoryError
        For names that are too long, too many, or not text.
    """
    with reading(source):
        names = {name: ds[name] for name in _NAMES if name in ds.variables}
        cleaned = {name: clean_names(array.values, name) for name, array in names.items()}
        changed = {name: values for name, values in cleaned.items() if not np.array_equal(values, names[name].values)}
        return ds.assign_coords(
            {name: (names[name].dims, values, names[name].attrs) for name, values in changed.items()}
        )


def check_tables(ds: xr.Dataset, source: str) -> None:
    """Refuse labels and tables that contradict each other.

    Raises
    ------
    TrajectoryError
        With the first contradictions, and how to see all of them.
    """
    with reading(source):
        problems = list(contradictions(ds))
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise TrajectoryError(
            f"{source}: its parts contradict each other: {'; '.join(problems[:3])}{more}. It is damaged, or was not "
            "written by lcakit. lk.validate(path) tells all; lk.open_trajectory(path, check=False) opens it as it is."
        )


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
        end = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_member(archive, member, end, sizes)


def check_running(path: Path, sizes: Mapping[Any, int]) -> None:
    """Check a file of running statistics before it is read, as :func:`check_segment` does a segment."""
    with reading(path, "Remove it: the recording opens without it, and a resume goes back to the one before."):
        kinds = {name: schema.VARIABLES[name].dtype for name in schema.STATISTICS}
        kinds |= {sign: "i1" for signs in schema.SIGNS.values() for sign in signs}
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name, shape, dtype = _declared(archive, member, path.stat().st_size)
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
