"""The view of images: those that a unit of the first layer answers to most, and examples of a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker

from lcakit.views.explorer import figures, text
from lcakit.views.explorer.examples import Examples, responses
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.names import safe
from lcakit.views.explorer.selection import Selection
from lcakit.views.explorer.views import View

__all__ = ["Answers", "ImagesView", "answers", "first_weights", "mosaic", "titles"]


def __dir__() -> list[str]:
    return __all__


_MOST = 8


def first_weights(model: Model, selection: Selection, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """Return the weights of the chosen unit at the iteration, as :func:`responses` takes them, and its bias.

    Parameters
    ----------
    shape
        (channel, y, x) of an image.

    Raises
    ------
    ValueError
        If the unit does not get the image itself, or the file does not hold its weights.
    """
    ds = model.ds
    if not model.has("theta"):
        raise ValueError("This file holds no weights, so it is not known what a unit answers to.")
    rows = np.flatnonzero(ds["layer"].values.astype(str) == selection.layer)
    inside = np.isin(ds["layer_index"].values, rows)
    numbers = ds["unit"].values[np.isin(ds["unit_layer"].values, rows)]
    unit = numbers[model.channels(selection.layer) == selection.unit][0]
    roles = ds["tensor_role"].values.astype(str)[ds["tensor_index"].values]
    own = inside & (ds["unit_index"].values == unit)
    kernel, bias = np.flatnonzero(own & (roles == "kernel")), np.flatnonzero(own & (roles == "bias"))
    theta = np.asarray(ds["theta"][selection.iteration].values, np.float64)
    order = np.lexsort((ds["tap_index"].values[kernel], ds["input_index"].values[kernel]))
    weights = theta[kernel[order]]
    tensor = ds["tensor_shape"].values[ds["tensor_index"].values[kernel[0]]] if kernel.size else np.zeros(0)
    sizes = tensor[tensor > 0]
    if sizes.size == 4 and sizes[1] == shape[0] and (sizes[2:] <= shape[1:]).all():
        weights = weights.reshape(*(int(n) for n in sizes[1:]))
    elif sizes.size != 2 or weights.size != np.prod(shape):
        raise ValueError(f"Units of {selection.layer} do not get the images themselves: open the first layer.")
    return weights, float(theta[bias].sum())


@dataclass(frozen=True)
class Answers:
    """What a unit computes of each image, and which images are shown: its best, and examples of a class."""

    responses: np.ndarray
    best: np.ndarray
    cls: str
    some: np.ndarray


def answers(model: Model, selection: Selection, examples: Examples) -> Answers:
    """Return what the chosen unit computes of the images at the iteration.

    Raises
    ------
    ValueError
        If the unit does not get the image itself, or the file does not hold its weights.
    """
    images, names = examples.images, examples.classes
    found = responses(images, *first_weights(model, selection, images.shape[1:]))
    best = np.argsort(-found, kind="stable")[:_MOST]
    cls = _helped(model, selection, names)
    return Answers(found, best, cls, np.flatnonzero(names == cls)[:_MOST])


def _helped(model: Model, selection: Selection, names: np.ndarray) -> str:
    """Return the class, of those chosen and known, that the unit helps most over the run."""
    sums = model.class_curves(selection.layer, selection.unit)[-1]
    if sums.size != len(model.classes):
        return ""
    known = set(names)
    order = [model.classes[n] for n in np.argsort(sums)]
    return next((one for one in order if one in selection.classes and one in known), "")


def titles(model: Model, found: Answers) -> list[str]:
    """Return the names of the two rows of images."""
    return ["answered", f"{text.kind(model)} {found.cls}" if found.cls else ""]


def mosaic(images: np.ndarray, found: Answers) -> np.ndarray:
    """Return the two rows of images as one picture (y, x, colour), the first row on top; each from black to white."""
    high, wide = images.shape[2:]
    canvas = np.zeros((2 * (high + 1), _MOST * (wide + 1), 4), np.uint8)
    for row, chosen in enumerate((found.best, found.some)):
        for column, image in enumerate(images[chosen]):
            shown = np.broadcast_to(np.moveaxis(image, 0, -1), (high, wide, 3))
            low, reach = float(image.min()), float(np.ptp(image)) or 1.0
            place = canvas[row * (high + 1) :, column * (wide + 1) :][:high, :wide]
            place[..., :3], place[..., 3] = 255 * (shown - low) / reach, 255
    return canvas


class ImagesView(View):
    """Two rows of images: the inputs that the unit answers to most, and examples of a class."""

    title, key = "Images", "images"
    fields = frozenset({"layer", "unit", "iteration", "classes"})

    def __init__(self, examples: Examples) -> None:
        self._examples = examples
        self.figure = figures.plain(260, x_range=figures.axis_range(), y_range=figures.axis_range())
        self.figure.grid.visible = self.figure.xaxis[0].visible = False
        self.figure.yaxis[0].ticker = FixedTicker(ticks=[])
        self.source = ColumnDataSource({name: [] for name in ("image", "x", "y", "dw", "dh")})
        self.figure.image_rgba("image", "x", "y", "dw", "dh", source=self.source)
        super().__init__([self.figure])
        _, high, wide = examples.images.shape[1:]
        for drawn in (self.figure, *self.panes):
            drawn.aspect_ratio, drawn.sizing_mode = _MOST * (wide + 1) / (2 * (high + 1)), "scale_width"

    def _draw(self, model: Model, selection: Selection, changed: set[str]) -> str:
        found = answers(model, selection, self._examples)
        names, kind = self._examples.classes, text.kind(model)
        self._show(mosaic(self._examples.images, found), titles(model, found))
        kinds, counts = np.unique(names[found.best], return_counts=True)
        among = ", ".join(f"{n} of {kind} {safe(one)}" for one, n in zip(kinds, counts, strict=True))
        below = f"; below, {kind} {safe(found.cls)}, which it helps most" if found.cls and found.some.size else ""
        return (
            f"of the {text.count(len(names), 'image')} looked at, those to which unit {selection.unit} of "
            f"{safe(selection.layer)} answers most at the start of {text.at(model, selection)} "
            f"({text.number(found.responses[found.best[0]])} at most, before its activation): {among}{below}."
        )

    def _show(self, canvas: np.ndarray, names: list[str]) -> None:
        size = canvas.shape[:2]
        packed = np.ascontiguousarray(canvas[::-1]).view(np.uint32).reshape(size)
        self.source.data = {"image": [packed], "x": [0], "y": [0], "dw": [size[1]], "dh": [size[0]]}
        self.figure.x_range.update(start=0, end=size[1])
        self.figure.y_range.update(start=0, end=size[0])
        figures.set_ticks(self.figure.yaxis[0], {1.5 * size[0] / 2: names[0], 0.5 * size[0] / 2: names[1]})
