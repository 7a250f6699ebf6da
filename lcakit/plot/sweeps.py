"""Sweeps: one number of each run against a setting that runs differ in, such as the learning rate (figure S9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.noise import fraction_helping
from lcakit.errors import ArgumentError
from lcakit.plot._style import dots, label, level, line, line_colours, load, picture
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["sweep"]


def __dir__() -> list[str]:
    return __all__


_FEW = 8
"""Most values of a setting that each have a tick of a logarithmic axis, whose own ticks would overlap."""

_Sweep = Mapping[float, xr.Dataset | xr.DataArray]


@checks_arguments
def sweep(
    runs: _Sweep | Mapping[str, _Sweep],
    setting: str = "learning rate",
    log: bool | None = None,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "",
) -> Any:
    """Draw the fraction of parameters that help against a hyperparameter (figure S9).

    Horizontal: the setting. Vertical: fraction of the moving parameters that help, averaged over iterations; the dashed
    line is one half.

    Parameters
    ----------
    runs
        Value of the setting to trajectory (one run or several), or to a number that was computed before (a DataArray
        without dimensions, or over ``run``). Several such mappings by name, for instance by optimizer, are several
        lines.
    setting
        Name of the hyperparameter.
    log
        Logarithmic horizontal axis; by default where the largest value is more than thirty times the smallest.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        Dots are runs, lines their means.

    Raises
    ------
    TrajectoryError
        If a file holds neither ``lca`` nor counts by layer.
    ValueError
        For an empty mapping, an array with another dimension than ``run``, more than twelve lines, or an unknown
        backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> runs = {rate: tiny_trajectory(seed=n) for n, rate in enumerate([0.01, 0.1, 1.0])}
    >>> picture = sweep(runs)
    >>> picture.traverse(lambda mark: mark, ["Curve"])[0].dimension_values(0).tolist()
    [0.01, 0.1, 1.0]
    """
    load(backend)
    if isinstance(runs, xr.Dataset):
        raise ArgumentError("a sweep is of several trajectories by their setting: pass {setting: ds, …}, got a Dataset")
    if not runs:
        raise ValueError("no runs to draw: the mapping is empty; pass value -> trajectory")
    given: dict[str, Any] = dict(runs) if isinstance(next(iter(runs)), str) else {"": runs}  # type: ignore[arg-type]
    lazy = {name: [_number(part, lca) for _, part in sorted(one.items())] for name, one in given.items()}
    found = compute(lazy, quiet=True)
    axes = setting, label(next(iter(found.values()))[0])
    places = np.array(sorted({float(x) for one in given.values() for x in one}))
    wide = bool(places[0] > 0 and places[-1] > 30 * places[0]) if log is None else log
    marks = [level(backend, 0.5)]
    for (name, values), color in zip(found.items(), line_colours(len(found)), strict=True):
        x = np.array(sorted(given[name]), np.float64)
        marks.append(line(backend, x, [float(value.mean()) for value in values], axes, name, color))
        each = np.concatenate([np.full(value.size, at) for at, value in zip(x, values, strict=True)])
        marks.append(dots(backend, each, np.concatenate([value.values.ravel() for value in values]), axes, "", color))
    legend = "right" if any(found) else None
    text = title or f"Fraction helping against the {setting}"
    few = {"xticks": [(x, f"{x:g}") for x in places.tolist()]} if wide and places.size <= _FEW else {}
    return picture(backend, marks, axes, text, "x" * wide, legend=legend, **few)


def _number(part: xr.Dataset | xr.DataArray, lca: str) -> xr.DataArray:
    if isinstance(part, xr.Dataset):
        return fraction_helping(part, lca=lca)
    if set(part.dims) - {"run"}:
        raise ValueError(f"a sweep draws one number for each run, got dimensions {part.dims}; average first (.mean)")
    return part
