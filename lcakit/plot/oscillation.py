"""Oscillation: how often weights turn around, one weight in detail, and layers that lag (figures S7 and S8)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.oscillation import iterations_per_crossing, iterations_per_turn, oscillation_detail
from lcakit.analysis.phase import phase_lag as analysed_lag
from lcakit.plot._bars import bars, over_runs
from lcakit.plot._classes import alike, by_classes
from lcakit.plot._runs import mean_line, one_run
from lcakit.plot._style import (
    PALETTE,
    beside,
    dots,
    label,
    level,
    line,
    line_colours,
    load,
    picture,
    sign_colours,
    upright,
)
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.require import require

__all__ = ["detail", "phase_lag", "turns"]


def __dir__() -> list[str]:
    return __all__


@of_trajectories
def turns(
    ds: xr.Dataset,
    by: str = "kernel_layer",
    confidence: float = 0.95,
    backend: str = "bokeh",
    title: str = "Iterations per turn and per crossing",
) -> Any:
    """Draw, for each layer, after how many iterations a weight turns around and a gradient crosses zero (figure S7).

    Horizontal: layers. Vertical: iterations, in the mean over the parameters of a layer.

    Parameters
    ----------
    ds
        Trajectory with ``theta`` or ``gradient``, or both; of several runs means with confidence intervals.
    by
        A grouping of :func:`lcakit.aggregate.sum_by`.
    confidence
        Of the intervals over runs (Student's t).
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        A series of bars for each quantity that the file holds: ``weight turn`` and ``gradient crossing``.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``theta`` nor ``gradient``, nor counts of turns in their place.
    ValueError
        For an unknown grouping or backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label for mark in turns(tiny_trajectory()) if mark.label]
    ['weight turn', 'gradient crossing']
    """
    load(backend)
    alike(ds)
    wanted = {
        "weight turn": (iterations_per_turn, ("theta", "turn_count")),
        "gradient crossing": (iterations_per_crossing, ("gradient", "crossing_count")),
    }
    kept = {name: study for name, (study, either) in wanted.items() if any(one in ds for one in either)} or {
        "weight turn": iterations_per_turn  # which says what is missing
    }
    series = compute({name: over_runs(study(ds, by), confidence) for name, study in kept.items()}, quiet=True)
    names = [str(name) for name in next(iter(series.values()))[by].values]
    return bars(backend, names, series, ("layer", "iterations"), title, signed=False)


@by_classes(keep=("gradient",))
def detail(
    ds: xr.Dataset,
    parameter: int | str,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "",
    together: bool = False,
) -> Any:
    """Draw one parameter's movement, gradient and LCA over the iterations, one below the other (figure S8).

    Horizontal: iterations (the gradient: optimizer steps). Vertical: movement in an iteration; gradient and LCA in the
    unit of the loss. With ``together`` all in one picture, as in the paper, with the weight in place of its movement:
    the axis is that of LCA, and the lines are scaled to its height, the weight by its distance from its mean.

    Parameters
    ----------
    ds
        Trajectory of one run with ``theta``; ``gradient`` and LCA are drawn if the file has them.
    parameter
        Index in the whole network, or name: ``"fc1.weight[3, 17]"``.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs, the gradient that of all. The file needs to be recorded with
        ``classes="parameter"``. None: all classes.
    together
        One picture, for which the file must hold ``gradient`` and LCA, too. The paper shows iterations 50 to 200:
        ``ds.lk.sel(iteration=slice(50, 200))``.

    Returns
    -------
    holoviews.Layout or holoviews.Overlay
        LCA is a bar for each iteration, in the colours of helping and hurting.

    Raises
    ------
    TrajectoryError
        If the file holds no ``theta``, or several runs; with ``together``, if it lacks ``gradient`` or LCA.
    ValueError
        For a parameter that the network does not have, or an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> len(detail(tiny_trajectory(), "fc.weight[1, 2]"))
    3
    """
    load(backend)
    found = compute(oscillation_detail(one_run(ds, "the detail of a parameter"), parameter, lca), quiet=True)
    name = title or str(found.attrs["parameter"])
    if together:
        return _in_one(backend, found, ds, name, lca)
    parts = [_series(backend, found["movement"], f"Movement of {name}", PALETTE[0])]
    if "gradient" in found:
        gradient = found["gradient"].assign_attrs(long_name="gradient")
        parts.append(_series(backend, gradient, f"Gradient at {name}", PALETTE[1]))
    if "lca" in found:
        parts.append(_spikes(backend, found["lca"], f"LCA of {name}"))
    return beside(backend, [part.opts(backend=backend, **_low(backend)) for part in parts], columns=1)


def _in_one(backend: str, found: xr.Dataset, ds: xr.Dataset, name: str, lca: str) -> Any:
    """Draw bars of LCA, and weight and gradient as lines of the same height."""
    for needed, variable in (("gradient", "gradient"), ("lca", lca)):
        if needed not in found:
            require(ds, variable)  # says how it is recorded
    top = float(abs(found["lca"]).max()) or 1.0
    axes = "iteration", label(found["lca"].assign_attrs(found["lca"].attrs | {"long_name": "LCA"}))
    marks = [level(backend, 0), *_bars(backend, found["lca"], axes)]
    for text, values, color in (
        ("weight", found["theta"] - found["theta"].mean(), PALETTE[0]),
        ("gradient", found["gradient"], PALETTE[1]),
    ):
        high = float(abs(values).max())
        scaled = values * (top / high if high else 1.0)
        marks.append(line(backend, values["snapshot"], scaled, axes, f"{text} (scaled)", color, width=1.5))
    return picture(backend, marks, axes, name)


def _low(backend: str) -> dict[str, Any]:
    return {"height": 210} if backend == "bokeh" else {}


def _series(backend: str, values: xr.DataArray, title: str, color: str) -> Any:
    time = str(values.dims[0])
    axes = "iteration" if time == "iteration" else "optimizer steps", label(values)
    return picture(
        backend,
        [level(backend, 0), line(backend, values[time], values, axes, "", color, width=1.2)],
        axes,
        title,
        legend=None,
    )


def _spikes(backend: str, values: xr.DataArray, title: str) -> Any:
    """Draw a line from zero to each value, with gaps between: two marks, of helping and of hurting iterations."""
    axes = "iteration", label(values.assign_attrs(values.attrs | {"long_name": "LCA"}))
    return picture(backend, [level(backend, 0), *_bars(backend, values, axes)], axes, title, legend=None)


def _bars(backend: str, values: xr.DataArray, axes: tuple[str, str]) -> list[Any]:
    marks, steps = [], values["iteration"].values
    for name, where in (("helping", values.values < 0), ("hurting", values.values > 0)):
        x = np.repeat(steps[where], 3)
        y = np.column_stack([np.zeros(where.sum()), values.values[where], np.full(where.sum(), np.nan)]).ravel()
        marks.append(line(backend, x, y, axes, name, sign_colours()[name], width=1.5))
    return marks


@of_trajectories
def phase_lag(
    ds: xr.Dataset,
    by: str = "kernel_layer",
    max_lag: int | None = None,
    backend: str = "bokeh",
    title: str = "Movement against the negative gradient",
) -> Any:
    """Draw how the movement of each layer correlates with its negative gradient some iterations before.

    Horizontal: lag in iterations; to the right of 0 the movement follows. Vertical: correlation, from -1 to 1.

    Parameters
    ----------
    ds
        Trajectory with ``theta`` and ``gradient``, or the result of :func:`lcakit.oscillation.phase_lag`; of several
        runs lines are means and shades the range.
    by, max_lag
        Grouping, and the largest lag: see :func:`lcakit.oscillation.phase_lag`.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        A line for each layer; its dot marks the lag of the largest correlation.

    Raises
    ------
    TrajectoryError
        If the file holds no ``theta`` or no ``gradient``.
    ValueError
        For a largest lag that is not less than half of the run, more than twelve layers, an unknown grouping or
        backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label for mark in phase_lag(tiny_trajectory(), max_lag=3) if mark.label]
    ['conv1', 'fc']
    """
    load(backend)
    alike(ds)
    result = ds if "gradient_correlation" in ds else analysed_lag(ds, by, max_lag)
    values = compute(result["gradient_correlation"], quiet=True)
    axes = "lag (iterations); to the right the movement follows", "correlation"
    marks = [level(backend, 0), upright(backend, 0)]
    for n, color in enumerate(line_colours(values.sizes["layer"])):
        row = values.isel(layer=n)
        marks += mean_line(backend, row["lag"], row, axes, str(row["layer"].values), color)
        mean = row.mean("run") if "run" in row.dims else row
        if mean.notnull().all():
            top = mean.isel(lag=int(mean.argmax("lag")))
            marks.append(dots(backend, [float(top["lag"])], [float(top)], axes, "", color, size=9))
    return picture(backend, marks, axes, title)
