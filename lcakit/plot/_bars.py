"""Bars with names below them: one series in the colours of its signs, or several side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.runs import summary
from lcakit.plot._style import boxes, intervals, level, line_colours, picture, plain, sign_colours

TOTAL_WIDTH = 0.8
MOST_LETTERS = 60
"""Most letters of all names below an axis together; if there are more, the names are turned."""


def over_runs(values: xr.DataArray, confidence: float = 0.95) -> xr.Dataset:
    """Return ``mean``, ``low`` and ``high`` over runs; without runs the interval is NaN."""
    if values.sizes.get("run", 1) > 1:
        return summary(values, confidence)[["mean", "low", "high"]].reset_coords(drop=True)
    single = values.isel(run=0, drop=True) if "run" in values.dims else values
    unknown = xr.full_like(single, np.nan, dtype=np.float64)
    return xr.Dataset({"mean": single, "low": unknown, "high": unknown}).reset_coords(drop=True)


def bars(
    backend: str,
    names: list[str],
    series: dict[str, xr.Dataset],
    axes: tuple[str, str],
    title: str,
    signed: bool = True,
) -> Any:
    """Draw bars of each series at each name, with an error bar where the interval is known.

    Parameters
    ----------
    series
        ``mean``, ``low`` and ``high`` (name) by the name of the series.
    signed
        Colour a single series by helping and hurting.
    """
    width = TOTAL_WIDTH / len(series)
    marks = []
    for n, ((name, values), color) in enumerate(zip(series.items(), line_colours(len(series)), strict=True)):
        left = np.arange(len(names)) - TOTAL_WIDTH / 2 + n * width
        marks += _series(backend, left, width, values, axes, name, None if signed and len(series) == 1 else color)
    legend = "right" if any(series) and len(series) > 1 else None
    return picture(
        backend,
        [*marks, level(backend, 0, "#444444", "solid")],
        axes,
        title,
        legend=legend,
        **named_ticks(backend, names),
    )


def named_ticks(backend: str, names: list[str]) -> dict[str, Any]:
    """Return the options that write names below the places 0, 1, 2 …"""
    ticks = [(float(n), plain(backend, name)) for n, name in enumerate(names)]
    return {"xticks": ticks, "xrotation": 45 if sum(map(len, names)) > MOST_LETTERS else 0}


def _series(
    backend: str, left: Any, width: float, values: xr.Dataset, axes: tuple[str, str], name: str, color: str | None
) -> list[Any]:
    mean = values["mean"].values.astype(np.float64)
    parts = [(np.ones(mean.size, bool), name, color)]
    if color is None:
        colours = sign_colours()
        parts = [(mean < 0, "helping", colours["helping"]), (mean > 0, "hurting", colours["hurting"])]
    marks = [
        boxes(backend, (left[where], np.zeros(where.sum()), left[where] + width, mean[where]), axes, part, shade)
        for where, part, shade in parts
        if where.any() and shade
    ]
    marks.append(intervals(backend, left + width / 2, mean, values["low"], values["high"], axes))
    return marks
