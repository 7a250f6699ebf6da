"""The objective L(θ): its data, its loss, its gradient over the whole set, by class and on any device."""

from __future__ import annotations

from lcakit.packages import faces

_PUBLIC = {"Objective": "lcakit.record.objective.objective"}
__all__ = [*_PUBLIC]

__getattr__, __dir__ = faces(__name__, _PUBLIC)
