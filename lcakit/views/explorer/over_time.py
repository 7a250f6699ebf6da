"""Views over the whole network in the course of training: the loss, and the LCA of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, Range1d

from lcakit.plot._colours import dash_of
from lcakit.views.explorer import figures, text
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.names import safe
from lcakit.views.explorer.overlaid import MEAN, Curve, Overlay, curves_of
from lcakit.views.explorer.runs import Models
from lcakit.views.explorer.selection import CUMULATIVE, QUANTITIES, Selection
from lcakit.views.explorer.views import View, limit_of, palette, window_slice

__all__ = ["LayerMapView", "LayersView", "LossView", "quantity_over_time", "running"]


def __dir__() -> list[str]:
    return __all__


_Chosen = Callable[[float, float], None]


def quantity_over_time(selection: Selection) -> str:
    """Return what layers and units show over time: LCA, or its running sum where that is chosen."""
    return CUMULATIVE if selection.quantity == CUMULATIVE else "lca"


def running(columns: np.ndarray, selection: Selection) -> np.ndarray:
    """Return LCA (time, …) or its running sum from the first iteration on."""
    return columns.cumsum(0) if quantity_over_time(selection) == CUMULATIVE else columns


class LossView(View):
    """The loss over the whole run, and below it the residual of each iteration; dragging selects a span."""

    title, key = "Loss", "loss"
    fields = frozenset({"window", "iteration", "classes", "configurations", "overlay"})

    def __init__(self, chosen: _Chosen, runs: Models) -> None:
        self.x_range, self._runs = figures.axis_range(), runs
        self.loss = figures.over_time(180, self.x_range, y_label="loss")
        self.residual = figures.over_time(120, self.x_range, "iteration", "residual")
        self.loss.xaxis.major_label_text_font_size = "0pt"
        self.curve = ColumnDataSource({"x": [], "y": []})
        self.error = ColumnDataSource({"x": [], "y": []})
        self.overlay, self._drawn = Overlay(self.loss, 1) if len(runs.runs) > 1 else None, list[Curve]()
        if self.overlay is not None:
            figures.legend_inside(self.loss)
        line = self.loss.line("x", "y", source=self.curve, line_width=2, color=figures.LINES[0])
        self.glyph = line.glyph
        self.residual.line("x", "y", source=self.error, line_width=1.5, color=figures.LINES[1])
        self.loss.add_tools(figures.hover([("snapshot", "@x{0}"), ("loss", "@y{%.5g}")], [line], mode="vline"))
        both = (self.loss, self.residual)
        self.markers = [figures.marker(fig) for fig in both]
        self.shades = [figures.span_tool(fig, chosen) for fig in both]
        for fig in both:
            fig.min_border_left = 70
        super().__init__(both)

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        if changed & {"source", "classes", "configurations", "overlay"}:
            self._load(model, self._part(model, selection))
            self._load_others(selection)
        left, right = model.ends(selection.window)
        t = int(model.iterations[selection.iteration])
        for line, shade in zip(self.markers, self.shades, strict=True):
            line.location = t
            shade.update(left=left, right=right)
        return self._sentence(model, selection)

    def _part(self, model: Model, selection: Selection) -> np.ndarray | None:
        """Return the loss of the chosen classes; None if all are chosen, or the file does not hold it."""
        if not model.classes or set(selection.classes) == set(model.classes):
            return None
        text.require_class(model, selection)
        return model.class_loss(selection.classes)

    def _load(self, model: Model, part: np.ndarray | None) -> None:
        snapshots = model.ds["snapshot"].values
        self.x_range.update(start=float(snapshots[0]), end=float(snapshots[-1]))
        for base, source, x in (("loss", self.curve, snapshots), ("residual", self.error, model.iterations)):
            there = model.has(base)
            y = model.over_time(base) if there else np.full(x.size, np.nan)
            y = part if base == "loss" and part is not None else y
            source.data = {"x": x, "y": np.asarray(y, np.float64)}
        self.loss.yaxis.axis_label = f"loss ({model.unit})"
        self.residual.yaxis.axis_label = f"residual ({model.unit})"

    def _load_others(self, selection: Selection) -> None:
        """Lay the losses of other runs over it, or those of configurations."""
        if self.overlay is None:
            return
        run, objective = selection.source
        colour = self._runs.colours[run]
        self.glyph.update(line_color=colour, line_dash=dash_of(colour))
        found, groups = self._runs.losses(objective, selection.classes), self._runs.chosen(selection.configurations)
        drawn = curves_of(found, groups, selection.overlay, self._runs.colours)
        self._drawn = [one for one in drawn if one.name != run or selection.overlay == MEAN]
        self.overlay.show(self._drawn)

    def _of_others(self, model: Model, selection: Selection) -> str:
        """Return what is said of other runs."""
        if self.overlay is None:
            return ""
        if selection.overlay == MEAN:
            return f" Shaded: {text.means(self._drawn, model.unit)} at the end."
        several = sum(map(len, self._runs.chosen(selection.configurations).values()))
        several -= any(selection.source[0] in runs for runs in self._runs.chosen(selection.configurations).values())
        others = f"other units or {text.kind(model, many=True)}, or too many"
        drawn = len(self._drawn)
        left = f"; of the other {several - drawn} it is not drawn ({others})"
        return f" Thin: {drawn} other run{'s' * (drawn != 1)}{left if drawn < several else ''}."

    def _sentence(self, model: Model, selection: Selection) -> str:
        if not model.has("loss"):
            return "This file holds no loss."
        t, unit = selection.iteration, safe(model.unit)
        loss = self.curve.data["y"]
        words = (
            f"on the full set{self._classes(model, selection)}: "
            f"<b>{text.plain_number(loss[t])} {unit}</b> before {text.at(model, selection)}, "
            f"change in it <b>{text.number(loss[t + 1] - loss[t])} {unit}</b>"
        )
        if model.has("residual"):
            inside = np.abs(self.error.data["y"][window_slice(selection)])
            words += f"; below, sum of LCA minus change: at most {text.plain_number(inside.max())} {unit} in the span"
        return f"{words}.{self._of_others(model, selection)} Drag to select a span."

    def _classes(self, model: Model, selection: Selection) -> str:
        """Return which classes the curve is of, as text."""
        if not model.classes or set(selection.classes) == set(model.classes):
            return ""
        many = text.kind(model, many=True)
        if model.has("loss_class"):
            return f", part of {text.join_names(selection.classes, model.classes, many)}"
        return f", all {many} (the file has no loss by {text.kind(model)}: record with {many})"


class LayersView(View):
    """LCA of each layer, stacked: helping below zero, hurting above."""

    title, key = "Layers", "layers"
    fields = frozenset({"window", "iteration", "layers", "classes", "role", "quantity"})

    def __init__(self, x_range: Range1d, chosen: _Chosen) -> None:
        self.figure = figures.over_time(300, x_range, "iteration")
        self.source = ColumnDataSource({"xs": [], "ys": [], "name": [], "color": []})
        areas = self.figure.patches(
            "xs", "ys", source=self.source, color="color", alpha=0.85, line_width=0.5, legend_field="name"
        )
        self.figure.add_tools(figures.hover([("layer", "@name")], [areas]))
        figures.legend_beside(self.figure)
        self.marker = figures.marker(self.figure)
        self.shade = figures.span_tool(self.figure, chosen)
        self.shade.visible = False
        super().__init__([self.figure])

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        self.marker.location = int(model.iterations[selection.iteration])
        columns = _chosen_sums(model, selection)
        rows = window_slice(selection)
        quantity = QUANTITIES[quantity_over_time(selection)]
        if changed != {"iteration"}:
            self._stack(model, model.iterations[rows], columns[rows], selection)
            self.figure.yaxis.axis_label = f"{quantity} ({model.unit})"
        together = columns[selection.iteration].sum()
        return (
            f"{quantity} of {text.of_what(model, selection)}, stacked, helping below zero: at "
            f"{text.at(model, selection)} together <b>{text.number(together)} {safe(model.unit)}</b>."
        )

    def _stack(self, model: Model, x: np.ndarray, columns: np.ndarray, selection: Selection) -> None:
        places = [model.layers.index(name) for name in selection.layers]
        own = figures.colours_of(places, model.layers)
        names, columns, colours = figures.strongest_lines(selection.layers, columns, own)
        corners, steps = figures.steps(x, model.ends(selection.window)[1])
        lower, upper = (part[steps] for part in figures.stacked(columns))
        edge = np.concatenate([corners, corners[::-1]])
        ys = [np.concatenate([lower[:, n], upper[::-1, n]]) for n in range(len(names))]
        self.source.data = {"xs": [edge] * len(names), "ys": ys, "name": names, "color": colours}


class LayerMapView(View):
    """LCA of each layer in each iteration, as a heat map; a tap opens the layer at that iteration."""

    title, key = "Layer × iteration", "layer_map"
    fields = frozenset({"window", "iteration", "layers", "classes", "role", "quantity", "colours", "layer"})

    def __init__(self, x_range: Range1d, tapped: Callable[[str, int], None]) -> None:
        fig = figures.plain(300, x_range=x_range, y_range=figures.axis_range())
        fig.xaxis.axis_label = "iteration"
        self.heat = figures.Heat(fig)
        self.marker = figures.marker(fig)
        self._shown: tuple[tuple[str, ...], np.ndarray] = ((), np.zeros(1))
        self._tapped = tapped
        fig.on_event("tap", lambda event: self._tap(event.x, event.y))
        super().__init__([fig])

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        self.marker.location = int(model.iterations[selection.iteration])
        self._shown = (selection.layers, model.iterations)
        columns = _chosen_sums(model, selection)
        rows = window_slice(selection)
        limit = limit_of(columns[rows], 98)
        if changed - {"iteration", "layer"}:
            colours = palette(selection)
            end = model.ends(selection.window)[1]
            self.heat.unit = model.unit
            self.heat.show_over_time(columns[rows], model.iterations[rows], end, colours, limit)
            self.heat.name_rows(selection.layers)
        opened = self._value(model, selection, columns)
        return (
            f"{QUANTITIES[quantity_over_time(selection)]} of each layer: {opened}. Colours end at "
            f"±{text.plain_number(limit)} {safe(model.unit)} (98th percentile). Tap a layer to open it."
        )

    def _value(self, model: Model, selection: Selection, columns: np.ndarray) -> str:
        if selection.layer not in selection.layers:
            return f"{safe(selection.layer)} is open, but not among the layers shown"
        value = columns[selection.iteration, selection.layers.index(selection.layer)]
        return f"{safe(selection.layer)} at {text.at(model, selection)} <b>{text.number(value)} {safe(model.unit)}</b>"

    def _tap(self, x: Any, y: Any) -> None:
        layers, labels = self._shown
        row = figures.row_at(y, len(layers))
        if row is not None:
            self._tapped(layers[row], figures.iteration_at(labels, x))


def _chosen_sums(model: Model, selection: Selection) -> np.ndarray:
    """Return LCA (iteration, layer) of the selected layers, or its running sum.

    Raises
    ------
    ValueError
        If no layer or no class is selected, or the file holds no LCA.
    """
    text.require_choice(model, selection)
    sums = model.layer_sums(selection.classes, selection.role)
    return running(sums[:, [model.layers.index(name) for name in selection.layers]], selection)
