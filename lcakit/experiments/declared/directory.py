"""The folder of an experiment: one file for each run, finished, unfinished or of something else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.resolution import aggregated
from lcakit.experiments.declared.experiment import Experiment
from lcakit.experiments.existing import refuse_other_run
from lcakit.experiments.run import Run
from lcakit.experiments.training import make_model, make_objective, record_run
from lcakit.record.allocation.settings import AllocationSettings
from lcakit.storage import opening, saving

__all__ = ["Files", "Task", "refuse_other_settings"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Task:
    """One run of an experiment and the file it belongs in.

    ``test_loss``: the file also has loss and accuracy over the test set, at every snapshot.
    """

    arm: str
    run: Run
    path: Path
    keep: tuple[str, ...]
    resolution: str
    precision: str
    device: str | None = None
    test_loss: bool = False
    max_splits: int = AllocationSettings.max_splits

    @property
    def name(self) -> str:
        """The name of the file without its ending, such as ``frozen-2``."""
        return self.path.stem

    @property
    def finished(self) -> bool:
        """Whether the file is there, with all that it should have."""
        return self.path.exists() and not (self.test_loss and self._lacks_test_loss())

    @property
    def recorded(self) -> tuple[str, ...]:
        """What is recorded per parameter: what the table needs, and the snapshots if they are evaluated again."""
        return ("theta", *self.keep) if self.test_loss and "theta" not in self.keep else self.keep

    def record(self, quiet: bool = True) -> None:
        """Train and record the run, or go on with it, and cut the file down to what the table needs."""
        how: dict[str, Any] = {"device": self.device, "precision": self.precision}
        if not self.path.exists():
            stored: dict[str, Any] = {"classes": None, "keep": self.recorded, "max_splits": self.max_splits}
            record_run(self.run, self.path, quiet=quiet, resume=True, **stored, **how)
        with opening.open_trajectory(self.path) as ds:
            kept = ds.assign(_test_course(self.run, ds, **how)) if self.test_loss else ds
            kept = kept if "theta" in self.keep else kept.drop_vars("theta", errors="ignore")
            if self.test_loss or self.resolution != "parameter":
                saving.save(aggregated(kept, self.resolution), self.path, overwrite=True)

    def _lacks_test_loss(self) -> bool:
        with opening.open_trajectory(self.path) as ds:
            return "loss_val" not in ds


def _test_course(run: Run, ds: xr.Dataset, **how: Any) -> dict[str, xr.DataArray]:
    """Return loss and accuracy over the test set at every snapshot of a run: no gradient, so it costs little."""
    data = run.data()
    objective = make_objective(run, make_model(run, data), data, "test", **how)
    found = [objective.evaluate(theta, gradient=False) for theta in ds["theta"].values]
    loss = np.array([one.loss for one in found])
    accuracy = np.array([one.accuracy for one in found], np.float32)
    return {"loss_val": xr.DataArray(loss, dims="snapshot"), "accuracy_val": xr.DataArray(accuracy, dims="snapshot")}


@dataclass(frozen=True)
class Files:
    """Where the runs of an experiment are written and how they are computed."""

    experiment: Experiment
    directory: Path
    precision: str = "float32"
    device: str | None = None
    max_splits: int = AllocationSettings.max_splits

    def task(self, arm: str, run: Run) -> Task:
        """Return a run of an arm with its file, ``ARM-SEED.nc``."""
        path, of = self.directory / f"{arm}-{run.seed}.nc", self.experiment
        how = self.precision, self.device, of.test_loss, self.max_splits
        return Task(arm, run, path, of.keep, of.resolution, *how)


def refuse_other_settings(tasks: Iterable[Task]) -> None:
    """Raise RecordingError if a file, finished or not, that is in the place of one of these runs is of another run."""
    for task in tasks:
        refuse_other_run(task.path, task.run, precision=task.precision, keep=" ".join(task.recorded))
