"""Heat maps of signed numbers: zero is white, large arrays show the value of largest magnitude of each pixel."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from lcakit.plot._colours import NOTHING, neutral_cmap, sign_cmap, symmetric_limits
from lcakit.plot._marks import plain
from lcakit.plot._raster import MOST_PIXELS, even_blocks, label_blocks, strongest
from lcakit.plot._style import label, size, titles
from lcakit.plot._tiles import tick_step

MOST_TICKS = 25


def lca_map(backend: str, array: xr.DataArray, x: str, y: str, title: str) -> Any:
    """Return LCA over a rising axis ``x`` and rows ``y`` as an image, the first row on top.

    The ends of the colours are the 99th percentile of the magnitudes.
    """
    values = np.asarray(array.transpose(y, x).values, np.float64)
    columns, (left, right) = label_blocks(array[x].values, MOST_PIXELS)
    ends = left, -0.5, right, values.shape[0] - 0.5
    rows = even_blocks(values.shape[0], MOST_PIXELS)
    shown = strongest(values, (rows, columns))
    axes = label(array[x]), label(array[y])
    pointed = {label(array): shown} | _labels(array, x, y, columns, rows)
    ticks = row_ticks(backend, array[y].values)
    return image(backend, list(pointed.values()), ends, axes, list(pointed), title, yticks=ticks)


def _labels(array: xr.DataArray, x: str, y: str, columns: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the label of each pixel along the axes that have numbers: that of its first entry."""
    shape = np.broadcast_shapes((len(rows), 1), (len(columns),))
    found = {label(array[x]): np.broadcast_to(array[x].values[columns[:, 0]], shape)}
    if array[y].dtype.kind in "iu":
        found[label(array[y])] = np.broadcast_to(array[y].values[rows[:, 0], None], shape)
    return found


def row_ticks(backend: str, names: np.ndarray) -> list[tuple[float, str]]:
    """Return ticks for the rows of an image: all names, or every so many; fewer where they are only numbers."""
    step = tick_step(len(names), 12) if names.dtype.kind in "iu" else -(-len(names) // MOST_TICKS)
    return [(float(row), plain(backend, names[row])) for row in range(0, len(names), step)]


def image(
    backend: str,
    layers: list[np.ndarray],
    ends: tuple[float, float, float, float],
    axes: tuple[str, str],
    names: list[str],
    title: str = "",
    helps: bool = True,
    limits: tuple[float, float] | None = None,
    reverse: bool = False,
    **options: Any,
) -> Any:
    """Return an image (row, column) with its first row on top; NaN is grey.

    Parameters
    ----------
    layers, names
        The values, and further ones of the same shape that are shown when pointing at a pixel.
    ends
        Left, top, right and bottom.
    helps, reverse
        Negative numbers help (or positive ones: saliency); otherwise the sign means neither.
    limits
        Ends of the colour scale; by default symmetric, the 99th percentile of the magnitudes.

    Raises
    ------
    ValueError
        If there is no finite number.
    """
    left, top, right, bottom = ends
    names = [plain(backend, name) for name in names]
    if not np.isfinite(layers[0]).any():
        raise ValueError(
            "every number of this picture is NaN or infinite: look for the iteration with lk.validate, and select "
            "iterations before it"
        )
    dimensions = [hv.Dimension((f"z{n}", name)) for n, name in enumerate(names)]
    element = hv.Image(
        np.dstack([layer[::-1] for layer in layers]),
        [hv.Dimension(("x", axes[0] or "x")), hv.Dimension(("y", axes[1] or "y"))],
        dimensions,
        bounds=(left, top, right, bottom),
    )
    colours = sign_cmap() if helps else neutral_cmap()
    shared = {
        "cmap": colours[::-1] if reverse else colours,
        "clim": limits or symmetric_limits(layers[0]),
        "colorbar": True,
        "clabel": names[0],
        "cformatter": "%.2g",
        "clipping_colors": {"NaN": NOTHING},
        "invert_yaxis": True,
    }
    shared |= titles(backend, title, axes) | size(backend) | options
    if backend == "bokeh":
        places = [(name, f"@{{z{n}}}") for n, name in enumerate(names)][1:]
        shared |= {"tools": ["hover"], "hover_tooltips": [*places, (names[0], "@image")]}
    return element.opts(backend=backend, axiswise=True, **shared)
