"""Sums over tensors, layers, units: the step from parameters to something one can look at."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from lcakit import labels
from lcakit.analysis._check import require, require_tables
from lcakit.analysis._groups import RunKernel, reduce_groups, sum_runs
from lcakit.errors import TrajectoryError, unknown

UNIT_GROUPINGS = ("unit", "layer", "kernel_layer")


def sum_by(ds: xr.Dataset, by: str, variable: str = "lca") -> xr.DataArray:
    r"""Sum a per-parameter (or per-unit) variable over the members of each group.

    .. math:: S[\dots, g] = \sum_{i \in g} x[\dots, i]

    Parameters
    ----------
    ds
        Trajectory, or a selection of one.
    by
        One of ``tensor, layer, kernel_layer, unit, role``; for a per-unit variable (``lca_unit_class``) one
        of ``unit, layer, kernel_layer``.
    variable
        Name of a variable with the dimension ``parameter`` or ``unit``.

    Returns
    -------
    DataArray
        The variable's dimensions with ``parameter`` (or ``unit``) replaced by ``by``, float64, in the
        variable's units; lazy where the data is. Groups without a parameter in ``ds`` are left out.

    Raises
    ------
    ValueError
        For an unknown grouping or variable, or a variable that has neither dimension.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> sum_by(tiny_trajectory(), "kernel_layer").dims
    ('iteration', 'kernel_layer')
    """
    array = require(ds, variable)
    require_tables(ds)
    if "parameter" in array.dims:
        return grouped(array, "parameter", *labels.group_ids(ds, by))
    if "unit" in array.dims:
        return grouped(array, "unit", *_unit_group_ids(ds, by))
    raise TrajectoryError(f"{variable!r} has dimensions {array.dims}; sums need 'parameter' or 'unit'")


def _unit_group_ids(ds: xr.Dataset, by: str) -> tuple[np.ndarray, xr.DataArray]:
    """Return the group of each unit, and the labels of the groups."""
    if by not in UNIT_GROUPINGS:
        raise unknown("grouping of units", by, UNIT_GROUPINGS)
    if by == "unit":
        return np.arange(ds.sizes["unit"]), ds["unit"]
    rows = labels.parameter_coord(ds, "unit_layer")
    if by == "layer":
        return rows, ds["layer"].drop_vars("kernel_layer")
    names = ds["layer"].values.astype(str)
    return ds["kernel_layer"].values[rows], xr.DataArray(names, dims=by, coords={by: names})


def grouped(
    array: xr.DataArray,
    dim: str,
    ids: np.ndarray,
    names: xr.DataArray,
    kernel: RunKernel = sum_runs,
    width: tuple[str, list[str]] | None = None,
) -> xr.DataArray:
    """Reduce ``dim`` of a labelled array to groups: the labelled form of ``reduce_groups``.

    Parameters
    ----------
    ids, names
        Group of each entry of ``dim`` and the one-dimensional labels of the groups.
    kernel, width
        See ``reduce_groups``; ``width`` is the name and the labels of the dimension that the kernel adds.

    Returns
    -------
    DataArray
        ``dim`` replaced by the dimension of ``names`` (after the one of ``width``), float64.
    """
    present, compact = np.unique(ids, return_inverse=True)
    names = names.isel({names.dims[0]: present})
    by: Hashable = names.dims[0]
    last = array.transpose(..., dim)
    data: Any = reduce_groups(last.data, compact, present.size, kernel, len(width[1]) if width else None)
    extra = {width[0]: width[1]} if width else {}
    dims = [*last.dims[:-1], *extra, by]
    kept = {name: c for name, c in array.coords.items() if dim not in c.dims and by not in c.dims}
    out = xr.DataArray(data, dims=dims, coords={**kept, **names.coords, **extra}, name=array.name, attrs=array.attrs)
    order = [d if d != dim else by for d in array.dims]
    order[order.index(by) : order.index(by)] = list(extra)
    return out.transpose(*order)
