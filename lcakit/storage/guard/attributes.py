"""Attributes by which netCDF-C and HDF5 tell dimensions: of the types that they expect, since they do not look."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lcakit.storage.guard import messages as read
from lcakit.storage.guard.blocks import CorruptError

__all__ = ["check_attribute", "is_variable"]


def __dir__() -> list[str]:
    return __all__


_MOST_NAME = 8_192
_MOST_DIMENSIONS = 4_096  # numbers of dimensions: the library makes a list as long as the largest
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"

_TEXTS = ("CLASS", "NAME", "_NCProperties")
_NUMBERS = ("_Netcdf4Dimid", "_Netcdf4Coordinates", "_nc3_strict")
_QUANTIZED = "_Quantize"


def check_attribute(found: read.Attribute, rank: int, what: str) -> None:
    """Check type and extent of an attribute; ``rank`` is the number of dimensions of its variable.

    Raises
    ------
    CorruptError
        For a type that attributes of netCDF files do not have, or that the library would read as another one.
    """
    name, dtype = found.name, found.dtype
    if name == "DIMENSION_LIST":
        fits = dtype.kind == read.SEQUENCE and dtype.holds == read.POINTER and found.shape == (rank,)
    elif name == "REFERENCE_LIST":
        fits = dtype.kind == read.COMPOUND and len(found.shape) == 1
    elif name in _TEXTS:
        fits = dtype.kind == read.TEXT and found.shape == () and dtype.size <= _MOST_NAME
    elif name in _NUMBERS or name.startswith(_QUANTIZED):
        several = name == "_Netcdf4Coordinates"
        fits = dtype.number[1:] == "i4" and found.shape in ((rank,) if several else (), (rank if several else 1,))
        fits = fits and all(0 <= number < _MOST_DIMENSIONS for number in _integers(found))
    else:
        fits = dtype.kind in (*read.NUMBERS, read.TEXT) or dtype.text
    if not fits:
        raise CorruptError(f"{what} is not of the type or extent that it has in netCDF files")


def _integers(found: read.Attribute) -> list[int]:
    return [int(number) for number in np.frombuffer(found.value, found.dtype.number)]


def is_variable(attributes: Mapping[str, read.Attribute]) -> bool:
    """Say whether netCDF shows a dataset of HDF5 as a variable: a dimension without one has a note instead."""
    return "NAME" not in attributes or not attributes["NAME"].value.startswith(_NO_VARIABLE)
