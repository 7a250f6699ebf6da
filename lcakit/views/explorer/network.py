"""Views into a layer: its units over time, and its parameters at an iteration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bokeh.models import FixedTicker, Range1d
from bokeh.models.annotations import BoxAnnotation

from lcakit.plot._colours import GUIDE
from lcakit.plot._tiles import Tiles, tiles_of
from lcakit.views.explorer import figures, tensors, text
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.names import safe
from lcakit.views.explorer.over_time import quantity_over_time, running
from lcakit.views.explorer.selection import MOVEMENT, QUANTITIES, SIGNED, WEIGHT, Selection
from lcakit.views.explorer.views import View, limit_of, palette, window_slice

__all__ = ["MapView", "UnitsView"]


def __dir__() -> list[str]:
    return __all__


class UnitsView(View):
    """LCA of each unit of the opened layer over time, as a heat map; a tap chooses the unit and the iteration."""

    title, key = "Unit × iteration", "units"
    fields = frozenset({"window", "iteration", "layer", "unit", "classes", "role", "quantity", "colours"})

    def __init__(self, x_range: Range1d, tapped: Callable[[int, int], None]) -> None:
        fig = figures.plain(330, x_range=x_range, y_range=figures.axis_range())
        fig.xaxis.axis_label, fig.yaxis.axis_label = "iteration", "unit"
        self.heat = figures.Heat(fig)
        self.marker = figures.marker(fig)
        self.frame = BoxAnnotation(fill_alpha=0, line_color=GUIDE, line_width=2)
        fig.add_layout(self.frame)
        self._shown: tuple[np.ndarray, np.ndarray] = (np.zeros(0), np.zeros(1))
        self._tapped = tapped
        fig.on_event("tap", lambda event: self._tap(event.x, event.y))
        super().__init__([fig])

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        channels = model.channels(selection.layer)
        self._shown = (channels, model.iterations)
        self.marker.location = int(model.iterations[selection.iteration])
        row = channels.size - 1 - channels.tolist().index(selection.unit)
        self.frame.update(bottom=row, top=row + 1)
        columns = _unit_sums(model, selection)
        rows = window_slice(selection)
        limit = limit_of(columns[rows])
        if changed - {"iteration", "unit"}:
            end = model.ends(selection.window)[1]
            self.heat.unit = model.unit
            self.heat.show_over_time(columns[rows], model.iterations[rows], end, palette(selection), limit)
            self.heat.name_rows([str(n) for n in channels])
        value = columns[selection.iteration, channels.tolist().index(selection.unit)]
        classes = text.of_classes(model, selection)
        units = text.count(channels.size, "unit")
        return (
            f"{QUANTITIES[quantity_over_time(selection)]} of {units} of {safe(selection.layer)}"
            f"{', ' + classes if classes else ''}: unit {selection.unit} at {text.at(model, selection)} "
            f"<b>{text.number(value)} {safe(model.unit)}</b>. "
            f"Colours end at ±{text.plain_number(limit)}. Tap a unit to choose it."
        )

    def _tap(self, x: Any, y: Any) -> None:
        channels, labels = self._shown
        row = figures.row_at(y, channels.size)
        if row is not None:
            self._tapped(int(channels[row]), figures.iteration_at(labels, x))


def _unit_sums(model: Model, selection: Selection) -> np.ndarray:
    """Return LCA (iteration, unit) of the opened layer, or its running sum.

    Raises
    ------
    ValueError
        If no class is selected, or the file holds no LCA.
    """
    text.require_choice(model, selection, layers=False)
    return running(model.unit_series(selection.layer, selection.classes, selection.role), selection)


class MapView(View):
    """Every parameter of the opened layer, at an iteration or over the span; a tap chooses a parameter and its unit."""

    title, key = "Parameters of the layer", "parameters"
    fields = frozenset({"window", "iteration", "whole", "layer", "role", "quantity", "colours", "parameter", "classes"})

    def __init__(self, tapped: Callable[[int], None]) -> None:
        fig = figures.plain(330, x_range=figures.axis_range(), y_range=figures.axis_range())
        self.figure, self.heat = fig, figures.Heat(fig)
        self.cross = fig.scatter(
            [], [], marker="square", size=9, fill_alpha=0, line_color=figures.LINES[0], line_width=2
        )
        fig.xaxis[0].ticker = FixedTicker(ticks=[])
        self._tensor, self._places = tensors.Tensor(0, "", slice(0, 0)), np.zeros((0, 0), int)
        self._tiles: Tiles | None = None
        self._values = np.zeros(0)
        self._tapped = tapped
        fig.on_event("tap", lambda event: self._tap(event.x, event.y))
        super().__init__([fig])

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        tensors.require(model, selection.quantity)
        if model.by_class and selection.quantity in SIGNED:
            text.require_class(model, selection)
        tensor = tensors.tensor_of(model, selection.layer, selection.role)
        if self._tiles is None or tensor != self._tensor:
            self._tiles = self._lay_out(model, tensor)
        limit = float(self.heat.mapper.high or 1)
        if changed - {"parameter", "classes"} or ("classes" in changed and model.by_class):
            self._values = tensors.values(model, tensor, selection)
            limit = limit_of(self._values)
            colours = palette(selection, selection.quantity)
            image = tensors.picture(self._tiles, self._values)
            self.heat.unit = "" if selection.quantity in (MOVEMENT, WEIGHT) else model.unit
            self.heat.show(image, 0, image.shape[1], colours, limit)
        self._mark(selection.parameter)
        return self._sentence(model, selection, limit)

    def _lay_out(self, model: Model, tensor: tensors.Tensor) -> Tiles:
        tiles = tiles_of(model.ds, tensor.row)
        self._tensor, self._places = tensor, tiles.places
        rows, columns = tiles.places.shape
        self.figure.x_range.update(start=0, end=columns)
        self.figure.xaxis.axis_label, self.figure.yaxis.axis_label = (name or None for name in tiles.axes)
        figures.set_ticks(self.figure.xaxis[0], {place + 0.5: name for place, name in tiles.ticks[0]})
        figures.set_ticks(self.figure.yaxis[0], {rows - place - 0.5: name for place, name in tiles.ticks[1]})
        return tiles

    def _mark(self, parameter: int | None) -> None:
        """Frame the parameter that is looked at, if this tensor holds it."""
        place = -2 if parameter is None else parameter - self._tensor.columns.start
        rows, columns = np.nonzero(self._places == place) if place >= 0 else (np.zeros(0), np.zeros(0))
        self.cross.data_source.data = {"x": columns + 0.5, "y": self._places.shape[0] - rows - 0.5}

    def _sentence(self, model: Model, selection: Selection, limit: float) -> str:
        unit = "" if selection.quantity in (MOVEMENT, WEIGHT) else f" {safe(model.unit)}"
        total, classes = "", ""
        if selection.quantity in SIGNED:
            classes = text.by_parameter(model, selection)
            together = text.number(float(self._values.sum()))
            total = f", together <b>{together}{unit}</b>{text.all_classes(model, selection)}"
        tensor = f"{self._values.size:,} parameters of {safe(self._tensor.name)}"
        what = f"{tensors.meaning(selection.quantity, selection.whole)}, {text.when(model, selection)}"
        return (
            f"{what}, of the {tensor}{total}. Colours end at "
            f"±{text.plain_number(limit)}{unit} (99th percentile).{classes} Tap a parameter."
        )

    def _tap(self, x: Any, y: Any) -> None:
        rows, columns = self._places.shape
        if not (0 <= x < columns and 0 <= y < rows):
            return
        place = self._strongest_near(rows - 1 - int(y), int(x))
        if place is not None:
            self._tapped(self._tensor.columns.start + place)

    def _strongest_near(self, row: int, column: int) -> int | None:
        """Return the parameter that a pixel shows: of those under it, the one of largest magnitude."""
        rows, columns = self._places.shape
        block = figures.block_at(rows, figures.MOST_ROWS, row), figures.block_at(columns, figures.MOST_COLUMNS, column)
        under = self._places[block]
        under = under[under >= 0]
        return int(under[np.argmax(np.abs(self._values[under]))]) if under.size else None
