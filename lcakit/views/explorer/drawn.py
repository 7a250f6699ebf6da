"""What a view shows as a picture for print: drawn from its numbers, with the marks of ``lk.plot``."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from lcakit.plot._images import image, lca_map
from lcakit.plot._style import band, beside, key, label, level, line, load, picture, size
from lcakit.plot._tiles import tiles_of
from lcakit.plot.parameters import tile_image
from lcakit.text import capitalized
from lcakit.views.explorer import figures, taken, taken_images, taken_runs, tensors, text
from lcakit.views.explorer.details import as_picture
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.over_time import quantity_over_time
from lcakit.views.explorer.selection import CUMULATIVE, LCA, QUANTITIES, SIGNED, Selection

__all__ = ["draw", "title_of"]


def __dir__() -> list[str]:
    return __all__


_ITERATION = "iteration"
_Numbers = xr.DataArray | xr.Dataset


def draw(model: Model, selection: Selection, view: str, backend: str) -> Any:
    """Return what a view shows as a HoloViews picture for ``"matplotlib"`` or ``"bokeh"``.

    Raises
    ------
    ValueError
        For another view, or where nothing is chosen that it could show.
    TrajectoryError
        If the file does not hold what the view shows.
    """
    numbers = taken.data(model, selection, view)
    load(backend)
    if view in taken.OF_RUNS:
        drawn = taken_runs.draw_runs if view == "runs" else taken_runs.draw_pair
        return drawn(backend, model, selection, title_of(model, selection, view))
    if view in taken.OF_IMAGES:
        return taken_images.draw_images(backend, model, selection, title_of(model, selection, view))
    return _DRAWN[view](backend, model, selection, numbers)


def title_of(model: Model, selection: Selection, view: str) -> str:
    """Return what a picture shows in one line: quantity, layer, classes, iterations."""
    quantity = QUANTITIES[quantity_over_time(selection)]
    classes, over = text.of_classes(model, selection), text.span(model, selection.window)
    unit = f"unit {selection.unit} of {selection.layer}"
    parameter = "" if selection.parameter is None else tensors.name_of(model.ds, selection.parameter)
    words = {
        "loss": ["loss", taken.classes_of(model, selection, "loss")],
        "units": [f"{quantity} of the units of {selection.layer}", classes, over],
        "parameters": [
            f"{tensors.meaning(selection.quantity, selection.whole)}, {selection.layer}",
            taken.classes_of(model, selection, view),
            text.when(model, selection),
        ],
        "runs": [f"LCA of {selection.layer}, running sum", classes, over],
        "pair": [QUANTITIES[selection.quantity], taken.classes_of(model, selection, view), text.when(model, selection)],
        "saliency": [f"what {unit} learned from", taken.classes_of(model, selection, view), over],
        "unit": [f"{unit}, cumulative LCA", classes, over],
        "parameter": [parameter, over],
        "images": [f"images that {unit} answers to most", text.at(model, selection)],
    }
    parts = words.get(view, [f"{quantity} of {text.of_what(model, selection)}", over])
    whole = html.unescape(", ".join(part for part in parts if part))
    return whole if view == "parameter" else capitalized(whole)


def _named(array: xr.DataArray, name: str) -> str:
    return label(array.assign_attrs(long_name=name))


# ---- over time -------------------------------------------------------------------------------------------------


def _loss(backend: str, model: Model, selection: Selection, numbers: Any) -> Any:
    axes = "snapshot", _named(numbers, "loss")
    marks = [line(backend, numbers["snapshot"].values, numbers.values, axes, "", figures.LINES[0])]
    return picture(backend, marks, axes, title_of(model, selection, "loss"), legend=None)


def _layers(backend: str, model: Model, selection: Selection, numbers: Any) -> Any:
    """Return the layers as steps on top of each other, as wide as an iteration: helping below zero, hurting above."""
    axes = _ITERATION, _named(numbers, QUANTITIES[quantity_over_time(selection)])
    places = [model.layers.index(name) for name in selection.layers]
    own = figures.colours_of(places, model.layers)
    names, columns, colours = figures.strongest_lines(selection.layers, numbers.values, own)
    edges, steps = figures.steps(numbers[_ITERATION].values, model.ends(selection.window)[1])
    lower, upper = (part[steps] for part in figures.stacked(columns))
    marks = [level(backend, 0)]
    for n, (name, colour) in enumerate(zip(names, colours, strict=True)):
        marks.append(band(backend, edges, lower[:, n], upper[:, n], axes, colour, 0.85))
        marks.append(key(backend, axes, name, colour))
    return picture(backend, marks, axes, title_of(model, selection, "layers"))


def _map_of(view: str, rows: str) -> Callable[..., Any]:
    def drawn(backend: str, model: Model, selection: Selection, numbers: Any) -> Any:
        named = numbers.assign_attrs(numbers.attrs | {"long_name": QUANTITIES[quantity_over_time(selection)]})
        return lca_map(backend, named, _ITERATION, rows, title_of(model, selection, view))

    return drawn


def _unit(backend: str, model: Model, selection: Selection, numbers: Any) -> Any:
    axes = _ITERATION, _named(numbers, QUANTITIES[CUMULATIVE])
    split = "class" in numbers.dims
    names = [str(name) for name in numbers["class"].values] if split else [f"unit {selection.unit}"]
    columns = numbers.values.reshape(numbers.sizes[_ITERATION], -1)
    places = [model.classes.index(name) for name in names] if split else [0]
    colours = figures.colours_of(places, model.classes or names)
    names, columns, colours = figures.strongest_lines(names, columns, colours)
    x = numbers[_ITERATION].values
    marks: list[Any] = [level(backend, 0)]
    for name, column, colour in zip(names, columns.T, colours, strict=True):
        marks.append(line(backend, x, column, axes, name, colour))
    return picture(backend, marks, axes, title_of(model, selection, "unit"), legend="right" if split else None)


def _parameter(backend: str, model: Model, selection: Selection, numbers: Any) -> Any:
    parts: list[Any] = []
    for (name, array), colour in zip(numbers.data_vars.items(), figures.LINES, strict=False):
        axes = _ITERATION, _named(array, "LCA" if name == LCA else str(name))
        marks = [level(backend, 0), line(backend, array[_ITERATION].values, array.values, axes, "", colour)]
        title = "" if parts else title_of(model, selection, "parameter")
        parts.append(picture(backend, marks, axes, title, legend=None))
    return beside(backend, parts)


# ---- parameters ------------------------------------------------------------------------------------------------


def _parameters(backend: str, model: Model, selection: Selection, numbers: Any) -> Any:
    tensor = tensors.tensor_of(model, selection.layer, selection.role)
    named = numbers.assign_attrs(numbers.attrs | {"long_name": QUANTITIES[selection.quantity]})
    helps, title = selection.quantity in SIGNED, title_of(model, selection, "parameters")
    return tile_image(backend, tiles_of(model.ds, tensor.row), named, title, helps, None)


def _saliency(backend: str, model: Model, selection: Selection, numbers: Any) -> Any:
    cells, _ = as_picture(numbers)
    rows, columns = cells.shape
    look: dict[str, Any] = {"xticks": [(-1.0, "")], "yticks": [(-1.0, "")]}
    look |= size(backend, int(np.clip(470 * rows / columns + 90, 220, 640)))
    name = _named(numbers, "minus the sum of LCA")
    ends = -0.5, -0.5, columns - 0.5, rows - 0.5
    title = title_of(model, selection, "saliency")
    return image(backend, [cells], ends, ("input", "input, downward"), [name], title, reverse=True, **look)


_DRAWN: dict[str, Callable[..., Any]] = {
    "loss": _loss,
    "layers": _layers,
    "layer_map": _map_of("layer_map", "layer"),
    "units": _map_of("units", "unit"),
    "parameters": _parameters,
    "saliency": _saliency,
    "unit": _unit,
    "parameter": _parameter,
}
