"""Curves of several runs in one picture: each, or the mean and interval of each configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from bokeh.models import ColumnDataSource

from lcakit.analysis.runs import summary
from lcakit.plot._colours import dash_of
from lcakit.views.explorer import figures
from lcakit.views.explorer.names import shown

__all__ = ["CONFIDENCE", "EACH", "MEAN", "MOST_LINES", "MOST_RUNS", "Curve", "Overlay", "curves_of"]


def __dir__() -> list[str]:
    return __all__


EACH, MEAN = "each run", "mean and interval"
CONFIDENCE = 0.95
MOST_LINES, MOST_RUNS = len(figures.LINES), 60
"""Most lines, each of its own colour; and most runs, which share the colours of their configurations."""
_Series = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Curve:
    """A line of a picture and its entry in the legend; ``low`` and ``high`` are the ends of an interval around it."""

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: str
    legend: str
    runs: int = 1
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def curves_of(
    found: Mapping[str, _Series], groups: Mapping[str, Sequence[str]], mode: str, colours: Mapping[str, str]
) -> list[Curve]:
    """Return the curves of a picture.

    Parameters
    ----------
    found
        Places and values of each run.
    groups
        The configurations to draw, with their runs.
    mode
        ``EACH``: a line for each run.
        ``MEAN``: the mean of each configuration, with Student's interval, over the runs with the places of its first.
    colours
        Of each run and of each configuration.
    """
    if mode == MEAN:
        means = [_mean(name, [found[run] for run in runs if run in found], colours) for name, runs in groups.items()]
        return [one for one in means if one is not None][:MOST_LINES]
    out = [
        Curve(run, *found[run], colours[run], name if len(groups) > 1 else run)
        for name, runs in groups.items()
        for run in runs
        if run in found
    ]
    return out[: MOST_RUNS if len(groups) > 1 else MOST_LINES]


def _mean(name: str, series: list[_Series], colours: Mapping[str, str]) -> Curve | None:
    if not series:
        return None
    x = series[0][0]
    alike = np.stack([y for places, y in series if np.array_equal(places, x)])
    if len(alike) == 1:
        return Curve(name, x, alike[0], colours[name], name)
    of_runs = summary(xr.DataArray(alike, dims=["run", "x"]), CONFIDENCE)
    mean, low, high = (of_runs[part].values for part in ("mean", "low", "high"))
    return Curve(name, x, mean, colours[name], f"{name} ({len(alike)} runs)", len(alike), low, high)


class Overlay:
    """Lines and shades on a figure, which change in place."""

    def __init__(self, fig: Any, width: float = 1.5) -> None:
        self.lines = ColumnDataSource({name: [] for name in ("xs", "ys", "name", "legend", "color", "dash")})
        self.shades = ColumnDataSource({name: [] for name in ("xs", "ys", "color")})
        fig.patches("xs", "ys", source=self.shades, color="color", fill_alpha=0.2, line_alpha=0)
        look = {"color": "color", "line_dash": "dash", "line_width": width, "alpha": 0.9, "legend_field": "legend"}
        drawn = fig.multi_line("xs", "ys", source=self.lines, **look)
        fig.add_tools(figures.hover([("run", "@name")], [drawn]))

    def show(self, curves: Sequence[Curve]) -> None:
        """Draw these curves instead of those before."""
        self.lines.data = {
            "xs": [one.x for one in curves],
            "ys": [one.y for one in curves],
            "name": [shown(one.name, 60) for one in curves],
            "legend": [shown(one.legend, 30) for one in curves],
            "color": [one.colour for one in curves],
            "dash": [dash_of(one.colour) for one in curves],
        }
        bands = [one for one in curves if one.low is not None and one.high is not None]
        self.shades.data = {
            "xs": [np.concatenate([one.x, one.x[::-1]]) for one in bands],
            "ys": [np.concatenate([np.asarray(one.low), np.asarray(one.high)[::-1]]) for one in bands],
            "color": [one.colour for one in bands],
        }
