"""lcakit: watch a neural network learn, parameter by parameter.

``import lcakit as lk`` is quick: the public names below are imported when they are first used, and only those that
record (``Objective``, ``Recorder``, ``allocate``, …) need torch.
"""

from __future__ import annotations

import os
from typing import Any

from lcakit.packages import faces, find_moved, register_accessor
from lcakit.version import __version__ as __version__

# public name -> module it lives in; where that has nothing of the name, the module itself is meant
_PUBLIC = {
    "Objective": "lcakit.record.objective.objective",
    "Recorder": "lcakit.record.recorder",
    "allocate": "lcakit.record.allocation.allocate",
    "ObjectiveSpec": "lcakit.record.allocation.spec",
    "losses": "lcakit.record.objective.losses",
    "finish": "lcakit.storage.saving",
    "open_trajectory": "lcakit.storage.opening",
    "open_runs": "lcakit.storage.opening",
    "compute": "lcakit.analysis.computing",
    "save": "lcakit.storage.saving",
    "estimate": "lcakit.record.budget",
    "validate": "lcakit.sharing.validation",
    "describe": "lcakit.sharing.describe",
    "cite": "lcakit.sharing.citation",
    "share": "lcakit.sharing.copies",
    "fetch": "lcakit.sharing.fetching",
    "to_table": "lcakit.analysis.tables",
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
    "experiments": "lcakit.experiments",
    "landscapes": "lcakit.landscapes",
    "plot": "lcakit.plot",
    "explore": "lcakit.views.explorer",
    "report": "lcakit.views.report",
    "animate": "lcakit.views.animation",
    "units": "lcakit.record.units",
    "callbacks": "lcakit.record.callbacks",
    "interop": "lcakit.sharing.importers",
    "from_arrays": "lcakit.sharing.importers.arrays",
    "from_checkpoints": "lcakit.sharing.importers.checkpoints",
    "testing": "lcakit.testing",
    "TrajectoryError": "lcakit.errors",
    "RecordingError": "lcakit.errors",
    "DivergedError": "lcakit.errors",
    "BudgetError": "lcakit.errors",
    "ObjectiveError": "lcakit.errors",
    "LcakitError": "lcakit.errors",
}
__all__ = [*_PUBLIC, "__version__"]


# Read when torch is loaded: threads that wait for each other then sleep. By default they spin, and on a machine whose
# cores others use, too, each waits for its partner while it takes the partner's core: see ``lcakit bench load``.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_get, __dir__ = faces("lcakit", _PUBLIC, "lk")
find_moved()


def __getattr__(name: str) -> Any:
    value = _get(name)
    register_accessor()
    return value


register_accessor()
