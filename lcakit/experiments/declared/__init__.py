"""Declared experiments: sweeps over seeds, interventions and settings that run what is missing and print a table.

``lcakit experiment`` lists them, ``lcakit experiment last-layer --scale small`` runs one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from lcakit.errors import LcakitError, RecordingError, unknown
from lcakit.experiments.data import load
from lcakit.experiments.declared import delays, future, hyperparameters, layerwise, networks, report, reviewers
from lcakit.experiments.declared.directory import Files, Task, refuse_other_settings
from lcakit.experiments.declared.execute import run_missing
from lcakit.experiments.declared.experiment import Claim, Derived, Experiment, Scale, seeded
from lcakit.experiments.declared.results import Results
from lcakit.experiments.names import split_name
from lcakit.progress import phase
from lcakit.record.allocation.settings import AllocationSettings
from lcakit.trajectory.arguments import checks_arguments, checks_creation
from lcakit.version import __version__

__all__ = ["EXPERIMENTS", "Claim", "Derived", "Experiment", "Outcome", "Results", "Scale", "find", "run_experiment"]


def __dir__() -> list[str]:
    return __all__


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        *layerwise.EXPERIMENTS,
        *delays.EXPERIMENTS,
        *networks.EXPERIMENTS,
        *hyperparameters.EXPERIMENTS,
        *reviewers.EXPERIMENTS,
        *future.EXPERIMENTS,
    )
}


@checks_creation
@dataclass(frozen=True)
class Outcome:
    """What an experiment gave: its result, None where too few runs were finished, and why runs failed, by name."""

    result: xr.Dataset | None
    failed: dict[str, str]
    text: str


@checks_arguments
def find(name: str) -> Experiment:
    """Return a declared experiment, or say which there are."""
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name]


@checks_arguments
def run_experiment(
    experiment: str | Experiment,
    directory: str | Path,
    scale: str = "small",
    *,
    seeds: Sequence[int] | None = None,
    jobs: int | None = None,
    data_root: str | None = None,
    device: str | None = None,
    precision: str = "float32",
    max_splits: int = AllocationSettings.max_splits,
    quiet: bool = False,
) -> Outcome:
    """Record what is missing of an experiment's runs, and make its table.

    Finished files in the folder are kept and unfinished ones continued, so a sweep that was interrupted goes on when it
    is called again.

    Parameters
    ----------
    experiment
        A name of :data:`EXPERIMENTS`, or an :class:`Experiment` of one's own.
    directory
        Folder of its runs. The result goes there, too: ``result.nc`` and ``result-….csv``.
    scale
        ``"small"`` (minutes on two cores) or ``"paper"``.
    seeds
        Other seeds than those declared.
    jobs
        Runs side by side, each in a process of its own (:func:`lcakit.experiments.declared.execute.run_missing`).
    max_splits
        Most splits of a move, as for :func:`lcakit.allocate`, of the runs that are recorded now: more where an account
        does not close. Finished files are kept, whatever theirs was.

    Returns
    -------
    Outcome
        A run that failed is in ``failed``, and the others are in the table.

    Raises
    ------
    RecordingError
        If a file in the folder is of other settings, before anything is trained.
    ValueError
        For an unknown experiment or scale, or settings that cannot be.
    DataError
        If a data set is not there and cannot be downloaded; nothing is trained then.
    """
    chosen = find(experiment) if isinstance(experiment, str) else experiment
    declared = chosen.scale(scale)
    directory = Path(directory)
    files = Files(chosen, directory, precision, device, AllocationSettings(max_splits=max_splits).max_splits)
    seeds = declared.seeds if seeds is None else tuple(seeds)
    tasks = [  # seeds first: what is stopped early can be compared
        files.task(arm, seeded(run, seed, data_root)) for seed in seeds for arm, run in declared.arms.items()
    ]
    refuse_other_settings([*tasks, *_derived(declared, tasks, files)])
    with phase("reading the data", quiet=quiet):
        _load_data([task for task in tasks if not task.finished])
    directory.mkdir(parents=True, exist_ok=True)
    with phase("training and recording runs", quiet=quiet):
        failed = run_missing(tasks, jobs, quiet)
        derived = _derived(declared, tasks, files)
        failed |= run_missing(derived, jobs, quiet)
    with phase("making the table", quiet=quiet):
        return _outcome(chosen, scale, Results([*tasks, *derived], directory), failed)


def _derived(scale: Scale, tasks: Sequence[Task], files: Files) -> list[Task]:
    """Return the runs of derived arms whose base is finished."""
    return [
        files.task(arm, one.make(task.run, task.path))
        for task in tasks
        for arm, one in scale.derived.items()
        if task.arm == one.base and task.finished
    ]


def _load_data(tasks: Sequence[Task]) -> None:
    """Load what the runs that are to be recorded need, once: a download has one process, an error comes at once."""
    for name, root in dict.fromkeys((split_name(task.run.network)[0], task.run.data_root) for task in tasks):
        load(name, root)


def _outcome(experiment: Experiment, scale: str, results: Results, failed: dict[str, str]) -> Outcome:
    said = [f"{name} FAILED: {why}" for name, why in failed.items()]
    try:
        if not results.arms:
            raise RecordingError("no run is finished, so there is no table")
        result = experiment.table(results)
    except (LcakitError, ValueError) as error:  # too few runs are left for a test or a trend
        if not failed:
            raise
        return Outcome(None, failed, "\n".join([*said, str(error)]))
    facts = {"experiment": experiment.name, "title": experiment.title, "source": experiment.source}
    facts |= {"scale": scale, "scaled_down": experiment.scale(scale).scaled_down, "creator": f"lcakit {__version__}"}
    result = result.assign_attrs(facts).compute()
    report.save(result, results.directory)
    return Outcome(result, failed, "\n\n".join([report.to_text(experiment, scale, result), *said]))
