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
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.storage.guard.blocks import CorruptError
from lcakit.storage.guard.hdf5 import Stored, Structure, walk
from lcakit.storage.guard.names import check_names
from lcakit.storage.guard.reading import as_type, column, lazily, reading
from lcakit.storage.guard.segments import check_plain, check_running, check_segment
from lcakit.storage.guard.text import clean_attributes, clean_names
from lcakit.text import printable
from lcakit.trajectory import schema
from lcakit.trajectory.consistency import contradictions

__all__ = [
    "NOT_A_COORDINATE",
    "CorruptError",
    "Stored",
    "Structure",
    "as_type",
    "check_declared",
    "check_file",
    "check_names",
    "check_plain",
    "check_running",
    "check_segment",
    "check_tables",
    "clean_tables",
    "clean_texts",
    "column",
    "lazily",
    "reading",
]


def __dir__() -> list[str]:
    return __all__


NOT_A_COORDINATE = "_nc4_non_coord_"
"""How netCDF stores the name of a variable that is called like a dimension, and is not that."""

_NAMES = ("tensor", "tensor_role", "tensor_unit", "layer", "layer_kind", "class")
_LABEL_BYTES, _LABEL_RATIO = 64 * 2**20, 16
"""Labels are loaded on opening: at most this many bytes, or this many times the size of the file."""


def check_file(path: str | os.PathLike[str], handle: BinaryIO | None = None) -> Structure:
    """Check the structure of a netCDF-4 file without the C library, in milliseconds and without reading its numbers.

    Parameters
    ----------
    path
        The file; for messages only, where a ``handle`` is given.
    handle
        The file, open for reading in binary, such as a remote one.

    Returns
    -------
    Structure
        The stored variables by name, and the attributes of the file.

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


def _walked(handle: BinaryIO, size: int) -> Structure:
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
        found = stored.get(str(name)) or stored.get(f"{NOT_A_COORDINATE}{name}")
        if found is None or found.shape != variable.shape or not found.complete:
            held = (
                "nothing" if found is None else f"shape {found.shape}" + ("" if found.complete else ", not all of it")
            )
            raise TrajectoryError(
                f"{source}: {printable(name, 80)!r} declares shape {variable.shape}, but {held} is stored. "
                "Get the file again, or record it again."
            )
    shown = {str(name) for name in ds.variables}
    for name, found in stored.items():
        if found.is_variable and name.removeprefix(NOT_A_COORDINATE) not in shown and "/" not in name:
            raise TrajectoryError(
                f"{source}: {printable(name, 80)!r} is stored, but netCDF does not show it. Get the file again, or "
                "record it again."
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
        for variable in out.variables.values():
            variable.attrs = clean_attributes(variable.attrs)
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
