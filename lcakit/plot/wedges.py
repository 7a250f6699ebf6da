"""Pictures of loss surfaces, wedges and networks side by side (Fort and Jastrzębski, 2019).

Results of :func:`lcakit.landscapes.wedges.compare` have a dimension ``surface``: they become one picture for each
surface, side by side, since losses of different surfaces share no scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from lcakit.plot._style import (
    GUIDE,
    dots,
    heat,
    label,
    line,
    line_colours,
    load,
    picture,
    rows,
    upright,
)
from lcakit.plot._surfaces import FLOOR, each_surface
from lcakit.plot._wedges_points import averages, label_changes, radius, short_directions, spectrum
from lcakit.trajectory.arguments import checks_arguments, require_parts

__all__ = ["averages", "cut", "label_changes", "paths", "radius", "reachable", "short_directions", "spectrum"]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
def paths(connected: xr.Dataset, backend: str = "bokeh", title: str = "Between two optima") -> Any:
    """Draw the loss on the straight line between two optima, and on the optimized connector.

    Horizontal: position between the optima, from 0 to 1. Vertical: loss.

    Parameters
    ----------
    connected
        ``loss`` and ``straight`` ([surface, bends,] position) of ``connect``.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay or holoviews.Layout
        For several surfaces one Overlay each, side by side: a line for each number of bends, and the straight one.

    Raises
    ------
    ValueError
        For further dimensions, more than twelve lines, or an unknown backend.

    Examples
    --------
    >>> losses = {"loss": ("position", [0.0, 0.1, 0.0]), "straight": ("position", [0.0, 1.0, 0.0])}
    >>> [mark.label for mark in paths(xr.Dataset(losses, {"position": [0.0, 0.5, 1.0]}))]
    ['straight line', 'connector']
    """
    require_parts(connected, ["loss", "straight", "position"], "lk.landscapes.wedges.connect")

    def draw(result: xr.Dataset, title: str) -> Any:
        result = result.dropna("position", how="all")
        axes = label(result["position"]), label(result["straight"].assign_attrs(long_name="loss"))
        straight = result["straight"]
        straight = straight.isel({dim: 0 for dim in straight.dims if dim != "position"})
        marks = [line(backend, result["position"], straight, axes, "straight line", GUIDE, "dashed")]
        lines = rows(result["loss"], "position")
        for (name, row), color in zip(lines, line_colours(len(lines)), strict=True):
            name = name if len(lines) > 1 else "connector"
            marks.append(line(backend, row["position"], row, axes, name, color, width=3))
        return picture(backend, marks, axes, title)

    return each_surface(backend, connected, draw, title)


@checks_arguments
def reachable(
    reached: Mapping[str, xr.DataArray] | xr.DataArray,
    thresholds: Mapping[str, float] | None = None,
    backend: str = "bokeh",
    title: str = "Reachable loss in random planes",
) -> Any:
    """Draw the loss that optimization reaches in random planes against their dimension.

    Horizontal: dimension of the plane. Vertical: loss, logarithmic.

    Parameters
    ----------
    reached
        Results of ``reachable_loss`` by name, or one of them: (plane_dimension[, repeat]). Lines are medians over
        repeats, dots single repeats; losses below 1e-10 are drawn there.
    thresholds
        D − n by the same names: dashed guides, where wedges are met in theory.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        A line and its dots for each name.

    Raises
    ------
    ValueError
        For more than twelve names, or an unknown backend.

    Examples
    --------
    >>> loss = xr.DataArray([1.0, 0.1, 1e-12], dims="plane_dimension", coords={"plane_dimension": [4, 8, 12]})
    >>> picture = reachable({"toy": loss}, {"toy": 10})
    >>> picture.traverse(lambda mark: mark, ["Curve"])[0].dimension_values(1).tolist()
    [1.0, 0.1, 1e-10]
    """
    load(backend)
    given = {"": reached} if isinstance(reached, xr.DataArray) else dict(reached)
    first = next(iter(given.values()))
    require_parts(first, ["plane_dimension"], "lk.landscapes.wedges.reachable_loss")
    axes = label(first["plane_dimension"]), label(first)
    marks = []
    for (name, loss), color in zip(given.items(), line_colours(len(given)), strict=True):
        loss = loss.where(np.isnan(loss), np.maximum(loss, FLOOR)).dropna("plane_dimension", how="all")
        single = loss if "repeat" in loss.dims else loss.expand_dims("repeat")
        k = single["plane_dimension"].values
        marks.append(line(backend, k, single.median("repeat"), axes, name, color))
        for row in single.transpose("repeat", ...):
            marks.append(dots(backend, k, row, axes, "", color, size=5))
        if thresholds is not None and name in thresholds:
            marks.append(upright(backend, thresholds[name], color))
    return picture(backend, marks, axes, title, "y", legend="right" if len(given) > 1 else None)


@checks_arguments
def cut(loss: xr.Dataset, backend: str = "bokeh", title: str = "Cut through the origin and two optima") -> Any:
    """Draw a two-dimensional cut as an image, with the points that span it.

    Both axes: distance in the plane. Colours end at the median loss, so that the low-loss tunnels show; everything
    above has the last one.

    Parameters
    ----------
    loss
        ``loss`` ([surface,] y, x), ``point_x`` and ``point_y`` (point) of ``plane_cut``.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay or holoviews.Layout
        For several surfaces one Overlay each, side by side: an image with dots.

    Raises
    ------
    ValueError
        For an unknown backend.

    Examples
    --------
    >>> grid = {"y": [0.0, 1.0], "x": [0.0, 1.0, 2.0]}
    >>> loss = xr.Dataset({"loss": (("y", "x"), np.arange(6.0).reshape(2, 3)), "point_x": ("point", [1.0]),
    ...                    "point_y": ("point", [1.0])}, grid)
    >>> [type(mark).__name__ for mark in cut(loss)]
    ['Image', 'Scatter']
    """
    require_parts(loss, ["loss", "point_x", "point_y", "y", "x"], "lk.landscapes.wedges.plane_cut")

    def draw(result: xr.Dataset, title: str) -> Any:
        result = result.dropna("x", how="all").dropna("y", how="all")
        axes = label(result["x"]), label(result["y"])
        top = float(np.nanquantile(result["loss"], 0.5))
        image = heat(backend, result["loss"], "x", "y", title, clim=(float(result["loss"].min()), top))
        points = dots(backend, result["point_x"], result["point_y"], axes, "", "#ffffff", "o", 8)
        return (image * points).opts(backend=backend, show_legend=False)

    return each_surface(backend, loss, draw, title)
