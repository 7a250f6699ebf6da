"""What the tests of pictures share: datasets to draw, and the numbers that a picture shows."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

hv = pytest.importorskip("holoviews")

from lcakit import plot  # noqa: E402
from lcakit.testing import tiny_trajectory  # noqa: E402
from lcakit.trajectory.join import join  # noqa: E402
from lcakit.trajectory.labels import TensorSpec  # noqa: E402

__all__ = [
    "BACKENDS",
    "DS",
    "IMAGES",
    "QUICK_BACKENDS",
    "RUNS",
    "columns",
    "curves",
    "hv",
    "marks",
    "named",
    "pixels",
    "plot",
]

BACKENDS = ("bokeh", "matplotlib")
QUICK_BACKENDS = ("bokeh", pytest.param("matplotlib", marks=pytest.mark.slow))
"""For pictures that are many: the core draws them once."""

IMAGE_LAYERS = (
    TensorSpec("fc1.weight", (5, 16), "kernel", "fc1", "linear"),
    TensorSpec("fc1.bias", (5,), "bias", "fc1", "linear"),
    TensorSpec("fc2.weight", (3, 5), "kernel", "fc2", "linear"),
)


def with_validation(ds):
    return ds.assign(lca_val=-0.5 * ds["lca"], loss_val=ds["loss"] / 2)


DS = with_validation(tiny_trajectory(24))
RUNS = join({"a": DS, "b": with_validation(tiny_trajectory(24, seed=1)), "c": DS.isel(iteration=slice(None))})
IMAGES = tiny_trajectory(6, layers=IMAGE_LAYERS)


def curves():
    """Steps to a target loss of two optimizers, one of which cannot reach it with the smallest batch."""
    sizes = 2.0 ** np.arange(12)
    steps = np.stack([1000 * (1 + 64 / sizes), 100 * (1 + 640 / sizes)])
    steps[1, 0] = np.inf
    data = {"steps": (("optimizer", "batch_size"), steps, {"long_name": "steps to the target loss", "units": "steps"})}
    return xr.Dataset(data, {"optimizer": ["sgd", "momentum"], "batch_size": sizes}, {"target": 0.01})


def marks(picture, kind):
    return picture.traverse(lambda element: element, [kind])


def named(picture, kind):
    return {element.label: element for element in marks(picture, kind) if element.label}


def columns(element):
    return [element.dimension_values(n) for n in range(len(element.dimensions()))]


def pixels(picture):
    """Return the numbers of an image, its first row on top (at the lowest place of an axis that points down)."""
    (element,) = marks(picture, hv.Image)
    order = np.argsort(element.dimension_values(1, expanded=False))
    return element.dimension_values(2, flat=False)[order]
