"""Pictures of results: HoloViews elements, one room for each study; Bokeh on the screen, Matplotlib for print.

Every function takes a trajectory or labelled results, takes ``backend="bokeh"`` or ``"matplotlib"``, and returns a
HoloViews object; it shows nothing by itself. End a notebook cell with ``pn.pane.HoloViews(picture)``, or write a file
with :func:`save`. Colours, sizes and labels are those of one room for all (:func:`use_colours` changes green and red to
blue and orange). ``ds.lk.plot.layers()`` is ``lk.plot.layers(ds)``. No torch here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import xarray as xr

from lcakit.errors import unknown
from lcakit.packages import package
from lcakit.plot._colours import sign_cmap, sign_colours, use_colours
from lcakit.plot._style import SUFFIXES, backend_of, save

_ROOMS = ("nqm", "wedges")
_OF_TRAJECTORIES = {
    "losses": ("loss", "residual"),
    "layerwise": ("layers", "layers_over_time", "layer_map"),
    "noise": (
        "help_hurt_zero",
        "fractions",
        "fraction_helping",
        "helping_by_window",
        "signs_per_class",
    ),
    "histograms": ("lca_histogram", "helped_histogram"),
    "tails": ("tail_fits", "kurtosis"),
    "parameters": ("parameter_map", "unit_map"),
    "running": ("cumulative",),
    "oscillation": ("turns", "detail", "phase_lag"),
    "synchronization": ("peaks",),
    "correlation": ("correlations",),
    "specialization": ("specialized_fraction", "class_curves", "saliency"),
    "generalization": ("overfitting_map", "train_validation"),
}
_OF_OTHERS = {"layerwise": ("delays",), "sweeps": ("sweep",), "landscape": ("path_allocation",)}
# a room never has the name of one of its functions: imported, it would hide the function
_PUBLIC = {name: room for rooms in (_OF_TRAJECTORIES, _OF_OTHERS) for room, names in rooms.items() for name in names}
__all__ = [
    "SUFFIXES",
    *_ROOMS,
    *_PUBLIC,
    "OfDataset",
    "backend_of",
    "save",
    "sign_cmap",
    "sign_colours",
    "use_colours",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return package(f"lcakit.plot.{name}", f"lk.plot.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lcakit.plot' has no attribute {name!r}")
    return getattr(package(f"lcakit.plot.{_PUBLIC[name]}", f"lk.plot.{name}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


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
