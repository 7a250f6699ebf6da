"""The finished runs of an experiment, as its table reads them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from lcakit.analysis.resolution import aggregated
from lcakit.errors import RecordingError
from lcakit.experiments.data import Split
from lcakit.experiments.declared.directory import Task
from lcakit.experiments.training import make_model, make_objective
from lcakit.storage import opening
from lcakit.trajectory.arguments import checks_creation
from lcakit.trajectory.join import join

__all__ = ["Results", "objective_of", "over_runs"]


def __dir__() -> list[str]:
    return __all__


@checks_creation
@dataclass(frozen=True)
class Results:
    """Opens finished runs by arm; arms without a finished run are left out."""

    tasks: Sequence[Task]
    directory: Path

    @property
    def arms(self) -> list[str]:
        """Arms with at least one finished run, in their order."""
        return list(dict.fromkeys(task.arm for task in self.tasks if task.finished))

    def of(self, arm: str) -> list[Task]:
        """The finished runs of an arm, by seed."""
        return [task for task in self.tasks if task.arm == arm and task.finished]

    def open(self, arm: str, paired: bool = False) -> xr.Dataset:
        """Return the runs of an arm joined along ``run``, in the order of their seeds.

        ``paired`` leaves out seeds that are not finished in every arm, so that the k-th runs of arms belong together.
        """
        seeds = self.common_seeds() if paired else [task.run.seed for task in self.of(arm)]
        return join({task.name: _opened(task) for task in self.of(arm) if task.run.seed in seeds})

    def open_all(self, tasks: Sequence[Task]) -> xr.Dataset:
        """Return these runs, of several arms, joined along ``run``."""
        return join({task.name: _opened(task) for task in tasks})

    def common_seeds(self) -> list[int]:
        """Seeds that are finished in every arm; RecordingError where there is none."""
        arms = dict.fromkeys(task.arm for task in self.tasks)
        found = set.intersection(*({task.run.seed for task in self.of(arm)} for arm in arms))
        if not found:
            raise RecordingError(
                f"no seed is finished in every arm ({', '.join(arms)}), so they cannot be compared. Run the experiment "
                "again: it goes on with what is missing."
            )
        return sorted(found)

    def each_run(self, arm: str, name: str, make: Callable[[Task, xr.Dataset], xr.Dataset]) -> xr.Dataset:
        """Compute something of every run of an arm, joined along ``run``; what is computed is kept in the folder.

        It is computed again when the file of the run has changed since.
        """
        parts = {task.run.seed: self._kept(task, name, make) for task in self.of(arm)}
        return xr.concat(parts.values(), dim=xr.DataArray(list(parts), dims="run", name="run"))

    def _kept(self, task: Task, name: str, make: Callable[[Task, xr.Dataset], xr.Dataset]) -> xr.Dataset:
        path = self.directory / f"{name}-of-{task.name}.nc"
        with _opened(task) as ds:
            of = f"{ds.attrs.get('created_at', '')} {task.path.stat().st_mtime_ns}"  # the date alone is in seconds
            if path.exists():
                kept = xr.load_dataset(path)
                if kept.attrs.get("made_of") == of:
                    return kept
            made = make(task, ds).assign_attrs(made_of=of).compute()
        temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        made.to_netcdf(temporary)
        temporary.replace(path)
        return made


def _opened(task: Task) -> xr.Dataset:
    return aggregated(opening.open_trajectory(task.path), task.resolution)


def objective_of(task: Task, examples: str | Split = "train", **options: Any) -> Any:
    """Return the objective that a run was recorded with, or that over other data, on its initial weights.

    ``examples``: ``"train"``, ``"test"``, or images and labels.
    """
    data, on_test = task.run.data(), examples != "train"
    if not isinstance(examples, str):
        data = dataclasses.replace(data, x_test=examples[0], y_test=examples[1])
    how = {"device": task.device, "precision": task.precision} | options
    return make_objective(task.run, make_model(task.run, data), data, "test" if on_test else "train", **how)


def over_runs(found: xr.Dataset, dim: str = "run") -> xr.Dataset:
    """Return mean and standard deviation (``…_sd``) of each variable over runs."""
    varying = [name for name, array in found.data_vars.items() if dim in array.dims]
    deviations = {f"{name}_sd": found[name].std(dim, ddof=1) for name in varying}
    return found.mean(dim, keep_attrs=True).assign(deviations)
