"""What a selection notes about itself: which variables it left out, and of how many classes or units it is a part.

A variable that is summed over all classes, or over whole units, says nothing about some of them, so a selection leaves
it out. A function that needs the variable later must be able to say so, instead of "it was never recorded". The
selection therefore leaves notes in attributes of the dataset, which xarray hands on and files keep:

=============== ============================================================
``left_out``    names of the variables that were left out, with spaces
``all_classes`` number of classes before the first selection among them
``all_units``   number of units before the first selection among them
=============== ============================================================

They are written by :mod:`lcakit.trajectory.select` and read by :mod:`lcakit.trajectory.require`, only through the
functions of this module.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr

from lcakit.trajectory.class_kind import class_kind

__all__ = ["leave_out", "part_of", "size_before", "was_left_out", "with_size_before"]


def __dir__() -> list[str]:
    return __all__


_LEFT_OUT = "left_out"
_SIZES = {"class": "all_classes", "unit": "all_units"}


def leave_out(ds: xr.Dataset, variables: Iterable[str]) -> xr.Dataset:
    """Return ``ds`` without some variables, with a note of their names.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> part = leave_out(tiny_trajectory(), ["accuracy"])
    >>> "accuracy" in part, was_left_out(part, "accuracy")
    (False, True)
    """
    names = list(variables)
    noted = dict.fromkeys([*_left_out(ds), *names])
    return ds.drop_vars(names).assign_attrs({_LEFT_OUT: " ".join(noted)})


def was_left_out(ds: xr.Dataset, variable: str) -> bool:
    """Say whether a selection left a variable out."""
    return variable in _left_out(ds)


def _left_out(ds: xr.Dataset) -> list[str]:
    return str(ds.attrs.get(_LEFT_OUT, "")).split()


def with_size_before(ds: xr.Dataset, dim: str, size: int) -> xr.Dataset:
    """Return a selection with a note of the number of classes or units there were before."""
    return ds.assign_attrs({_SIZES[dim]: size})


def size_before(ds: xr.Dataset, dim: str) -> int | None:
    """Return the number of classes or units before the first selection among them; None where there was none."""
    size = ds.attrs.get(_SIZES[dim])  # a file may say anything here
    return int(size) if isinstance(size, int | np.integer) else None


def part_of(ds: xr.Dataset, dim: str) -> str:
    """Say how much a selection has of all classes or units, such as ``"1 of 10 classes"``; "" where it has all.

    Parameters
    ----------
    dim
        ``"class"`` or ``"unit"``.
    """
    before, now = size_before(ds, dim), ds.sizes.get(dim, int(dim in ds.coords))
    many = class_kind(ds, many=True) if dim == "class" else "units"
    return f"{now or 'some'} of {before} {many}" if before is not None and before > now else ""
