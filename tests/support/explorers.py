"""What the tests of the explorer share: pages, what they say, and files that hold less than a whole recording."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest

pytest.importorskip("panel")

from lcakit.analysis.resolution import aggregated
from lcakit.trajectory.labels import TensorSpec
from lcakit.views.explorer.app import Explorer, Models
from lcakit.views.explorer.selection import ALL, Selection

__all__ = ["FILES", "IMAGES", "QUIET", "at", "explorer", "number", "text"]

QUIET = pytest.mark.filterwarnings("ignore:Widget.name is deprecated:PendingDeprecationWarning")
IMAGES = (
    TensorSpec("a.weight", (5, 16), "kernel", "a", "linear"),
    TensorSpec("a.bias", (5,), "bias", "a", "linear"),
    TensorSpec("b.weight", (3, 5), "kernel", "b", "linear"),
)


def explorer(ds, **sources):
    return Explorer(Models(ds), **sources)


def text(pane):
    return html.unescape(re.sub(r"<[^>]*>", "", pane.html))


def number(value):
    return f"{value:+.4g}".replace("-", "−")


def at(model, **changes):
    """Return a selection of everything, with changes."""
    everything = {
        "layers": model.layers,
        "classes": model.classes,
        "role": ALL,
        "quantity": "lca",
        "window": (0, model.iterations.size - 1),
        "iteration": 0,
        "whole": False,
        "layer": model.layers[0],
        "unit": 0,
        "parameter": 0,
        "colours": "green-red",
    }
    return Selection(**(everything | changes))


def without(ds, *names):
    return ds.drop_vars([name for name in ds.variables if name in names])


FILES = {
    "whole": lambda ds: ds,
    "no classes": lambda ds: without(ds, "lca_unit_class", "loss_class").drop_dims("class"),
    "by unit": lambda ds: aggregated(ds, "unit"),
    "by layer": lambda ds: aggregated(ds, "layer"),
    "lca alone": lambda ds: without(ds, "theta", "gradient", "loss", "loss_class", "residual"),
    "no lca": lambda ds: without(ds, "lca", "lca_unit_class"),
    "classes by parameter": lambda ds: without(ds, "lca_unit_class"),
    "one layer": lambda ds: ds.lk.sel(layer="fc"),
    "some units": lambda ds: ds.lk.sel(layer="fc", unit=[1, 3]),
    "one iteration": lambda ds: ds.lk.sel(iteration=0),
    "gaps": lambda ds: ds.assign(
        lca=ds["lca"].where(ds["iteration"] > 5), lca_unit_class=ds["lca_unit_class"] * np.nan
    ),
    "all zero": lambda ds: ds.assign(lca=ds["lca"] * 0, lca_unit_class=ds["lca_unit_class"] * 0),
    "uneven": lambda ds: ds.assign_coords(iteration=np.arange(12) ** 2, snapshot=np.arange(13) ** 2),
    "partial": lambda ds: ds.assign_attrs(partial=1),
}
