"""Toy landscapes with known answers, to hold the studies against.

``lcakit.landscapes.nqm`` is the noisy quadratic model, ``lcakit.landscapes.wedges`` the n-wedges model. Closed forms
and simulations need NumPy and SciPy only; what trains and records with torch is imported when it is first used.
"""

from __future__ import annotations

from types import ModuleType

from lcakit.packages import package

_ROOMS = ("nqm", "wedges")
__all__ = [*_ROOMS]


def __getattr__(name: str) -> ModuleType:
    if name not in _ROOMS:
        raise AttributeError(f"module 'lcakit.landscapes' has no attribute {name!r}")
    room: ModuleType = package(f"lcakit.landscapes.{name}", f"lk.landscapes.{name}")
    return room
