"""Pictures of loss surfaces, wedges and networks side by side (Fort and Jastrzębski, 2019).

Results of :func:`lcakit.landscapes.wedges.compare` have a dimension ``surface``: they become one picture for each
surface, side by side, since losses of different surfaces share no scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from lcakit.plot._style import (
    GUIDE,
    PALETTE,
    beside,
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

FLOOR = 1e-10
"""Loss below which a surface counts as free of loss in a picture; logarithmic axes end there."""


def _each_surface(backend: str, result: Any, draw: Callable[..., Any], title: str) -> Any:
    """Draw a result, or each surface of it, side by side."""
    load(backend)
    if "surface" not in result.dims:
        return draw(result, title)
    names = [str(name) for name in result["surface"].values]
    parts = [draw(result.isel(surface=n, drop=True), f"{title}: {name}") for n, name in enumerate(names)]
    return beside(backend, parts)


def paths(connected: xr.Dataset, backend: str = "bokeh", title: str = "Between two optima") -> Any:
    """Draw the loss on the straight line between two optima, and on the optimized connector.

    Parameters
    ----------
    connected
        ``loss`` and ``straight`` ([surface, bends,] position) of ``connect``.
    """

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

    return _each_surface(backend, connected, draw, title)


def reachable(
    reached: Mapping[str, xr.DataArray] | xr.DataArray,
    thresholds: Mapping[str, float] | None = None,
    backend: str = "bokeh",
    title: str = "Reachable loss in random planes",
) -> Any:
    """Draw the loss that optimization reaches in random planes against their dimension.

    Parameters
    ----------
    reached
        Results of ``reachable_loss`` by name, or one of them: (plane_dimension[, repeat]). Lines are medians over
        repeats, dots single repeats; losses below 1e-10 are drawn there.
    thresholds
        D − n by the same names: dashed guides, where wedges are met in theory.
    """
    load(backend)
    given = {"": reached} if isinstance(reached, xr.DataArray) else dict(reached)
    first = next(iter(given.values()))
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


def cut(loss: xr.Dataset, backend: str = "bokeh", title: str = "Cut through the origin and two optima") -> Any:
    """Draw a two-dimensional cut as an image, with the points that span it.

    Colours end at the median loss, so that the low-loss tunnels show; everything above has the last one.

    Parameters
    ----------
    loss
        ``loss`` ([surface,] y, x), ``point_x`` and ``point_y`` (point) of ``plane_cut``.
    """

    def draw(result: xr.Dataset, title: str) -> Any:
        result = result.dropna("x", how="all").dropna("y", how="all")
        axes = label(result["x"]), label(result["y"])
        top = float(np.nanquantile(result["loss"], 0.5))
        image = heat(backend, result["loss"], "x", "y", title, clim=(float(result["loss"].min()), top))
        points = dots(backend, result["point_x"], result["point_y"], axes, "", "#ffffff", "o", 8)
        return (image * points).opts(backend=backend, show_legend=False)

    return _each_surface(backend, loss, draw, title)


def spectrum(
    eigenvalues: xr.DataArray,
    sharp: Mapping[str, float] | float | None = None,
    backend: str = "bokeh",
    title: str = "Spectrum of the Hessian",
) -> Any:
    """Draw the eigenvalues of the Hessian by rank, as shares of the largest.

    Parameters
    ----------
    eigenvalues
        ([surface or others,] rank) of ``spectrum``.
    sharp
        Number of sharp directions in theory (D − n), by surface where there are several: a dashed guide.
    """

    def draw(result: xr.DataArray, title: str, guide: float | None = None) -> Any:
        shares = (result / result.max("rank")).assign_attrs(long_name="eigenvalue / largest", units="1")
        axes = label(result["rank"]), label(shares)
        lines = rows(shares.dropna("rank", how="all"), "rank")
        marks = [upright(backend, guide + 0.5)] if guide is not None else []
        for (name, row), color in zip(lines, line_colours(len(lines)), strict=True):
            marks.append(dots(backend, row["rank"], row, axes, name if len(lines) > 1 else "", color, size=5))
        return picture(backend, marks, axes, title, legend="right" if len(lines) > 1 else None)

    load(backend)
    if "surface" not in eigenvalues.dims:
        return draw(eigenvalues, title, sharp if isinstance(sharp, int | float) else None)
    guides = sharp if isinstance(sharp, Mapping) else {}
    parts = [
        draw(eigenvalues.isel(surface=n, drop=True), f"{title}: {name}", guides.get(str(name)))
        for n, name in enumerate(eigenvalues["surface"].values)
    ]
    return beside(backend, parts)


def radius(effect: xr.Dataset, backend: str = "bokeh", title: str = "Effect of the distance from the origin") -> Any:
    """Draw what random starts and planes reach at several distances from the origin.

    Parameters
    ----------
    effect
        ``loss`` and ``reached`` ([surface,] radius, repeat) of ``radius_effect``.
    """

    def draw(result: xr.Dataset, title: str) -> Any:
        result = result.mean("repeat", keep_attrs=True).dropna("radius", how="all")
        axes = label(result["radius"]), label(result["loss"].assign_attrs(long_name="loss"))
        marks = []
        for name, color in zip(("loss", "reached"), PALETTE, strict=False):
            row = np.maximum(result[name], FLOOR)
            text = str(result[name].attrs.get("long_name", name))
            marks += [
                line(backend, row["radius"], row, axes, text, color),
                dots(backend, row["radius"], row, axes, "", color),
            ]
        return picture(backend, marks, axes, title, "y")

    return _each_surface(backend, effect, draw, title)


def short_directions(
    counts: xr.DataArray,
    expected: xr.DataArray | None = None,
    backend: str = "bokeh",
    title: str = "Short directions in the middle of a connector",
) -> Any:
    """Draw the number of short directions in the middle of connectors against the number of optima they join.

    Parameters
    ----------
    counts
        ([surface,] subset) of ``short_directions``, with ``size``; dots are single connectors.
    expected
        (size): what theory expects, a dashed line.
    """

    def draw(result: xr.DataArray, title: str) -> Any:
        axes = label(result["size"]), label(result)
        mean = result.groupby("size").mean()
        marks = [
            line(backend, mean["size"], mean, axes, "mean", PALETTE[0]),
            dots(backend, result["size"], result, axes, "connectors", PALETTE[0]),
        ]
        if expected is not None:
            marks.append(line(backend, expected["size"], expected, axes, "expected", GUIDE, "dashed"))
        return picture(backend, marks, axes, title, xticks=[int(n) for n in mean["size"]])

    return _each_surface(backend, counts, draw, title)


def averages(averaged: xr.Dataset, backend: str = "bokeh", title: str = "Averages of weights") -> Any:
    """Draw the loss of the average of m points, close together and far apart, beside the average of their losses.

    Parameters
    ----------
    averaged
        ``loss_of_average`` and ``average_loss`` ([surface,] kind, count) of ``averaging``.
    """

    def draw(result: xr.Dataset, title: str) -> Any:
        axes = label(result["count"]), label(result["average_loss"].assign_attrs(long_name="loss"))
        marks = []
        for kind, color in zip(result["kind"].values, line_colours(result.sizes["kind"]), strict=True):
            part = result.sel(kind=kind)
            for name, dash in (("loss_of_average", "solid"), ("average_loss", "dotted")):
                text = f"{kind}: {part[name].attrs.get('long_name', name)}"
                marks.append(line(backend, part["count"], np.maximum(part[name], FLOOR), axes, text, color, dash))
        return picture(backend, marks, axes, title, "y")

    return _each_surface(backend, averaged, draw, title)


__all__ = ["averages", "cut", "paths", "radius", "reachable", "short_directions", "spectrum"]
