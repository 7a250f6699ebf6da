"""Pictures of the noisy quadratic: what a larger batch is worth, how the loss falls, who helps (Zhang et al., 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.batch_sizes import critical_batch_size, speed_up
from lcakit.plot._nqm_helping import helping, helping_over_training
from lcakit.plot._style import (
    band,
    dots,
    label,
    level,
    line,
    line_colours,
    load,
    picture,
    rows,
)
from lcakit.trajectory.arguments import checks_arguments, require_parts

__all__ = [
    "expected_loss",
    "helping",
    "helping_over_training",
    "scheduled_steps",
    "schedules",
    "speed_ups",
    "steps_to_target",
]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
def steps_to_target(curves: xr.Dataset, backend: str = "bokeh", title: str = "") -> Any:
    """Draw the steps to a target loss against the batch size, in logarithms (figures 1 and 2 of the paper).

    Horizontal: batch size. Vertical: optimizer steps. A dotted guide goes on as the smallest batch begins, half the
    steps for twice the batch: perfect scaling. A diamond marks the critical batch size, where twice as many examples
    are needed as at best.

    Parameters
    ----------
    curves
        ``steps`` ([optimizer,] batch_size) of ``tuned_steps`` or ``compare_optimizers``.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        A line for each optimizer; gaps where the target is out of reach.

    Raises
    ------
    ValueError
        For further dimensions, more than twelve lines, or an unknown backend.

    Examples
    --------
    >>> steps = np.array([[640.0, 330.0, 180.0], [320.0, 165.0, 90.0]])
    >>> curves = xr.Dataset({"steps": (("optimizer", "batch_size"), steps)},
    ...                     {"optimizer": ["sgd", "momentum"], "batch_size": [1.0, 2.0, 4.0]})
    >>> [mark.label for mark in steps_to_target(curves) if mark.label]
    ['sgd', 'momentum']
    """
    require_parts(curves, ["steps", "batch_size"], "lk.landscapes.nqm.tuned_steps")
    load(backend)
    steps = curves["steps"].where(np.isfinite(curves["steps"])).sortby("batch_size")
    size = steps["batch_size"].values
    axes = label(steps["batch_size"]), label(steps)
    lines = rows(steps, "batch_size")
    critical = np.atleast_1d(critical_batch_size(curves).values) if size.size > 1 else np.full(len(lines), np.nan)
    marks = []
    for (name, row), color, where in zip(lines, line_colours(len(lines)), critical, strict=True):
        marks.append(line(backend, size, row, axes, name, color))
        known = np.flatnonzero(np.isfinite(row.values))
        if known.size:
            first = known[0]
            perfect = row.values[first] * size[first] / size
            inside = perfect >= 0.5 * np.nanmin(steps)
            marks.append(line(backend, size[inside], perfect[inside], axes, "", color, "dotted", 1))
        if np.isfinite(where):
            height = np.exp(np.interp(np.log(where), np.log(size[known]), np.log(row.values[known])))
            marks.append(dots(backend, [where], [height], axes, "", color, "d", 12))
    return picture(backend, marks, axes, title or f"Steps to a loss of {curves.attrs.get('target', 'target')}", "xy")


@checks_arguments
def speed_ups(curves: xr.Dataset, baseline: str = "sgd", backend: str = "bokeh", title: str = "") -> Any:
    """Draw how many times fewer steps each optimizer needs than another one.

    Horizontal: batch size. Vertical: ratio of the steps. Both are logarithmic.

    Parameters
    ----------
    curves
        ``steps`` (optimizer, batch_size) of ``compare_optimizers``.
    baseline
        Name of the other one; its own line is the dashed 1.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        A line for each optimizer but the baseline, in its colour of :func:`steps_to_target`.

    Raises
    ------
    ValueError
        For an unknown baseline or backend.

    Examples
    --------
    >>> steps = np.array([[640.0, 330.0, 180.0], [320.0, 165.0, 90.0]])
    >>> curves = xr.Dataset({"steps": (("optimizer", "batch_size"), steps)},
    ...                     {"optimizer": ["sgd", "momentum"], "batch_size": [1.0, 2.0, 4.0]})
    >>> [mark.label for mark in speed_ups(curves) if mark.label]
    ['momentum']
    """
    require_parts(curves, ["steps", "batch_size", "optimizer"], "lk.landscapes.nqm.compare_optimizers")
    load(backend)
    ratios = speed_up(curves, baseline).sortby("batch_size")
    axes = label(ratios["batch_size"]), label(ratios)
    names = [str(name) for name in ratios["optimizer"].values]
    colours = dict(zip(names, line_colours(len(names)), strict=True))  # those of steps_to_target
    marks = [
        line(backend, ratios["batch_size"], row, axes, name, colours[name])
        for name, row in rows(ratios, "batch_size")
        if name != baseline
    ]
    return picture(backend, [level(backend, 1), *marks], axes, title or f"Speed-up over {baseline}", "xy")


@checks_arguments
def expected_loss(
    expected: xr.DataArray, simulated: xr.Dataset | None = None, backend: str = "bokeh", title: str = ""
) -> Any:
    """Draw the expected loss over training, and simulated runs against it.

    Horizontal: optimizer steps from 1 on. Vertical: loss. Both are logarithmic.

    Parameters
    ----------
    expected
        ([batch_size or learning_rate,] snapshot) of ``expected_loss``, with several snapshots.
    simulated
        ``loss`` of ``simulate`` with the same settings and snapshots: dots are means over runs, the shade is their
        range of ± 2 standard errors.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        A line for each setting.

    Raises
    ------
    ValueError
        For further dimensions, more than twelve lines, or an unknown backend.

    Examples
    --------
    >>> loss = xr.DataArray([[4.0, 2.0, 1.0], [4.0, 1.0, 0.5]], dims=["batch_size", "snapshot"],
    ...                     coords={"batch_size": [1, 10], "snapshot": [1, 10, 100]}, name="loss")
    >>> [mark.label for mark in expected_loss(loss)]
    ['batch size 1', 'batch size 10']
    """
    require_parts(expected, ["snapshot"], "lk.landscapes.nqm.expected_loss")
    load(backend)
    axes = "steps", label(expected)
    lines = rows(expected, "snapshot")
    colours = line_colours(len(lines), ordered=True)
    marks = []
    if simulated is not None:
        require_parts(simulated, ["loss", "run", "snapshot"], "lk.landscapes.nqm")
        loss = simulated["loss"]
        mean, error = loss.mean("run"), loss.std("run", ddof=1) / np.sqrt(loss.sizes["run"])
        for (_, at), (_, wide), color in zip(rows(mean, "snapshot"), rows(error, "snapshot"), colours, strict=True):
            at, wide = (part.where(at["snapshot"] > 0, drop=True) for part in (at, wide))
            low = np.maximum(at - 2 * wide, at / 100)
            marks.append(band(backend, at["snapshot"], low, at + 2 * wide, axes, color))
            marks.append(dots(backend, at["snapshot"], at, axes, "", color))
    for (name, row), color in zip(lines, colours, strict=True):
        late = row.where(row["snapshot"] > 0, drop=True)
        marks.append(line(backend, late["snapshot"], late, axes, name, color))
    return picture(backend, marks, axes, title or "Expected loss (lines) and simulated runs (dots)", "xy")


@checks_arguments
def scheduled_steps(scheduled: xr.Dataset, backend: str = "bokeh", title: str = "") -> Any:
    """Draw the steps to a target with the best schedule beside those with the best constant learning rate.

    Horizontal: batch size. Vertical: optimizer steps. Both are logarithmic; see :func:`steps_to_target` for the marks.

    Parameters
    ----------
    scheduled
        ``constant_steps`` and ``steps`` (batch_size) of ``scheduled_steps``.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        Two lines: ``constant`` and ``best schedule``.

    Raises
    ------
    ValueError
        For further dimensions, or an unknown backend.

    Examples
    --------
    >>> steps = {"constant_steps": ("batch_size", [640.0, 180.0]), "steps": ("batch_size", [400.0, 120.0])}
    >>> picture = scheduled_steps(xr.Dataset(steps, {"batch_size": [1.0, 4.0]}))
    >>> [mark.label for mark in picture if mark.label]
    ['constant', 'best schedule']
    """
    require_parts(scheduled, ["constant_steps", "steps", "batch_size"], "lk.landscapes.nqm.scheduled_steps")
    both = [scheduled["constant_steps"], scheduled["steps"]]
    names = xr.DataArray(["constant", "best schedule"], dims="optimizer", name="optimizer")
    steps = xr.concat([one.rename("steps") for one in both], dim=names, combine_attrs="override")
    curves = xr.Dataset({"steps": steps}, attrs=scheduled.attrs)
    return steps_to_target(curves, backend, title or "Steps to the target with and without a schedule")


@checks_arguments
def schedules(scheduled: xr.Dataset, backend: str = "bokeh", title: str = "") -> Any:
    """Draw the best learning rates over the course of training, one line for each batch size.

    Horizontal: share of the steps, from 0 to 1. Vertical: learning rate, logarithmic.

    Parameters
    ----------
    scheduled
        ``learning_rate`` (batch_size, piece) of ``scheduled_steps``.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        A step function for each batch size that reaches the target.

    Raises
    ------
    ValueError
        For more than twelve batch sizes, or an unknown backend.

    Examples
    --------
    >>> rates = xr.DataArray([[0.5, 0.1], [1.0, 0.2]], dims=["batch_size", "piece"], coords={"batch_size": [1, 4]})
    >>> [mark.label for mark in schedules(xr.Dataset({"learning_rate": rates}))]
    ['batch size 1', 'batch size 4']
    """
    require_parts(scheduled, ["learning_rate", "batch_size", "piece"], "lk.landscapes.nqm.scheduled_steps")
    load(backend)
    rates = scheduled["learning_rate"].dropna("batch_size", how="all")
    axes = "share of the steps", label(rates)
    edges = np.repeat(np.arange(rates.sizes["piece"] + 1) / rates.sizes["piece"], 2)[1:-1]
    lines = rows(rates, "piece")
    marks = [
        line(backend, edges, np.repeat(row.values, 2), axes, name, color)
        for (name, row), color in zip(lines, line_colours(len(lines), ordered=True), strict=True)
    ]
    return picture(backend, marks, axes, title or "Best schedules: high while far, low at the end", "y")
