"""How every picture looks: sizes, labels, and how marks become a picture; offers colours and marks, too."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from lcakit.errors import unknown
from lcakit.plot._colours import (
    GUIDE,
    MOST_LINES,
    PALETTE,
    line_colours,
    neutral_cmap,
    sequential,
    sign_cmap,
    sign_colours,
    symmetric_limits,
)
from lcakit.plot._marks import (
    MOST_CURVES,
    band,
    boxes,
    curves,
    dots,
    intervals,
    key,
    level,
    line,
    load,
    plain,
    upright,
)
from lcakit.trajectory.arguments import checks_arguments

__all__ = [
    "GUIDE",
    "MOST_CURVES",
    "MOST_LINES",
    "PALETTE",
    "band",
    "beside",
    "boxes",
    "curves",
    "dots",
    "heat",
    "intervals",
    "key",
    "label",
    "level",
    "line",
    "line_colours",
    "load",
    "neutral_cmap",
    "number",
    "picture",
    "plain",
    "rows",
    "sequential",
    "sign_cmap",
    "sign_colours",
    "size",
    "symmetric_limits",
    "upright",
]

SUFFIXES = {".html": "bokeh", ".png": "matplotlib", ".svg": "matplotlib", ".pdf": "matplotlib"}
WIDTH, HEIGHT, INCH = 600, 380, 100
"""Width and height of a picture in pixels, and pixels to the inch for Matplotlib."""


# ---- labels ----------------------------------------------------------------------------------------------------


def label(array: xr.DataArray) -> str:
    """Return the text of an axis: the long name of an array, and its units unless they add nothing."""
    text = str(array.attrs.get("long_name") or str(array.name or "value").replace("_", " "))
    units = str(array.attrs.get("units", "1"))
    named = text if units == "1" or units in text else f"{text} ({units})"
    return plain("bokeh", named)  # also for Matplotlib, which has it as the name of a dimension: no tag, no line break


def number(value: Any) -> str:
    """Return a label's value as short text: ``64``, ``1e+06``, ``no noise`` for infinitely many."""
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def rows(array: xr.DataArray, x: str) -> list[tuple[str, xr.DataArray]]:
    """Return the lines of an array over ``x`` with their names; it may have one dimension beside ``x``.

    A single line has no name (and must not have that of its axis, which HoloViews would take for data).
    """
    others = [dim for dim in array.dims if dim != x]
    if x not in array.dims or len(others) > 1:
        raise ValueError(
            f"a picture over {x!r} needs that dimension and at most one more, got {array.dims}. "
            "Select (.sel, .isel) or average (.mean) first."
        )
    if not others:
        return [("", array)]
    (other,) = others
    line_colours(array.sizes[other])
    values = array[other].values
    prefix = "" if values.dtype.kind in "UOS" else f"{str(other).replace('_', ' ')} "
    return [(f"{prefix}{number(value)}", array.isel({other: n})) for n, value in enumerate(values)]


# ---- pictures --------------------------------------------------------------------------------------------------


_LONG_TITLE = 52


def picture(
    backend: str,
    marks: Iterable[Any],
    axes: tuple[str, str],
    title: str = "",
    log: str = "",
    legend: str | None = "right",
    **options: Any,
) -> Any:
    """Put marks into one picture.

    Parameters
    ----------
    log
        Which axes are logarithmic: ``""``, ``"x"``, ``"y"`` or ``"xy"``.
    legend
        Its place; None for no legend.
    options
        Further plot options that both backends know (``xlim``, ``ylim`` …).
    """
    shared: dict[str, Any] = {"logx": "x" in log, "logy": "y" in log} | titles(backend, title, axes)
    if backend == "bokeh" and "y" not in log and "yticks" not in options:
        shared["yformatter"] = "%.6g"  # Bokeh's own writes 5.000e-4
    if len(title) > _LONG_TITLE:  # else its end is cut off
        shared["fontsize"] = {"title": "9pt" if backend == "bokeh" else 9}
    if backend == "bokeh" and legend == "right":
        shared["legend_opts"] = {"location": "top_left"}  # beside the picture: at its top
    shared |= {"show_grid": True, "padding": 0.03, "show_legend": legend is not None} | size(backend) | options
    overlay = hv.Overlay([mark.opts(axiswise=True, backend=backend) for mark in marks])  # one picture, own axes
    return overlay.opts(legend_position=legend or "right", backend=backend, axiswise=True, **shared)


def titles(backend: str, title: str, axes: tuple[str, str]) -> dict[str, str]:
    """Return title and axes as plot options that are drawn literally, whatever names they contain."""
    text = plain(backend, title).replace("{", "{{").replace("}", "}}")  # HoloViews fills in fields of titles
    return {"title": text, "xlabel": plain(backend, axes[0]), "ylabel": plain(backend, axes[1])}


def heat(backend: str, array: xr.DataArray, x: str, y: str, title: str = "", **options: Any) -> Any:
    """Return an array over two evenly spaced dimensions as an image, with its colour bar named."""
    values = array.transpose(y, x)
    columns = (values[x].values, values[y].values, values.values)
    element = hv.Image(columns, [label(array[x]), label(array[y])], label(array))
    shared = {"cmap": sequential(), "colorbar": True, "title": title, "clabel": label(array)} | options
    return element.opts(backend=backend, axiswise=True, **shared, **size(backend))


def beside(backend: str, pictures: Sequence[Any], columns: int | None = None) -> Any:
    """Put pictures side by side, or into columns, each with its own axes; return a single one unchanged."""
    if len(pictures) == 1:
        return pictures[0]
    columns = columns or len(pictures)
    layout = hv.Layout(list(pictures)).cols(columns)
    if backend == "bokeh":
        return layout.opts(shared_axes=False, backend=backend)
    lines = -(-len(pictures) // columns)
    inches = (WIDTH * columns / INCH, HEIGHT * lines / INCH)
    wide = {"fig_inches": inches, "sublabel_format": "", "hspace": 0.75, "vspace": 0.5, "tight": False}
    return layout.opts(shared_axes=False, backend=backend, **wide)


def size(backend: str, height: int = HEIGHT) -> dict[str, Any]:
    """Return the options that give a picture its size."""
    if backend == "bokeh":
        return {"width": WIDTH, "height": height, "fontscale": 1.1, "autohide_toolbar": True}
    return {"fig_inches": (WIDTH / INCH, height / INCH), "aspect": "auto", "fontscale": 1.0}


@checks_arguments
def backend_of(path: str | os.PathLike[str]) -> str:
    """Return the backend that writes a file of this suffix: .html is Bokeh; .png, .svg and .pdf are Matplotlib.

    Parameters
    ----------
    path
        Name of a file.

    Returns
    -------
    str
        ``"bokeh"`` or ``"matplotlib"``.

    Raises
    ------
    ValueError
        For another suffix.

    Examples
    --------
    >>> backend_of("layers.png")
    'matplotlib'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise unknown("suffix of a picture", suffix, SUFFIXES)
    return SUFFIXES[suffix]


@checks_arguments
def save(element: Any, path: str | os.PathLike[str]) -> Path:
    """Write a picture to a file: .html (interactive, works offline), .png, .svg or .pdf.

    Parameters
    ----------
    element
        A picture made for the backend of the suffix (:func:`backend_of`).
    path
        File to write; one that is there is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        For another suffix.

    Examples
    --------
    >>> import tempfile
    >>> from lcakit import plot
    >>> from lcakit.testing import tiny_trajectory
    >>> picture = plot.loss(tiny_trajectory(), backend="bokeh")
    >>> save(picture, f"{tempfile.mkdtemp()}/loss.html").name
    'loss.html'
    """
    backend = backend_of(path)
    load(backend)
    if backend == "bokeh":
        _save_html(element, Path(path))
    else:
        hv.save(element, path, backend=backend, dpi=150)
    return Path(path)


def _save_html(element: Any, path: Path) -> None:
    """Write one self-contained page: Bokeh's text only, as its ``js_files`` name files of Panel once that is loaded."""
    from bokeh.embed import components
    from bokeh.resources import Resources

    script, place = components(hv.render(element, backend="bokeh"))
    texts = Resources(mode="inline", components=["bokeh"]).js_raw
    scripts = "".join(f"<script>{text}</script>" for text in texts)
    head = f'<meta charset="utf-8"><title>{html.escape(path.stem)}</title>{scripts}'
    page = f"<!DOCTYPE html>\n<html><head>{head}</head><body>{place}{script}</body></html>"
    path.write_text(page, encoding="utf-8")
