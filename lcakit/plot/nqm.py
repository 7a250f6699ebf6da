"""Pictures of the noisy quadratic: what a larger batch is worth, how the loss falls, who helps (Zhang et al., 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.batch_sizes import critical_batch_size, speed_up
from lcakit.plot._style import (
    GUIDE,
    band,
    dots,
    label,
    level,
    line,
    line_colours,
    load,
    picture,
    rows,
    sign_colours,
)


def steps_to_target(curves: xr.Dataset, backend: str = "bokeh", title: str = "") -> Any:
    """Draw the steps to a target loss against the batch size, in logarithms (figures 1 and 2 of the paper).

    A dotted guide goes on as the smallest batch begins, half the steps for twice the batch: perfect scaling. A diamond
    marks the critical batch size, where twice as many examples are needed as at best.

    Parameters
    ----------
    curves
        ``steps`` ([optimizer,] batch_size) of ``tuned_steps`` or ``compare_optimizers``.

    Returns
    -------
    holoviews.Overlay
    """
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


def speed_ups(curves: xr.Dataset, baseline: str = "sgd", backend: str = "bokeh", title: str = "") -> Any:
    """Draw how many times fewer steps each optimizer needs than another one.

    Parameters
    ----------
    curves
        ``steps`` (optimizer, batch_size) of ``compare_optimizers``.
    baseline
        Name of the other one; its own line is the dashed 1.
    """
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


def expected_loss(
    expected: xr.DataArray, simulated: xr.Dataset | None = None, backend: str = "bokeh", title: str = ""
) -> Any:
    """Draw the expected loss over training, and simulated runs against it.

    Parameters
    ----------
    expected
        ([batch_size or learning_rate,] snapshot) of ``expected_loss``, with several snapshots.
    simulated
        ``loss`` of ``simulate`` with the same settings and snapshots: dots are means over runs, the shade is their
        range of ± 2 standard errors.
    """
    load(backend)
    axes = "steps", label(expected)
    lines = rows(expected, "snapshot")
    colours = line_colours(len(lines), ordered=True)
    marks = []
    if simulated is not None:
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


def scheduled_steps(scheduled: xr.Dataset, backend: str = "bokeh", title: str = "") -> Any:
    """Draw the steps to a target with the best schedule beside those with the best constant learning rate.

    Parameters
    ----------
    scheduled
        Result of ``scheduled_steps``.
    """
    both = [scheduled["constant_steps"], scheduled["steps"]]
    names = xr.DataArray(["constant", "best schedule"], dims="optimizer", name="optimizer")
    steps = xr.concat([one.rename("steps") for one in both], dim=names, combine_attrs="override")
    curves = xr.Dataset({"steps": steps}, attrs=scheduled.attrs)
    return steps_to_target(curves, backend, title or "Steps to the target with and without a schedule")


def schedules(scheduled: xr.Dataset, backend: str = "bokeh", title: str = "") -> Any:
    """Draw the best learning rates over the course of training, one line for each batch size.

    Parameters
    ----------
    scheduled
        ``learning_rate`` (batch_size, piece) of ``scheduled_steps``.
    """
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


def helping(expected: xr.Dataset, recorded: xr.DataArray | None = None, backend: str = "bokeh", title: str = "") -> Any:
    """Draw the probability that a direction helps against its curvature.

    Above one half, tinted as helping, a direction still learns; at one half it only jitters.

    Parameters
    ----------
    expected
        ``helping`` ([one more,] direction) of ``expected_helping``.
    recorded
        Fraction of iterations helped, ([the same,] direction or parameter) in the order of the directions: dots.
    """
    load(backend)
    share = expected["helping"]
    axes = label(share["curvature"]), label(share)
    lines = rows(share, "direction")
    colours = line_colours(len(lines), ordered=share.ndim > 1 and share[share.dims[0]].dtype.kind not in "UOS")
    marks = [*_half(backend, share["curvature"], share, axes)]
    if recorded is not None:
        at = recorded.rename(parameter="direction") if "parameter" in recorded.dims else recorded
        for (_, row), color in zip(rows(at, "direction"), colours, strict=True):
            marks.append(dots(backend, share["curvature"], row, axes, "", color, size=4))
    for (name, row), color in zip(lines, colours, strict=True):
        marks.append(line(backend, row["curvature"], row, axes, name if share.ndim > 1 else "expected", color))
    return picture(backend, marks, axes, title or "Who helps: probability by curvature", "x")


def helping_over_training(
    expected: xr.DataArray, recorded: xr.DataArray | None = None, backend: str = "bokeh", title: str = ""
) -> Any:
    """Draw the expected fraction of directions that help over the iterations, and that of a recording as dots.

    Parameters
    ----------
    expected
        ``helping`` of ``expected_helping`` averaged over directions: ([one more,] iteration).
    recorded
        The same of a recording, for instance ``lk.noise.fraction_helping`` averaged over windows.
    """
    load(backend)
    axes = "iteration", "fraction helping"
    lines = rows(expected, "iteration")
    colours = line_colours(len(lines), ordered=len(lines) > 1)
    marks = [*_half(backend, expected["iteration"], expected, axes)]
    if recorded is not None:
        for (_, row), color in zip(rows(recorded, "iteration"), colours, strict=True):
            marks.append(dots(backend, row["iteration"], row, axes, "recorded", color, size=5))
    for (name, row), color in zip(lines, colours, strict=True):
        marks.append(line(backend, row["iteration"], row, axes, name if len(lines) > 1 else "expected", color))
    return picture(backend, marks, axes, title or "Who helps, over training")


def _half(backend: str, x: xr.DataArray, shares: xr.DataArray, axes: tuple[str, str]) -> list[Any]:
    """Return the guide at one half, with the helping side tinted."""
    top = min(1.0, max(0.55, float(shares.max()) + 0.02))
    ends = [float(x.min()), float(x.max())]
    return [band(backend, ends, [0.5, 0.5], [top, top], axes, sign_colours()["helping"]), level(backend, 0.5, GUIDE)]


__all__ = [
    "expected_loss",
    "helping",
    "helping_over_training",
    "scheduled_steps",
    "schedules",
    "speed_ups",
    "steps_to_target",
]
