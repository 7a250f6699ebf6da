"""Pictures of results: HoloViews elements, one module for each study; Bokeh on the screen, Matplotlib for print.

Every function takes a trajectory or labelled results, takes ``backend="bokeh"`` or ``"matplotlib"``, and returns a
HoloViews object; it shows nothing by itself. End a notebook cell with ``pn.pane.HoloViews(picture)``, or write a file
with :func:`save`. Colours, sizes and labels are the same in all (:func:`use_colours` changes green and red to blue and
orange). ``ds.lk.plot.layers()`` is ``lk.plot.layers(ds)``. No torch here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import xarray as xr

from lcakit.errors import unknown
from lcakit.packages import faces
from lcakit.plot._colours import sign_cmap, sign_colours, use_colours
from lcakit.plot._style import SUFFIXES, backend_of, save

_OF_TRAJECTORIES = {
    "losses": ("loss", "residual"),
    "layerwise": ("layers", "layers_over_time", "layer_map"),
    "noise": (
        "help_hurt_zero",
        "fraction_helping",
        "helping_by_window",
        "signs_per_class",
    ),
    "sign_bars": ("fractions",),
    "histograms": ("lca_histogram", "helped_histogram"),
    "tails": ("tail_fits", "kurtosis"),
    "parameters": ("parameter_map", "unit_map"),
    "running": ("cumulative",),
    "oscillation": ("turns", "detail", "phase_lag"),
    "synchronization": ("peaks",),
    "correlation": ("correlation_by_layer", "correlations"),
    "specialization": ("specialized_fraction", "class_curves", "saliency"),
    "generalization": ("overfitting_map", "train_validation"),
}
_OF_OTHERS = {"layerwise": ("delays",), "sweeps": ("sweep",), "landscape": ("path_allocation",)}
# a module never has the name of one of its functions: once imported, it would hide the function
_PICTURES = {
    name: f"lcakit.plot.{module}"
    for modules in (_OF_TRAJECTORIES, _OF_OTHERS)
    for module, names in modules.items()
    for name in names
}
_MODULES = {name: f"lcakit.plot.{name}" for name in ("nqm", "wedges")}

__all__ = [
    *_MODULES,
    *_PICTURES,
    "SUFFIXES",
    "OfDataset",
    "backend_of",
    "save",
    "sign_cmap",
    "sign_colours",
    "use_colours",
]

__getattr__, _ = faces(__name__, _MODULES | _PICTURES, "lk.plot")


def __dir__() -> list[str]:
    return __all__


class OfDataset:
    """The pictures of one trajectory: ``ds.lk.plot.layers()`` is ``lk.plot.layers(ds)``."""

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in self.__dir__():
            raise unknown("picture of a trajectory", name, self.__dir__(), AttributeError)
        return functools.partial(__getattr__(name), self._ds)

    def __dir__(self) -> list[str]:
        return sorted(name for names in _OF_TRAJECTORIES.values() for name in names)
