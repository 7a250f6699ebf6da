"""Views of one unit and of one parameter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from bokeh.models import ColumnDataSource, Range1d

from lcakit.plot._colours import dash_of
from lcakit.plot._tiles import grid, near_square
from lcakit.trajectory.class_kind import CLASS, class_kind
from lcakit.views.explorer import figures, tensors, text
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.names import safe, shown
from lcakit.views.explorer.selection import ALL, GRADIENT, LCA, MOVEMENT, Selection
from lcakit.views.explorer.views import View, limit_of, palette, window_slice

__all__ = ["ParameterView", "SaliencyView", "UnitView", "as_picture"]


def __dir__() -> list[str]:
    return __all__


class UnitView(View):
    """How one unit changed the loss of each class, and what it learned from each of its inputs."""

    title, key = "Unit", "unit"
    fields = frozenset({"window", "layer", "unit", "classes", "role"})

    def __init__(self, x_range: Range1d) -> None:
        self.curves = figures.over_time(330, x_range, "iteration")
        self.source = ColumnDataSource({"xs": [], "ys": [], "name": [], "color": [], "dash": []})
        look = {"color": "color", "line_dash": "dash", "line_width": 2, "legend_field": "name"}
        lines = self.curves.multi_line("xs", "ys", source=self.source, **look)
        self.hover = figures.hover([(CLASS, "@name")], [lines])
        self.curves.add_tools(self.hover)
        figures.legend_beside(self.curves)
        super().__init__([self.curves])

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        text.require_choice(model, selection, layers=False)
        found = model.class_curves(selection.layer, selection.unit, selection.role)
        split = bool(model.classes) and found.shape[1] == len(model.classes)
        names = selection.classes if split else (f"unit {selection.unit}",)
        chosen = [model.classes.index(name) for name in names] if split else [0]
        self.hover.tooltips = [(shown(class_kind(model.ds)), "@name")]
        rows = window_slice(selection)
        colours = figures.colours_of(chosen, model.classes) if split else list(figures.LINES[:1])
        self._lines(model.iterations[rows], names, found[rows][:, chosen], colours, model.unit)
        change = found[rows.stop - 1, chosen] - (found[rows.start - 1, chosen] if rows.start else 0)
        return self._sentence(model, selection, names if split else (), change)

    def _lines(self, x: np.ndarray, names: tuple[str, ...], columns: np.ndarray, colours: list[str], unit: str) -> None:
        shown, columns, colours = figures.strongest_lines(names, columns, colours)
        lines = {"xs": [x] * len(shown), "ys": list(columns.T), "name": shown, "color": colours}
        self.source.data = lines | {"dash": [dash_of(one) for one in colours]}
        self.curves.yaxis.axis_label = f"cumulative LCA ({unit})"

    def _sentence(self, model: Model, selection: Selection, names: tuple[str, ...], change: np.ndarray) -> str:
        best, unit = int(np.argmin(change)), safe(model.unit)
        kind, many = text.kind(model), text.kind(model, many=True)
        helped = names and change[best] < 0
        of = f" ({text.join_names(names, model.classes, many)})" if names else ""
        of += f" (role {safe(selection.role)}{'' if names else f' in all {many}'})" if selection.role != ALL else ""
        most = f", {text.number(change[best])} for {kind} {safe(names[best])}, which it helps most" if helped else ""
        return (
            f"unit {selection.unit} of {safe(selection.layer)}: cumulative LCA{f' by {kind}' * bool(names)}, "
            "falling where it helps; in "
            f"{text.span(model, selection.window)} its LCA{of} is <b>{text.number(change.sum())} {unit}</b>{most}."
        )


_HIGH, _BAR = 315, 85
"""Height of a picture of inputs, and what its colour bar takes beside it, in pixels."""


class SaliencyView(View):
    """Minus the LCA of the weights of a unit, in the shape of its input."""

    title, key = "Saliency", "saliency"
    fields = frozenset({"window", "layer", "unit", "colours", "classes"})

    def __init__(self) -> None:
        fig = figures.plain(330, x_range=figures.axis_range(), y_range=figures.axis_range())
        fig.axis.visible = False
        self.heat = figures.Heat(fig)
        self._said = ""
        super().__init__([fig])

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        if not model.has("lca"):
            raise ValueError("This file holds no LCA of single weights, so a unit has no picture of its inputs.")
        if model.by_class:
            text.require_class(model, selection)
        if changed - {"classes"} or model.by_class:
            self._said = self._show(model, selection)
        return f"{self._said}{text.all_classes(model, selection)}.{text.by_parameter(model, selection)}"

    def _show(self, model: Model, selection: Selection) -> str:
        image, shape = as_picture(model.saliency(selection.layer, selection.unit, selection.window, selection.classes))
        limit = limit_of(image)
        rows, columns = image.shape
        self.heat.figure.max_width = round(max(0.25, columns / rows) * _HIGH) + _BAR  # inputs are square
        self.heat.figure.x_range.update(start=0, end=image.shape[1])
        self.heat.unit = model.unit
        self.heat.show(image, 0, image.shape[1], palette(selection)[::-1], limit)
        return (
            f"minus the sum of LCA of each weight of unit {selection.unit} of {safe(selection.layer)}, "
            f"{text.span(model, selection.window)}, {shape}: positive where the weight helped, together "
            f"<b>{text.number(float(np.nansum(image)))} {safe(model.unit)}</b>"
        )


def as_picture(image: xr.DataArray) -> tuple[np.ndarray, str]:
    """Return an image as rows and columns, with its channels as tiles, and its shape in words."""
    values: Any = image.values
    if values.shape[0] == 1 and values.ndim == 2:
        return _wrapped(values[0]), f"{values.size} inputs, row by row"
    size = values.shape[-2:] if values.ndim > 1 else (1, values.size)
    channels = values.reshape(-1, *size)
    rows, columns = near_square(len(channels))
    placed = np.full((rows * columns, *size), np.nan)
    placed[: len(channels)] = channels
    words = " × ".join(str(n) for n in image.shape)
    return grid(placed.reshape(rows, columns, *size), np.nan), f"{words} inputs"


def _wrapped(row: np.ndarray) -> np.ndarray:
    width = math.ceil(math.sqrt(row.size))
    out = np.full(width * math.ceil(row.size / width), np.nan)
    out[: row.size] = row
    return out.reshape(-1, width)


class ParameterView(View):
    """Movement, gradient and LCA of one parameter in each iteration."""

    title, key = "Parameter", "parameter"
    fields = frozenset({"window", "iteration", "parameter", "classes"})
    kinds = (MOVEMENT, GRADIENT, LCA)

    def __init__(self, x_range: Range1d) -> None:
        self.parts = [figures.over_time(190, x_range, "iteration") for _ in self.kinds]
        self.sources = [ColumnDataSource({"x": [], "y": []}) for _ in self.kinds]
        self.markers = [figures.marker(fig) for fig in self.parts]
        for kind, fig, source, color in zip(self.kinds, self.parts, self.sources, figures.LINES, strict=False):
            line = fig.line("x", "y", source=source, color=color, line_width=1.5)
            fig.add_tools(figures.hover([("iteration", "@x{0}"), (kind, "@y{%.4g}")], [line], mode="vline"))
        super().__init__(self.parts, beside=True)

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        if selection.parameter is None:
            raise ValueError("This file holds nothing of single parameters; it may be a compact copy.")
        rows, at = window_slice(selection), selection.iteration
        if model.by_class:
            text.require_class(model, selection)
        found = tensors.series(model, selection.parameter, selection.classes)
        parts = []
        for kind, fig, source, line in zip(self.kinds, self.parts, self.sources, self.markers, strict=True):
            line.location = int(model.iterations[at])
            y = found.get(kind)
            unit = "" if kind == MOVEMENT else f" {model.unit}"
            if changed - {"iteration", "classes"} or (model.by_class and kind == LCA):
                there = np.full(model.iterations.size, np.nan) if y is None else y
                source.data = {"x": model.iterations[rows], "y": there[rows]}
                name = "LCA" if kind == LCA else kind
                fig.yaxis.axis_label = f"{name}{f' ({model.unit})' if unit else ''}"
            if y is not None:
                parts.append(f"{'LCA' if kind == LCA else kind} <b>{text.number(y[at])}{safe(unit)}</b>")
        name = safe(tensors.name_of(model.ds, selection.parameter))
        total = ""
        if LCA in found:
            total = f"; sum of LCA in the span {text.number(found[LCA][rows].sum())} {safe(model.unit)}"
            total += text.all_classes(model, selection)
        classes = text.by_parameter(model, selection)
        return f"{name} at {text.at(model, selection)}: {', '.join(parts)}{total}.{classes}"
