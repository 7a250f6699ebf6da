"""The marks that pictures are made of, with the same options on both backends."""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import holoviews as hv
import numpy as np

from lcakit.errors import unknown
from lcakit.plot._colours import GUIDE, dash_of

MODULES = {"bokeh": "holoviews.plotting.bokeh", "matplotlib": "holoviews.plotting.mpl"}
MOST_CURVES = 5_000
"""Most curves without names in one picture."""

_WORDS = {
    "bokeh": {"width": "line_width", "dash": "line_dash", "size": "size"},
    "matplotlib": {"width": "linewidth", "dash": "linestyle", "size": "s"},
}
_HIDDEN = "\u200b"  # a space without width: between two characters it takes away their special meaning


def load(backend: str) -> None:
    """Load a backend of HoloViews; in a notebook, so that a picture at the end of a cell is drawn. Downloads nothing.

    What ``hv.extension`` does in a notebook has to come before the first picture, which is otherwise printed as text.
    """
    if backend not in MODULES:
        raise unknown("backend", backend, MODULES)
    importlib.import_module(MODULES[backend])
    if backend == "matplotlib":
        _name_boxes()
    if in_notebook():
        _prepare_notebook(backend)
        hv.Store.set_current_backend(backend)  # the picture at the end of a cell is drawn by the one it was made for
    elif hv.Store.current_backend not in hv.Store.loaded_backends():
        hv.Store.set_current_backend(backend)


@functools.cache
def _name_boxes() -> None:
    """Let legends have boxes and bands, which HoloViews makes collections of patches; Matplotlib 3.11 does already."""
    from matplotlib.collections import PatchCollection
    from matplotlib.legend import Legend
    from matplotlib.legend_handler import HandlerPolyCollection

    known = Legend.get_default_handler_map()
    if Legend.get_legend_handler(known, PatchCollection([])) is None:
        known[PatchCollection] = HandlerPolyCollection()


def in_notebook() -> bool:
    """Return whether this code runs in the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return "ipykernel" in sys.modules and ipython is not None and hasattr(ipython.get_ipython(), "kernel")


@functools.cache
def _prepare_notebook(backend: str) -> None:
    """Put the scripts of pictures into the notebook, and show pictures through Panel, which needs no network for them.

    Where the user has called ``hv.extension``, the notebook stays as that has set it.
    """
    if getattr(hv.extension, "_loaded", False) and not _prepare_notebook.cache_info().currsize:
        return
    import panel as pn
    from IPython import get_ipython

    os.environ.setdefault("BOKEH_RESOURCES", "inline")
    pn.extension(inline=True)
    hv.extension(backend, inline=True, logo=False)
    formatter = get_ipython().display_formatter.mimebundle_formatter
    formatter.for_type(hv.core.dimension.Dimensioned, _shown)


def _shown(element: Any, include: Any = None, exclude: Any = None) -> Any:
    """Return what a notebook shows of a picture."""
    if hv.Store.current_backend != "bokeh":
        return element._repr_mimebundle_(include, exclude)
    import panel as pn

    return pn.pane.HoloViews(element)._repr_mimebundle_(include, exclude)


def plain(backend: str, text: Any) -> str:
    """Return a name from a file so that it is drawn literally: no formula, no line break, no format field, no tag.

    Bokeh draws tags as text, but in a notebook Panel writes names into a script of the page, which ``</script>`` in a
    name would end: there ``<`` becomes its look-alike ‹.
    """
    out = " ".join(str(text).split())
    if backend == "matplotlib":
        return out.replace("$", r"\$")
    for sign in ("$$", r"\[", r"\("):
        out = out.replace(sign, sign[0] + _HIDDEN + sign[1])
    return re.sub(r"<(?=[/!?A-Za-z])", "‹", out)


def _drawn(element: Any, backend: str, **words: Any) -> Any:
    named = {_WORDS[backend].get(word, word): value for word, value in words.items()}
    return element.opts(backend=backend, **named)


def _finite(values: Any) -> np.ndarray:
    """Return float64 values with gaps (NaN) in place of infinity, which no axis can show."""
    out = np.asarray(values, np.float64)
    return np.where(np.isfinite(out), out, np.nan)


def _name(backend: str, name: str, axes: tuple[str, str]) -> str:
    """Return the text of a legend entry, made different from the axes: HoloViews would take the same name for data."""
    text = plain(backend, name)
    return text + _HIDDEN if text in axes else text


def line(
    backend: str, x: Any, y: Any, axes: tuple[str, str], name: str, color: str, dash: str = "", width: float = 2
) -> Any:
    """Return a line; ``dash`` is solid, dashed, dotted or dashdot, by default what goes with its colour."""
    element = hv.Curve((np.asarray(x), _finite(y)), axes[0], axes[1], label=_name(backend, name, axes))
    return _drawn(element, backend, color=color, dash=dash or dash_of(color), width=width)


def curves(backend: str, x: Any, ys: np.ndarray, axes: tuple[str, str], color: str, alpha: float = 1.0) -> Any:
    """Return many thin lines over the same ``x`` as one mark without a name: ``ys`` (line, x)."""
    places = np.asarray(x, np.float64)
    element = hv.Path([np.column_stack([places, _finite(row)]) for row in ys], list(axes))
    return _drawn(element, backend, color=color, width=0.8, alpha=alpha)


def dots(
    backend: str, x: Any, y: Any, axes: tuple[str, str], name: str, color: str, marker: str = "o", size: float = 7
) -> Any:
    """Return markers, ``size`` pixels wide."""
    element = hv.Scatter((np.asarray(x), _finite(y)), axes[0], axes[1], label=_name(backend, name, axes))
    area = size if backend == "bokeh" else (0.72 * size) ** 2
    return _drawn(element, backend, color=color, marker=marker, size=area)


def band(
    backend: str,
    x: Any,
    low: Any,
    high: Any,
    axes: tuple[str, str],
    color: str,
    alpha: float = 0.15,
) -> Any:
    """Return a shaded range without a name (:func:`key` has one)."""
    columns = (np.asarray(x), _finite(low), _finite(high))
    element = hv.Area(columns, axes[0], [axes[1], f"{axes[1]}, upper"])
    look = {"color": color, "line_alpha": 0} if backend == "bokeh" else {"facecolor": color, "edgecolor": "none"}
    return _drawn(element, backend, alpha=alpha, **look)


def boxes(
    backend: str,
    edges: Sequence[Any],
    axes: tuple[str, str],
    name: str,
    color: str,
    outline: str | None = None,
    alpha: float = 1.0,
) -> Any:
    """Return rectangles: ``edges`` are their left, bottom, right and top, arrays of one length."""
    columns = tuple(_finite(edge) for edge in edges)
    dimensions = [axes[0], axes[1], f"{axes[0]}, end", f"{axes[1]}, end"]
    element = hv.Rectangles(columns, dimensions, label=_name(backend, name, axes))
    lines = {"line_color": outline or color} if backend == "bokeh" else {"edgecolor": outline or color}
    return _drawn(element, backend, color=color, alpha=alpha, width=0.5, **lines)


def key(backend: str, axes: tuple[str, str], name: str, color: str) -> Any:
    """Return an entry of the legend that draws nothing, for marks that have none on a backend."""
    return boxes(backend, [[np.nan]] * 4, axes, name, color, GUIDE)


def intervals(backend: str, x: Any, middle: Any, low: Any, high: Any, axes: tuple[str, str]) -> Any:
    """Return upright error bars from ``low`` to ``high``; those that are unknown (NaN) are left out."""
    table = np.column_stack([_finite(column) for column in (x, middle, low, high)])
    table = table[np.isfinite(table).all(axis=1)]
    columns = (table[:, 0], table[:, 1], table[:, 1] - table[:, 2], table[:, 3] - table[:, 1])
    element = hv.ErrorBars(columns, axes[0], [axes[1], "below", "above"])
    return _drawn(element, backend, color="#222222", width=1.2) if backend == "bokeh" else _whiskers(element)


def _whiskers(element: Any) -> Any:
    return element.opts(backend="matplotlib", color="#222222", linewidth=1.2, capsize=3)


def upright(backend: str, x: float, color: str = GUIDE, dash: str = "dashed") -> Any:
    """Return a vertical guide."""
    return _drawn(hv.VLine(float(x)), backend, color=color, dash=dash, width=1.2)


def level(backend: str, y: float, color: str = GUIDE, dash: str = "dashed") -> Any:
    """Return a horizontal guide."""
    return _drawn(hv.HLine(float(y)), backend, color=color, dash=dash, width=1.2)
