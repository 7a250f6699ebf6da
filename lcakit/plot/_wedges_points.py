"""What single points of a loss surface tell: curvature, distance from the origin, connectors and averages of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from lcakit.plot._style import GUIDE, PALETTE, beside, dots, label, line, line_colours, load, picture, rows, upright
from lcakit.plot._surfaces import FLOOR, each_surface
from lcakit.trajectory.arguments import checks_arguments, require_parts


@checks_arguments
def spectrum(
    eigenvalues: xr.DataArray,
    sharp: Mapping[str, float] | float | None = None,
    backend: str = "bokeh",
    title: str = "Spectrum of the Hessian",
) -> Any:
    """Draw the eigenvalues of the Hessian by rank, as shares of the largest.

    Horizontal: rank, the largest first. Vertical: eigenvalue over the largest one.

    Parameters
    ----------
    eigenvalues
        ([surface or others,] rank) of ``spectrum``.
    sharp
        Number of sharp directions in theory (D − n), by surface where there are several: a dashed guide.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay or holoviews.Layout
        For several surfaces one Overlay each, side by side: dots, of one colour for each spectrum.

    Raises
    ------
    ValueError
        For further dimensions, more than twelve spectra, or an unknown backend.

    Examples
    --------
    >>> values = xr.DataArray([2.0, 1.0, 0.0], dims="rank", coords={"rank": [1, 2, 3]}, name="eigenvalue")
    >>> spectrum(values, sharp=2).traverse(lambda mark: mark, ["Scatter"])[0].dimension_values(1).tolist()
    [1.0, 0.5, 0.0]
    """
    require_parts(eigenvalues, ["rank"], "lk.landscapes.wedges.spectrum")

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


@checks_arguments
def radius(effect: xr.Dataset, backend: str = "bokeh", title: str = "Effect of the distance from the origin") -> Any:
    """Draw what random starts and planes reach at several distances from the origin.

    Horizontal: distance from the origin. Vertical: loss, logarithmic, averaged over repeats.

    Parameters
    ----------
    effect
        ``loss`` and ``reached`` ([surface,] radius, repeat) of ``radius_effect``.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay or holoviews.Layout
        For several surfaces one Overlay each, side by side: two lines with dots.

    Raises
    ------
    ValueError
        For an unknown backend.

    Examples
    --------
    >>> losses = {"loss": (("radius", "repeat"), [[1.0], [2.0]]), "reached": (("radius", "repeat"), [[0.1], [0.5]])}
    >>> picture = radius(xr.Dataset(losses, {"radius": [1.0, 2.0]}))
    >>> len(picture.traverse(lambda mark: mark, ["Curve"]))
    2
    """
    require_parts(effect, ["loss", "reached", "radius", "repeat"], "lk.landscapes.wedges.radius_effect")

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

    return each_surface(backend, effect, draw, title)


@checks_arguments
def short_directions(
    counts: xr.DataArray,
    expected: xr.DataArray | None = None,
    backend: str = "bokeh",
    title: str = "Short directions in the middle of a connector",
) -> Any:
    """Draw the number of short directions in the middle of connectors against the number of optima they join.

    Horizontal: number of optima. Vertical: number of short directions.

    Parameters
    ----------
    counts
        ([surface,] subset) of ``short_directions``, with ``size`` (subset); dots are single connectors.
    expected
        (size): what theory expects, a dashed line.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay or holoviews.Layout
        For several surfaces one Overlay each, side by side: dots and the line of their means.

    Raises
    ------
    ValueError
        For an unknown backend.

    Examples
    --------
    >>> counts = xr.DataArray([10, 16, 14], dims="subset", coords={"size": ("subset", [1, 2, 2])})
    >>> short_directions(counts).traverse(lambda mark: mark, ["Curve"])[0].dimension_values(1).tolist()
    [10.0, 15.0]
    """
    require_parts(counts, ["size", "subset"], "lk.landscapes.wedges.short_directions")

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

    return each_surface(backend, counts, draw, title)


@checks_arguments
def averages(averaged: xr.Dataset, backend: str = "bokeh", title: str = "Averages of weights") -> Any:
    """Draw the loss of the average of m points, close together and far apart, beside the average of their losses.

    Horizontal: number of points. Vertical: loss, logarithmic.

    Parameters
    ----------
    averaged
        ``loss_of_average`` and ``average_loss`` ([surface,] kind, count) of ``averaging``.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay or holoviews.Layout
        For several surfaces one Overlay each, side by side: for each kind a line (loss of the average) and a dotted
        one (average of the losses).

    Raises
    ------
    ValueError
        For more than twelve kinds, or an unknown backend.

    Examples
    --------
    >>> losses = {name: (("kind", "count"), [[1.0, 0.5]]) for name in ("loss_of_average", "average_loss")}
    >>> picture = averages(xr.Dataset(losses, {"kind": ["near"], "count": [1, 2]}))
    >>> [mark.label for mark in picture]
    ['near: loss_of_average', 'near: average_loss']
    """
    require_parts(averaged, ["loss_of_average", "average_loss", "kind", "count"], "lk.landscapes.wedges.averaging")

    def draw(result: xr.Dataset, title: str) -> Any:
        axes = label(result["count"]), label(result["average_loss"].assign_attrs(long_name="loss"))
        marks = []
        for kind, color in zip(result["kind"].values, line_colours(result.sizes["kind"]), strict=True):
            part = result.sel(kind=kind)
            for name, dash in (("loss_of_average", "solid"), ("average_loss", "dotted")):
                text = f"{kind}: {part[name].attrs.get('long_name', name)}"
                marks.append(line(backend, part["count"], np.maximum(part[name], FLOOR), axes, text, color, dash))
        return picture(backend, marks, axes, title, "y")

    return each_surface(backend, averaged, draw, title)


@checks_arguments
def label_changes(changes: xr.Dataset, backend: str = "bokeh", title: str = "Predictions between two optima") -> Any:
    """Draw the share of predicted labels that differ from those at the ends of a path, and the accuracy.

    Horizontal: position between the optima, from 0 to 1. Vertical: share of the examples.

    Parameters
    ----------
    changes
        ``from_start``, ``from_end``, ``from_both`` and ``accuracy`` ([path, pair,] position) of ``label_changes``;
        pairs of optima are averaged.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay or holoviews.Layout
        For several paths one Overlay each, side by side.

    Raises
    ------
    ValueError
        For an unknown backend.

    Examples
    --------
    >>> shares = {name: ("position", [0.0, 0.5, 1.0]) for name in ("from_start", "from_end", "from_both", "accuracy")}
    >>> len(label_changes(xr.Dataset(shares, {"position": [0.0, 0.5, 1.0]})).traverse(lambda mark: mark, ["Curve"]))
    4
    """
    names = ["from_start", "from_end", "from_both", "accuracy"]
    require_parts(changes, [*names, "position"], "lk.landscapes.wedges.label_changes")

    def draw(result: xr.Dataset, title: str) -> Any:
        result = result.mean([dim for dim in result.dims if dim != "position"], keep_attrs=True)
        axes = label(result["position"]), label(result["accuracy"].assign_attrs(long_name="share of examples"))
        marks = []
        for name, color in zip(names, PALETTE, strict=False):
            text = str(result[name].attrs.get("long_name", name))
            marks.append(line(backend, result["position"], result[name], axes, text, color))
        return picture(backend, marks, axes, title)

    load(backend)
    if "path" not in changes.dims:
        return draw(changes, title)
    parts = [draw(changes.isel(path=n, drop=True), f"{title}: {name}") for n, name in enumerate(changes["path"].values)]
    return beside(backend, parts)
