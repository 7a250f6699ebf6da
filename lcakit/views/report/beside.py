"""Runs of several configurations: never averaged with each other, but side by side in two pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from lcakit import plot
from lcakit.analysis.layerwise import layer_lca
from lcakit.errors import TrajectoryError
from lcakit.plot._runs import mean_line
from lcakit.plot._style import label, line_colours, picture
from lcakit.trajectory.configurations import configurations, runs_of
from lcakit.trajectory.require import require
from lcakit.views.report.context import BACKEND, BY, Section, get, join_names, mean_over_runs, name, number, single

__all__ = ["MOST_CONFIGURATIONS", "by_configuration", "section"]


def __dir__() -> list[str]:
    return __all__


MOST_CONFIGURATIONS = 4
"""Most configurations with figures of their own: each has those of a whole report."""


def by_configuration(ds: xr.Dataset) -> dict[str, xr.Dataset]:
    """Return the runs of each configuration by its name; one of everything where there are not several.

    Raises
    ------
    TrajectoryError
        If there are more than a report can show.
    """
    names = list(runs_of(ds))
    groups = configurations(dict(zip(names, runs_of(ds).values(), strict=True)))
    if len(groups) < 2:
        return {"": ds}
    if len(groups) > MOST_CONFIGURATIONS:
        raise TrajectoryError(
            f"these runs are of {len(groups)} configurations ({join_names(list(groups), 4)}), and a report shows "
            f"{MOST_CONFIGURATIONS} at most: write one of fewer, ds.sel(run=[…])"
        )
    return {text: ds.isel(run=[names.index(run) for run in runs]) for text, runs in groups.items()}


def section(parts: Mapping[str, xr.Dataset], unit: str) -> Section:
    """Return the pictures of configurations side by side."""
    return Section(
        "Configurations",
        "Runs of one configuration differ in chance only. Lines are means over them, bars have their 95 % intervals.",
        (
            single("The loss of each", lambda: _losses(parts), lambda: _ends(parts, unit)),
            single("The layers of each", lambda: plot.layers(dict(parts), backend=BACKEND), lambda: _sums(parts, unit)),
        ),
    )


def _losses(parts: Mapping[str, xr.Dataset]) -> Any:
    arrays = {text: get(require(ds, "loss")) for text, ds in parts.items()}
    first = next(iter(arrays.values()))
    axes, marks = ("optimizer steps", label(first.assign_attrs(long_name="loss"))), []
    for (text, array), colour in zip(arrays.items(), line_colours(len(arrays)), strict=True):
        marks += mean_line(BACKEND, array["snapshot"], array, axes, name(text), colour)
    return picture(BACKEND, marks, axes, "Loss of each configuration")


def _ends(parts: Mapping[str, xr.Dataset], unit: str) -> str:
    ends = {text: mean_over_runs(get(require(ds, "loss").isel(snapshot=-1))) for text, ds in parts.items()}
    said = ", ".join(f"{name(text)} {number(end, unit)}{_of(parts[text])}" for text, end in ends.items())
    return f"At the end, in the mean over runs: {said}."


def _sums(parts: Mapping[str, xr.Dataset], unit: str) -> str:
    sums = {text: mean_over_runs(get(layer_lca(ds, BY).sum("iteration"))) for text, ds in parts.items()}
    values = xr.concat(list(sums.values()), "configuration")
    apart = np.ptp(values.values, axis=0)
    layer = str(values["layer"].values[int(np.nanargmax(apart))])
    said = ", ".join(f"{name(text)} {number(one.sel(layer=layer), unit, True)}" for text, one in sums.items())
    return f"They differ most in {name(layer)}: {said}."


def _of(ds: xr.Dataset) -> str:
    return f" ({ds.sizes['run']} run{'s' * (ds.sizes['run'] != 1)})"
