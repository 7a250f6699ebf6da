"""Views of several runs: the opened layer in each of them, and the parameters of two of them side by side."""

from __future__ import annotations

import dataclasses

import numpy as np
from bokeh.models import FixedTicker, Range1d

from lcakit.plot._colours import neutral_cmap
from lcakit.plot._tiles import tiles_of
from lcakit.views.explorer import figures, tensors, text
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.names import safe, shown
from lcakit.views.explorer.overlaid import MEAN, Overlay, curves_of
from lcakit.views.explorer.runs import Series
from lcakit.views.explorer.selection import MOVEMENT, QUANTITIES, SIGNED, WEIGHT, Selection
from lcakit.views.explorer.views import View, limit_of, palette

__all__ = ["PairView", "RunsView", "layer_curves", "pair"]


def __dir__() -> list[str]:
    return __all__


_Three = tuple[np.ndarray, np.ndarray, np.ndarray]


def layer_curves(model: Model, selection: Selection) -> dict[str, Series]:
    """Return iterations of the span and the running sum over it of the opened layer's LCA, in each run that has it.

    Raises
    ------
    ValueError
        If no class or no configuration is chosen.
    """
    text.require_choice(model, selection, layers=False)
    chosen = model.runs.chosen(selection.configurations)
    if not chosen:
        raise ValueError("Choose at least one configuration.")
    first, last = (int(model.iterations[n]) for n in selection.window)
    runs = [run for members in chosen.values() for run in members]
    out = {}
    found = model.runs.layer_curves(selection.source[1], selection.layer, selection.classes, selection.role)
    for run, (labels, lca) in found.items():
        inside = (labels >= first) & (labels <= last)
        if run in runs and inside.any():
            out[run] = labels[inside], np.cumsum(lca[inside])
    return out


class RunsView(View):
    """The running sum of the opened layer's LCA in every run, or the mean and interval of each configuration."""

    title, key = "The layer in every run", "runs"
    fields = frozenset({"window", "iteration", "layer", "classes", "role", "configurations", "overlay"})

    def __init__(self, x_range: Range1d) -> None:
        self.figure = figures.over_time(300, x_range, "iteration")
        self.overlay = Overlay(self.figure)
        figures.legend_beside(self.figure)
        self.marker = figures.marker(self.figure)
        self._said = ""
        super().__init__([self.figure])

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        self.marker.location = int(model.iterations[selection.iteration])
        if changed - {"iteration"} or not self._said:
            self._said = self._show(model, selection)
        return self._said

    def _show(self, model: Model, selection: Selection) -> str:
        found = layer_curves(model, selection)
        groups = model.runs.chosen(selection.configurations)
        drawn = curves_of(found, groups, selection.overlay, model.runs.colours)
        self.overlay.show(drawn)
        self.figure.yaxis.axis_label = f"LCA, running sum ({model.unit})"
        missing = sum(map(len, groups.values())) - len(found)
        left = f" {missing} run{'s' * (missing != 1)} without this layer, class or unit left out." if missing else ""
        shaded = ", with 95 % intervals of the mean" if selection.overlay == MEAN else ""
        what = ", ".join(part for part in (safe(selection.layer), text.of_classes(model, selection)) if part)
        return (
            f"LCA of {what} summed from the start of the span{shaded}: over {text.span(model, selection.window)} "
            f"{text.means(drawn, model.unit)}.{left}"
        )


# ---- two runs --------------------------------------------------------------------------------------------------


def pair(model: Model, selection: Selection) -> tuple[tensors.Tensor, _Three]:
    """Return the tensor of the opened layer, and its values in the chosen run, in the other, and their difference.

    Raises
    ------
    ValueError
        If there is no other run, or it lacks the iterations, the layer, the tensor, or the classes.
    TrajectoryError
        If a file does not hold the quantity for single parameters.
    """
    if not selection.other:
        raise ValueError('Choose a run in "Run beside it" to see its parameters beside those of this run.')
    if selection.other == selection.source[0]:
        raise ValueError("The run beside it is the same run: choose another.")
    tensors.require(model, selection.quantity)
    other = model.runs.get(selection.other, selection.source[1])
    there = _in(other, model, selection)
    tensor, theirs = (tensors.tensor_of(one, selection.layer, selection.role) for one in (model, other))
    shapes = [tiles_of(one.ds, part.row).places.shape for one, part in ((model, tensor), (other, theirs))]
    if tensor.name != theirs.name or shapes[0] != shapes[1]:
        raise ValueError(f"{tensor.name} of this run and {theirs.name} of {selection.other} are not of one shape.")
    if selection.quantity in SIGNED and model.class_rows(selection.classes) is not None and not other.by_class:
        raise ValueError(f"{selection.other} has no LCA of single parameters by {text.kind(model)}.")
    ours, others = tensors.values(model, tensor, selection), tensors.values(other, theirs, there)
    return tensor, (ours, others, ours - others)


def _in(other: Model, model: Model, selection: Selection) -> Selection:
    """Return the same selection at the positions of another run."""
    labels = [int(model.iterations[n]) for n in (selection.iteration, *selection.window)]
    if selection.layer not in other.layers:
        raise ValueError(f"{selection.other} has no layer {selection.layer}: it is another network.")
    missing = [label for label in labels if label not in other.iterations]
    if missing:
        raise ValueError(f"{selection.other} has no iteration {missing[0]}: choose a span that both runs have.")
    if other.unit != model.unit:
        raise ValueError(f"{selection.other} has its loss in {other.unit}, this run in {model.unit}.")
    if not set(selection.classes) <= set(other.classes):
        raise ValueError(f"{selection.other} has other {text.kind(model, many=True)}.")
    at, first, last = (figures.iteration_at(other.iterations, label) for label in labels)
    return dataclasses.replace(selection, iteration=at, window=(first, last))


class PairView(View):
    """The parameters of the opened layer in two runs on one colour scale, and their difference."""

    title, key = "Two runs", "pair"
    fields = frozenset({"window", "iteration", "whole", "layer", "role", "quantity", "colours", "classes", "other"})

    def __init__(self) -> None:
        self.x_range, self.y_range = figures.axis_range(), figures.axis_range()
        figs = [figures.plain(280, x_range=self.x_range, y_range=self.y_range) for _ in range(3)]
        self.heats = [figures.Heat(fig) for fig in figs]
        for fig in figs:
            fig.xaxis[0].ticker = FixedTicker(ticks=[])
            fig.xaxis.major_label_text_font_size = "8pt"
        super().__init__(figs, beside=True)

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        tensor, found = pair(model, selection)
        tiles = tiles_of(model.ds, tensor.row)
        limit = limit_of(np.concatenate(found[:2]))
        limits = limit, limit, limit_of(found[2])
        rows, columns = tiles.places.shape
        self.x_range.update(start=0, end=columns)
        named = selection.source[0], selection.other, "difference"
        unit = "" if selection.quantity in (MOVEMENT, WEIGHT) else model.unit
        for heat, values, end, name in zip(self.heats, found, limits, named, strict=True):
            colours = neutral_cmap() if name == "difference" else palette(selection, selection.quantity)
            heat.unit, heat.figure.xaxis.axis_label = unit, shown(name, 40)
            heat.show(tensors.picture(tiles, values), 0, columns, colours, end)
            figures.set_ticks(heat.figure.yaxis[0], {rows - place - 0.5: text for place, text in tiles.ticks[1]})
        return self._sentence(model, selection, tensor, found)

    def _sentence(self, model: Model, selection: Selection, tensor: tensors.Tensor, found: _Three) -> str:
        unit = "" if selection.quantity in (MOVEMENT, WEIGHT) else f" {safe(model.unit)}"
        ours, others, difference = found
        what = f"{QUANTITIES[selection.quantity]} of {safe(tensor.name)}, {text.when(model, selection)}"
        if selection.quantity in SIGNED:
            numbers = f"together <b>{text.number(ours.sum())}</b> and <b>{text.number(others.sum())}{unit}</b>, "
        else:
            numbers = ""
        largest = text.plain_number(float(np.abs(difference).max()))
        classes = text.by_parameter(model, selection) if selection.quantity in SIGNED else ""
        return (
            f"{what}, in {safe(selection.source[0])} and in {safe(selection.other)}, on one scale of colours: {numbers}"
            f"the largest difference is {largest}{unit} (right: first minus second).{classes}"
        )
