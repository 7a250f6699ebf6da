"""How every picture looks: one colour language, sizes, labels, and the marks that pictures are made of.

Green helps, red hurts, white is zero. A mark is drawn with the same words on both backends.
"""

from __future__ import annotations

import html
import importlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr
from matplotlib.colors import LinearSegmentedColormap, to_hex

from lcakit.errors import unknown

MODULES = {"bokeh": "holoviews.plotting.bokeh", "matplotlib": "holoviews.plotting.mpl"}
SUFFIXES = {".html": "bokeh", ".png": "matplotlib", ".svg": "matplotlib", ".pdf": "matplotlib"}

SIGNS = {"green-red": ("#1b7837", "#c51b29"), "blue-orange": ("#2166ac", "#e08214")}
"""Colours of helping and hurting; the second pair is for readers who do not tell green from red."""
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of lines with names: Okabe and Ito's, safe for colour-blind readers."""
SEQUENTIAL = ("#440154", "#3b528b", "#21918c", "#5ec962", "#d8c520")
"""Of lines in an order and of losses: viridis, darkened at its bright end."""
GUIDE = "#8a8a8a"
MOST_LINES = 12
WIDTH, HEIGHT, INCH = 600, 380, 100
"""Of one picture, in pixels; Matplotlib has this many to the inch."""

_SETTING = {"signs": "green-red"}
_WORDS = {
    "bokeh": {"width": "line_width", "dash": "line_dash", "size": "size"},
    "matplotlib": {"width": "linewidth", "dash": "linestyle", "size": "s"},
}


# ---- colours ---------------------------------------------------------------------------------------------------


def use_colours(scheme: str) -> None:
    """Choose the colours of helping and hurting for all pictures from now on.

    Parameters
    ----------
    scheme
        ``"green-red"`` (as in the paper) or ``"blue-orange"`` (for colour-blind readers).
    """
    sign_colours(scheme)
    _SETTING["signs"] = scheme


def sign_colours(scheme: str | None = None) -> dict[str, str]:
    """Return the colours of ``helping``, ``hurting`` and ``zero``; None takes the scheme in use."""
    chosen = scheme or _SETTING["signs"]
    if chosen not in SIGNS:
        raise unknown("colour scheme", chosen, SIGNS)
    helping, hurting = SIGNS[chosen]
    return {"helping": helping, "hurting": hurting, "zero": "#ffffff"}


def sign_cmap(scheme: str | None = None, n: int = 255) -> list[str]:
    """Return colours from helping (negative) over white to hurting, an odd number so that zero is exactly white."""
    if n < 3 or n % 2 == 0:
        raise ValueError(f"n must be odd and at least 3, so that one colour stands for zero; got {n}")
    colours = sign_colours(scheme)
    return _shades([colours["helping"], colours["zero"], colours["hurting"]], n)


def sequential(n: int = 256) -> list[str]:
    """Return colours from low to high."""
    return _shades(SEQUENTIAL, n)


def line_colours(n: int, ordered: bool = False) -> list[str]:
    """Return a colour for each of n lines; shades where the lines have an order.

    Raises
    ------
    ValueError
        For more lines than one can tell apart.
    """
    if n > MOST_LINES:
        raise ValueError(
            f"{n} lines are too many for one picture (at most {MOST_LINES}). "
            "Select some of them (.sel, .isel) or average over a dimension (.mean)."
        )
    return _shades(SEQUENTIAL, n) if ordered or n > len(PALETTE) else list(PALETTE[:n])


def _shades(colours: Sequence[str], n: int) -> list[str]:
    scale = LinearSegmentedColormap.from_list("shades", list(colours), N=max(n, 2))
    return [to_hex(scale(place)) for place in np.linspace(0, 1, n)]


# ---- labels ----------------------------------------------------------------------------------------------------


def label(array: xr.DataArray) -> str:
    """Return the text of an axis: the long name of an array, and its units unless they say nothing more."""
    text = str(array.attrs.get("long_name") or str(array.name or "value").replace("_", " "))
    units = str(array.attrs.get("units", "1"))
    return text if units == "1" or units in text else f"{text} ({units})"


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


# ---- marks -----------------------------------------------------------------------------------------------------


def load(backend: str) -> None:
    """Make a backend of HoloViews known: nothing is displayed or fetched."""
    if backend not in MODULES:
        raise unknown("backend", backend, MODULES)
    importlib.import_module(MODULES[backend])
    if hv.Store.current_backend not in hv.Store.loaded_backends():
        hv.Store.set_current_backend(backend)


def _drawn(element: Any, backend: str, **words: Any) -> Any:
    named = {_WORDS[backend].get(word, word): value for word, value in words.items()}
    return element.opts(backend=backend, **named)


def _finite(values: Any) -> np.ndarray:
    """Return float64 values with gaps (NaN) where they are infinite, which no axis can show."""
    out = np.asarray(values, np.float64)
    return np.where(np.isfinite(out), out, np.nan)


def line(
    backend: str, x: Any, y: Any, axes: tuple[str, str], name: str, color: str, dash: str = "solid", width: float = 2
) -> Any:
    """Return a line; ``dash`` is solid, dashed or dotted."""
    element = hv.Curve((np.asarray(x), _finite(y)), axes[0], axes[1], label=name)
    return _drawn(element, backend, color=color, dash=dash, width=width)


def dots(
    backend: str, x: Any, y: Any, axes: tuple[str, str], name: str, color: str, marker: str = "o", size: float = 7
) -> Any:
    """Return markers, ``size`` pixels wide."""
    element = hv.Scatter((np.asarray(x), _finite(y)), axes[0], axes[1], label=name)
    area = size if backend == "bokeh" else (0.72 * size) ** 2
    return _drawn(element, backend, color=color, marker=marker, size=area)


def band(backend: str, x: Any, low: Any, high: Any, axes: tuple[str, str], color: str) -> Any:
    """Return a shaded range."""
    columns = (np.asarray(x), _finite(low), _finite(high))
    element = hv.Area(columns, axes[0], [axes[1], f"{axes[1]}, upper"])
    look = {"color": color, "line_alpha": 0} if backend == "bokeh" else {"facecolor": color, "edgecolor": "none"}
    return _drawn(element, backend, alpha=0.15, **look)


def upright(backend: str, x: float, color: str = GUIDE, dash: str = "dashed") -> Any:
    """Return a vertical guide."""
    return _drawn(hv.VLine(float(x)), backend, color=color, dash=dash, width=1.2)


def level(backend: str, y: float, color: str = GUIDE, dash: str = "dashed") -> Any:
    """Return a horizontal guide."""
    return _drawn(hv.HLine(float(y)), backend, color=color, dash=dash, width=1.2)


# ---- pictures --------------------------------------------------------------------------------------------------


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
    shared = {"logx": "x" in log, "logy": "y" in log, "title": title, "xlabel": axes[0], "ylabel": axes[1]}
    shared |= {"show_grid": True, "padding": 0.03, "show_legend": legend is not None} | _size(backend) | options
    overlay = hv.Overlay(list(marks))
    return overlay.opts(legend_position=legend or "right", backend=backend, **shared)


def heat(backend: str, array: xr.DataArray, x: str, y: str, title: str = "", **options: Any) -> Any:
    """Return an array over two evenly spaced dimensions as an image, with its colour bar named."""
    values = array.transpose(y, x)
    columns = (values[x].values, values[y].values, values.values)
    element = hv.Image(columns, [label(array[x]), label(array[y])], label(array))
    shared = {"cmap": sequential(), "colorbar": True, "title": title, "clabel": label(array)} | options
    return element.opts(backend=backend, **shared, **_size(backend))


def beside(backend: str, pictures: Sequence[Any]) -> Any:
    """Put pictures side by side, each with its own axes; a single one stays as it is."""
    if len(pictures) == 1:
        return pictures[0]
    layout = hv.Layout(list(pictures)).cols(len(pictures))
    if backend == "bokeh":
        return layout.opts(shared_axes=False, backend=backend)
    wide = {"fig_inches": (WIDTH * len(pictures) / INCH, HEIGHT / INCH), "sublabel_format": "", "hspace": 0.75}
    return layout.opts(shared_axes=False, backend=backend, **wide)


def _size(backend: str) -> dict[str, Any]:
    if backend == "bokeh":
        return {"width": WIDTH, "height": HEIGHT, "fontscale": 1.1}
    return {"fig_inches": (WIDTH / INCH, HEIGHT / INCH), "aspect": "auto", "fontscale": 1.0}


def backend_of(path: str | os.PathLike[str]) -> str:
    """Return the backend that writes a file of this suffix: .html is Bokeh; .png, .svg and .pdf are Matplotlib."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise unknown("suffix of a picture", suffix, SUFFIXES)
    return SUFFIXES[suffix]


def save(element: Any, path: str | os.PathLike[str]) -> Path:
    """Write a picture to a file: .html (interactive, works offline), .png, .svg or .pdf.

    Parameters
    ----------
    element
        A picture made for the backend of the suffix (:func:`backend_of`).

    Returns
    -------
    Path
        The file.
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
