"""Pictures of results: HoloViews elements, one room for each study; Bokeh on the screen, Matplotlib for print.

Every function takes labelled results, takes ``backend="bokeh"`` or ``"matplotlib"``, and returns a HoloViews object; it
shows nothing by itself. End a notebook cell with ``pn.pane.HoloViews(picture)``, or write a file with :func:`save`.
Colours, sizes and labels are those of one room for all (:func:`use_colours` changes green and red to blue and orange).
No torch here.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from lcakit.plot._style import SUFFIXES, backend_of, save, sign_cmap, sign_colours, use_colours

_ROOMS = ("nqm", "wedges")
__all__ = ["SUFFIXES", *_ROOMS, "backend_of", "save", "sign_cmap", "sign_colours", "use_colours"]


def __getattr__(name: str) -> ModuleType:
    if name not in _ROOMS:
        raise AttributeError(f"module 'lcakit.plot' has no attribute {name!r}")
    return importlib.import_module(f"lcakit.plot.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
