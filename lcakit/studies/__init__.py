"""The paper's data sets, networks, settings and figures, ready to train and to compare with (needs torch).

``lk.studies.data.load``, ``lk.studies.networks.build``, ``lk.studies.batches.Batches``, ``lk.studies.paper``,
``lk.studies.interventions``, ``lk.studies.training`` (``Run``, ``record_run``), ``lk.studies.experiments`` and the
questions of reviewers (``helpful_only``, ``rescaling``, ``subsampling``) are imported when first used.
"""

from __future__ import annotations

from types import ModuleType

from lcakit.packages import package

_ROOMS = (
    "batches",
    "data",
    "experiments",
    "helpful_only",
    "interventions",
    "networks",
    "paper",
    "rescaling",
    "subsampling",
    "training",
)
__all__ = [*_ROOMS]


def __getattr__(name: str) -> ModuleType:
    if name not in _ROOMS:
        raise AttributeError(f"module 'lcakit.studies' has no attribute {name!r}")
    room: ModuleType = package(f"lcakit.studies.{name}", f"lk.studies.{name}")
    return room
