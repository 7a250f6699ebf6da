"""What the view of images shows, to take along: numbers, the lines that compute them, and the picture."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from lcakit.plot._style import size
from lcakit.plot._style import titles as titled
from lcakit.views.explorer import seen
from lcakit.views.explorer.examples import Examples
from lcakit.views.explorer.model import Model
from lcakit.views.explorer.selection import Selection

__all__ = ["draw_images", "images", "images_code"]


def __dir__() -> list[str]:
    return __all__


def _examples(model: Model) -> Examples:
    found: Examples | None = None if model.runs is None else model.runs.examples
    if found is None:
        raise ValueError(
            "The images that this network was trained on are not known: pass them, "
            "lk.explore(ds, examples=(images, classes))."
        )
    return found


def images(model: Model, selection: Selection) -> xr.Dataset:
    """Return what the unit computes of each image (image), its class, and the row that it is shown in (0: in none)."""
    known = _examples(model)
    found = seen.answers(model, selection, known)
    row = np.zeros(found.responses.size, int)
    row[found.some], row[found.best] = 2, 1
    coords = {"image": np.arange(row.size), "class": ("image", known.classes)}
    attrs = {"long_name": f"unit {selection.unit} of {selection.layer} before its activation", "units": "1"}
    return xr.Dataset({"response": ("image", found.responses, attrs), "row": ("image", row)}, coords)


def images_code(model: Model, selection: Selection) -> list[str]:
    """Return the lines that compute :func:`images`."""
    _examples(model)
    chosen = f"layer={selection.layer!r}, unit={selection.unit}, iteration={int(model.iterations[selection.iteration])}"
    chosen += f", classes={list(selection.classes)!r}" if model.classes else ""
    return [
        "ex = lk.explore(ds)  # pass examples=(images, classes) where the data set is not a known one",
        f"ex.selection.param.update({chosen})",
        'numbers = ex.data("images")',
    ]


def draw_images(backend: str, model: Model, selection: Selection, title: str) -> Any:
    """Return the two rows of images as a picture."""
    known = _examples(model)
    found = seen.answers(model, selection, known)
    canvas = seen.mosaic(known.images, found)
    high, wide = canvas.shape[:2]
    picture = hv.RGB(canvas / 255, bounds=(0, 0, wide, high), vdims=[*hv.RGB.vdims, hv.RGB.alpha_dimension])
    rows = zip((0.75 * high, 0.25 * high), seen.titles(model, found), strict=True)
    look: dict[str, Any] = {"xticks": [(-1.0, "")], "yticks": list(rows)} | size(backend, round(70 + 540 * high / wide))
    return picture.opts(backend=backend, axiswise=True, **titled(backend, title, ("", "")), **look)
