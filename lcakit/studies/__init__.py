"""The paper's data sets, networks, settings and figures, ready to train and to compare with (needs torch).

``lk.studies.data.load``, ``lk.studies.networks.build``, ``lk.studies.batches.Batches`` and
``lk.studies.paper`` are imported when they are first used.
"""

from __future__ import annotations

import importlib
from types import ModuleType

_ROOMS = ("batches", "data", "networks", "paper")
__all__ = [*_ROOMS]


def __getattr__(name: str) -> ModuleType:
    if name not in _ROOMS:
        raise AttributeError(f"module 'lcakit.studies' has no attribute {name!r}")
    return importlib.import_module(f"lcakit.studies.{name}")
