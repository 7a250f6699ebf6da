"""Toy landscapes with known answers, to check the analysis functions against.

``lcakit.landscapes.nqm`` is the noisy quadratic model, ``lcakit.landscapes.wedges`` the n-wedges model. Closed forms
and simulations need NumPy and SciPy only; what trains and records with torch is imported when it is first used.
"""

from __future__ import annotations

from lcakit.packages import faces

_PUBLIC = {"nqm": "lcakit.landscapes.nqm", "wedges": "lcakit.landscapes.wedges"}
__all__ = [*_PUBLIC]

__getattr__, __dir__ = faces(__name__, _PUBLIC, "lk.landscapes")
