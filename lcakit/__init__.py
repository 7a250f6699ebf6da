"""lcakit: watch a neural network learn, parameter by parameter.

``import lcakit as lk`` is quick: the public names below are imported when they are first used, and only those that
record (``Objective``, ``Recorder``, ``allocate``, …) need torch.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from lcakit.packages import package

__version__ = "0.1.0"

# public name -> room it lives in; a name equal to the last part of its room is the room itself
_PUBLIC = {
    "Objective": "lcakit.record.objective",
    "Recorder": "lcakit.record.recorder",
    "allocate": "lcakit.record.allocate",
    "ObjectiveSpec": "lcakit.record.spec",
    "finish": "lcakit.store",
    "open_trajectory": "lcakit.store",
    "open_runs": "lcakit.store",
    "compute": "lcakit.computing",
    "save": "lcakit.store",
    "estimate": "lcakit.budget",
    "validate": "lcakit.validation",
    "describe": "lcakit.provenance",
    "cite": "lcakit.provenance",
    "share": "lcakit.sharing",
    "fetch": "lcakit.fetching",
    "to_table": "lcakit.tables",
    "account": "lcakit.analysis.account",
    "noise": "lcakit.analysis.noise",
    "layers": "lcakit.analysis.layers",
    "aggregate": "lcakit.analysis.aggregate",
    "oscillation": "lcakit.analysis.oscillation",
    "phase": "lcakit.analysis.phase",
    "synchronization": "lcakit.analysis.synchronization",
    "tails": "lcakit.analysis.tails",
    "correlation": "lcakit.analysis.correlation",
    "specialization": "lcakit.analysis.specialization",
    "generalization": "lcakit.analysis.generalization",
    "fisher": "lcakit.analysis.fisher",
    "myopia": "lcakit.analysis.myopia",
    "ranking": "lcakit.analysis.ranking",
    "runs": "lcakit.analysis.runs",
    "studies": "lcakit.studies",
    "landscapes": "lcakit.landscapes",
    "plot": "lcakit.plot",
    "explore": "lcakit.explorer",
    "report": "lcakit.reporting",
    "animate": "lcakit.animation",
    "interop": "lcakit.interop",
    "from_arrays": "lcakit.interop.arrays",
    "from_checkpoints": "lcakit.record.checkpoints",
    "testing": "lcakit.testing",
    "TrajectoryError": "lcakit.errors",
    "RecordingError": "lcakit.errors",
    "DivergedError": "lcakit.errors",
    "BudgetError": "lcakit.errors",
    "ObjectiveError": "lcakit.errors",
    "LcakitError": "lcakit.errors",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lcakit' has no attribute {name!r}")
    room = package(_PUBLIC[name], f"lk.{name}")
    value = getattr(room, name, room)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if "xarray" in sys.modules and not TYPE_CHECKING:  # ds.lk works at once where xarray is already loaded
    importlib.import_module("lcakit.accessor")
