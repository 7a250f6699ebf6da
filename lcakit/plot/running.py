"""Cumulative LCA of single parameters and units: who lowered the loss, and when (figure S2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.errors import TrajectoryError
from lcakit.plot._classes import by_classes
from lcakit.plot._runs import one_run
from lcakit.plot._style import (
    MOST_CURVES,
    MOST_LINES,
    curves,
    key,
    label,
    level,
    line,
    line_colours,
    load,
    picture,
    sign_colours,
)
from lcakit.plot.parameters import of_units
from lcakit.trajectory.labels import parameter_index, parameter_name
from lcakit.trajectory.require import require
from lcakit.trajectory.select import select

__all__ = ["cumulative"]


def __dir__() -> list[str]:
    return __all__


_MOST_POINTS = 400_000
"""Most points of all curves of a picture together; above it, only every n-th iteration is drawn."""


@by_classes
def cumulative(
    ds: xr.Dataset,
    parameters: Sequence[int | str] | None = None,
    units: Sequence[int] | None = None,
    layer: str | None = None,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "",
) -> Any:
    r"""Draw the cumulative LCA of single parameters or units over the iterations (figure S2).

    .. math:: C[t] = \sum_{s \le t} A[s]

    Horizontal: iterations. Vertical: cumulative LCA in the unit of the loss; what falls helps.

    Parameters
    ----------
    ds
        Trajectory of one run, or a selection of one.
    parameters
        Indices in the whole network, or names (``"fc1.weight[3, 17]"``). None, without ``units`` and ``layer``: all
        parameters of ``ds``, at most 5000, so select first (``ds.lk.sel``).
    units
        Channel numbers inside ``layer``; with a layer alone, all its units.
    layer
        Name of a layer.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. Pictures of single parameters need a file recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    holoviews.Overlay
        Up to twelve curves have names; more are thin lines in the colour of what they did in sum.

    Raises
    ------
    TrajectoryError
        If the file holds no LCA of them, several runs, or the selection is empty.
    ValueError
        For too many curves, for both parameters and units, for units without a layer, for a parameter, unit or layer
        that the dataset does not have, or for an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label for mark in cumulative(tiny_trajectory(), ["fc.bias[0]", 3]) if mark.label]
    ['fc.bias[0]', 'conv1.weight[0, 0, 1, 1]']
    """
    load(backend)
    ds = one_run(ds, "cumulative LCA")
    if parameters is not None and (units is not None or layer is not None):
        raise ValueError("choose parameters or units, not both; a layer alone takes all its units")
    if units is not None and layer is None:
        raise ValueError(f"units {list(units)} are numbers inside a layer: pass layer=… too")
    if layer is not None:
        part = select(ds, layer=layer, unit=units)
        series, dim, what = of_units(part, lca), "unit", f"units of {layer}"
        names = [f"unit {n}" for n in series["unit_channel"].values]
    else:
        part = ds if parameters is None else _parameters(ds, parameters)
        series, dim, what = require(part, lca), "parameter", "parameters"
        names = _parameter_names(part) if series.sizes[dim] <= MOST_LINES else []
    _refuse_too_many(series.sizes[dim], dim)
    total = series.astype(np.float64).cumsum("iteration").assign_coords(iteration=series["iteration"])
    stride = -(-series.size // _MOST_POINTS)
    total = total.isel(iteration=slice(stride - 1, None, stride)).transpose(dim, "iteration")
    values = compute(total, quiet=True).assign_attrs(series.attrs | {"long_name": "cumulative LCA"})
    axes = "iteration" + (f" (one in {stride} drawn)" if stride > 1 else ""), label(values)
    marks = _named_curves(backend, values, names, axes) if len(values) <= MOST_LINES else _thin(backend, values, axes)
    return picture(backend, [level(backend, 0), *marks], axes, title or f"Cumulative LCA of {len(values)} {what}")


def _parameters(ds: xr.Dataset, wanted: Sequence[int | str]) -> xr.Dataset:
    held = ds["parameter"].values if "parameter" in ds.coords else np.arange(ds.sizes["parameter"])
    index = [parameter_index(ds, one) if isinstance(one, str) else int(one) for one in wanted]
    missing = [one for one in index if one not in held]
    if missing or not index:
        raise ValueError(
            f"parameters {missing or index} are not in this dataset, which holds {held.size}, "
            f"from {held[0]} to {held[-1]}"
        )
    places = [int(np.flatnonzero(held == one)[0]) for one in index]
    return ds.assign_coords(parameter=held).isel(parameter=places)


def _parameter_names(ds: xr.Dataset) -> list[str]:
    held = ds["parameter"].values if "parameter" in ds.coords else np.arange(ds.sizes["parameter"])
    return [parameter_name(ds, int(index)) for index in held]


def _refuse_too_many(n: int, dim: str) -> None:
    if n > MOST_CURVES:
        raise ValueError(
            f"{n} curves are too many for one picture (at most {MOST_CURVES}). Select some {dim}s (ds.lk.sel, or "
            "parameters=[…]), take sums of units (layer=…), or the strongest: lk.ranking.extremes(ds, by='parameter')."
        )
    if n == 0:
        raise TrajectoryError(f"the selection has no {dim}, so there is nothing to draw")


def _named_curves(backend: str, values: xr.DataArray, names: list[str], axes: tuple[str, str]) -> list[Any]:
    return [
        line(backend, values["iteration"], row, axes, name, color)
        for row, name, color in zip(values.values, names, line_colours(len(names)), strict=True)
    ]


def _thin(backend: str, values: xr.DataArray, axes: tuple[str, str]) -> list[Any]:
    """Return the curves as two marks: those that helped in sum and those that hurt."""
    ends, marks = values.values[:, -1], []
    for name, where in (("hurting", ends > 0), ("helping", ends < 0)):
        if where.any():
            color = sign_colours()[name]
            marks.append(curves(backend, values["iteration"], values.values[where], axes, color, 0.5))
            marks.append(key(backend, axes, f"{name} in sum", color))
    return marks
