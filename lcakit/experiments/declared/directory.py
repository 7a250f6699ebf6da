"""The folder of an experiment: one file for each run, finished, unfinished or of something else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcakit.analysis.resolution import aggregated
from lcakit.experiments.existing import refuse_other_run
from lcakit.experiments.run import Run
from lcakit.experiments.training import record_run
from lcakit.storage import opening, saving

__all__ = ["Task", "refuse_other_settings"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Task:
    """One run of an experiment and the file it belongs in."""

    arm: str
    run: Run
    path: Path
    keep: tuple[str, ...]
    resolution: str
    precision: str
    device: str | None = None

    @property
    def name(self) -> str:
        """The name of the file without its ending, such as ``frozen-2``."""
        return self.path.stem

    @property
    def finished(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def record(self, quiet: bool = True) -> None:
        """Train and record the run, or go on with it, and cut the file down to what the table needs."""
        how: dict[str, Any] = {"device": self.device, "precision": self.precision, "keep": self.keep}
        record_run(self.run, self.path, quiet=quiet, classes=None, resume=True, **how)
        if self.resolution != "parameter":
            with opening.open_trajectory(self.path) as ds:
                saving.save(aggregated(ds, self.resolution), self.path, overwrite=True)


def refuse_other_settings(tasks: Iterable[Task]) -> None:
    """Raise RecordingError if a file, finished or not, that is in the place of one of these runs is of another run."""
    for task in tasks:
        refuse_other_run(task.path, task.run, precision=task.precision, keep=" ".join(task.keep))
