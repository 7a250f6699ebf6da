"""Sums over tensors, layers, units, classes and time: the step from parameters to something one can look at."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.kernels.groups import RunKernel, reduce_groups, sum_runs, sum_squares
from lcakit.analysis.kernels.windows import sum_windows
from lcakit.errors import TrajectoryError, unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory import labels
from lcakit.trajectory.arguments import checks_itself
from lcakit.trajectory.require import in_place_of, iterations_there, require, require_iterations, require_tables, source
from lcakit.trajectory.schema import loss_unit, split_name, variable_attrs, with_suffix

__all__ = [
    "UNIT_GROUPINGS",
    "cumulative_lca",
    "grouped",
    "rms_lca",
    "series",
    "sum_by",
    "total",
    "unit_group_ids",
    "window_lca",
    "windowed",
]


def __dir__() -> list[str]:
    return __all__


UNIT_GROUPINGS = ("unit", "layer", "kernel_layer")
"""Groupings that are made of whole units, so that LCA by class can be summed to them."""


@of_trajectories
def sum_by(ds: xr.Dataset, by: str, variable: str = "lca") -> xr.DataArray:
    r"""Sum a per-parameter (or per-unit) variable over the members of each group.

    .. math:: S[\dots, g] = \sum_{i \in g} x[\dots, i]

    Parameters
    ----------
    ds
        Trajectory, or a selection of one.
    by
        One of ``tensor, layer, kernel_layer, unit, role``; for a per-unit variable (``lca_unit_class``) one
        of ``unit, layer, kernel_layer``. ``class`` sums everything but the classes of a variable by class.
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
    if by == "class":
        return _sum_to_classes(array)
    if "parameter" in array.dims:
        return grouped(array, "parameter", *labels.group_ids(ds, by))
    if "unit" in array.dims:
        return grouped(array, "unit", *unit_group_ids(ds, by))
    raise TrajectoryError(f"{variable!r} has dimensions {array.dims}; sums need 'parameter' or 'unit'")


def _sum_to_classes(array: xr.DataArray) -> xr.DataArray:
    if "class" not in array.dims:
        raise TrajectoryError(
            f"{array.name!r} has dimensions {array.dims}, so no classes. lca_unit_class and lca_class have them: "
            'record with lk.Recorder(…, classes="unit").'
        )
    return total(array).transpose(..., "class")


def total(array: xr.DataArray) -> xr.DataArray:
    """Sum an array over its parameters (or units), in float64, block by block. Lazy."""
    dim = "parameter" if "parameter" in array.dims else "unit"
    names = xr.DataArray(["all"], dims="group")
    return grouped(array, dim, np.zeros(array.sizes[dim], int), names).squeeze("group")


def unit_group_ids(ds: xr.Dataset, by: str) -> tuple[np.ndarray, xr.DataArray]:
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


@of_trajectories
def cumulative_lca(ds: xr.Dataset, by: str | None = None, lca: str = "lca", classes: bool = False) -> xr.DataArray:
    r"""Return running sums of LCA: how much the loss has changed so far because of each group.

    .. math:: C[t, g] = \sum_{s \le t} \sum_{i \in g} A[s, i]

    Parameters
    ----------
    ds
        Trajectory, or a selection of one (``ds.lk.sel``).
    by
        None: everything together; a grouping of :func:`sum_by`; or ``"parameter"`` (Fig. S2: select a few first).
    lca
        Name of the variable.
    classes
        Split by class.

    Returns
    -------
    DataArray
        (iteration[, by][, class]), float64, in the unit of the loss. Lazy. The last value of ``by=None`` is the
        change of the loss over the run, up to the sum of residuals.

    Raises
    ------
    TrajectoryError
        If the file does not hold this LCA, or not by class.
    ValueError
        For an unknown grouping or variable.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> cumulative_lca(tiny_trajectory(), "kernel_layer").sizes["kernel_layer"]
    2
    """
    array = series(ds, by, lca, classes)
    out = array.astype(np.float64).cumsum("iteration", skipna=False)
    out = out.assign_coords(iteration=array["iteration"])
    return out.rename("cumulative_lca").assign_attrs(array.attrs | {"long_name": "cumulative loss change allocation"})


@of_trajectories
@checks_itself(size=float)
def window_lca(ds: xr.Dataset, size: int, by: str | None = "parameter", lca: str = "lca") -> xr.DataArray:
    r"""Return LCA summed over windows of iterations: the picture between one iteration and the whole run.

    .. math:: A_w[i] = \sum_{t \in w} A[t, i]

    The integral is additive, so this is the allocation of the loss change along the recorded path through the
    window, not along the straight line between the window's ends.

    Parameters
    ----------
    ds
        Trajectory, or a selection of one.
    size
        Iterations of a window, 1 … T. The last window holds what is left.
    by
        ``"parameter"``, None (everything together), or a grouping of :func:`sum_by`.
    lca
        Name of the variable; ``"lca_val"`` for another objective.

    Returns
    -------
    DataArray
        (window[, by]), float64, in the unit of the loss; ``window`` is the label of its first iteration and
        ``window_end`` that of its last. Lazy.

    Raises
    ------
    TrajectoryError
        If there is no iteration, or the file does not hold this LCA.
    ValueError
        For a size that is longer than the run or not a whole number, or an unknown grouping or variable.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> window_lca(tiny_trajectory(), size=6, by=None).round(2).values.tolist()
    [-118.45, 0.95]
    """
    return windowed(series(ds, by, lca), size)


def windowed(array: xr.DataArray, size: int) -> xr.DataArray:
    """Sum a labelled array (…, iteration, …) over windows of iterations: see :func:`window_lca`."""
    n = require_iterations(array)
    if not 1 <= size <= n or size != int(size):
        raise ValueError(f"a window must have 1 to {n} iterations (the run has {n}), got {size!r}")
    columns = [d for d in array.dims if d != "iteration"]
    last = array.transpose(*columns[:-1], "iteration", *columns[-1:])
    data: Any = last.data if columns else last.data[:, None]
    data = sum_windows(data, int(size))
    labels = array["iteration"].values
    ends = np.minimum(np.arange(0, n, int(size)) + int(size), n) - 1
    coords: dict[Hashable, Any] = {name: c for name, c in array.coords.items() if "iteration" not in c.dims}
    coords |= {"window": labels[:: int(size)], "window_end": ("window", labels[ends])}
    dims = [d if d != "iteration" else "window" for d in last.dims]
    out = xr.DataArray(data if columns else data[:, 0], dims=dims, coords=coords, name=array.name, attrs=array.attrs)
    return out.transpose(*[d if d != "iteration" else "window" for d in array.dims])


@of_trajectories
def series(ds: xr.Dataset, by: str | None, lca: str = "lca", classes: bool = False) -> xr.DataArray:
    """Return LCA per iteration and group (None: one number; "parameter": as it is), split by class or not. Lazy."""
    if by == "parameter":
        return require(ds, with_suffix("lca_class", split_name(lca)[1]) if classes else lca)
    variable = source(ds, lca, classes)
    if by == "class":
        return sum_by(ds, by, source(ds, lca, classes=True))
    out = total(require(ds, variable)) if by is None else sum_by(ds, by, variable)
    if "class" in out.dims:
        out = out.transpose(..., "class") if classes else out.sum("class", keep_attrs=True, skipna=False)
    return out.rename(lca)


@of_trajectories
def rms_lca(ds: xr.Dataset, by: str | None = "kernel_layer", lca: str = "lca") -> xr.DataArray:
    r"""Return the root mean square of LCA: how strongly parameters act, whether they help or hurt.

    .. math:: \mathrm{rms}[t, g] = \sqrt{\frac1{|g|} \sum_{i \in g} A[t, i]^2}, \qquad
              \mathrm{rms}[i] = \sqrt{\frac1T \sum_t A[t, i]^2}

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter), or a selection of one.
    by
        None (all parameters), a grouping of :func:`sum_by`, or ``"parameter"``: over iterations, per parameter.
    lca
        Name of the variable; ``"lca_val"`` for another objective.

    Returns
    -------
    DataArray
        (iteration[, by]) or (parameter), float64, in the unit of the loss. Lazy. Per parameter, running sums of squares
        will do where ``lca`` is not stored.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``lca`` nor, per parameter, the running sums.
    ValueError
        For an unknown grouping or variable.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> rms_lca(tiny_trajectory())[0].round(2).values  # of the first iteration, by layer
    array([3.33, 4.72])
    """
    found = in_place_of(ds, lca, "total_square_lca") if by == "parameter" else []
    if found:
        mean: xr.DataArray = np.sqrt(found[0] / iterations_there(ds))  # type: ignore[assignment]
        attrs = variable_attrs(lca, loss_unit(ds, lca))
        return mean.rename("rms_lca").assign_attrs(attrs | {"long_name": "root mean square of LCA"})
    array = require(ds, lca)
    attrs = array.attrs | {"long_name": "root mean square of LCA"}
    if by == "parameter":
        squares = array.astype(np.float64) ** 2  # in float32 the squares of small numbers are zero
        rms: xr.DataArray = np.sqrt(squares.mean("iteration", skipna=False))  # type: ignore[assignment]
        return rms.rename("rms_lca").assign_attrs(attrs)
    if by is None:
        ids, names = np.zeros(array.sizes["parameter"], int), xr.DataArray(["all"], dims="group")
    else:
        ids, names = labels.group_ids(ds, by)
    sums = grouped(array, "parameter", ids, names, sum_squares)
    members = np.unique(ids, return_counts=True)[1]
    out: xr.DataArray = np.sqrt(sums / xr.DataArray(members, dims=names.dims))  # type: ignore[assignment]
    out = out.squeeze("group") if by is None else out
    return out.rename("rms_lca").assign_attrs(attrs)
