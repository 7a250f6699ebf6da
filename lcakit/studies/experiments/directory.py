"""The folder of an experiment: one file for each run, finished, unfinished or of something else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from lcakit import segments, store
from lcakit.aggregated import aggregated
from lcakit.errors import RecordingError, TrajectoryError
from lcakit.studies.run import Run, run_of
from lcakit.studies.training import record_run


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
            with store.open_trajectory(self.path) as ds:
                store.save(aggregated(ds, self.resolution), self.path, overwrite=True)


def refuse_other_settings(tasks: Iterable[Task]) -> None:
    """Raise RecordingError if a file, finished or not, that is in the place of one of these runs is of another run."""
    for task in tasks:
        stored = _stored(task.path)
        if stored is None:
            continue
        try:
            found = dataclasses.replace(run_of(stored), data_root=task.run.data_root)
        except TrajectoryError as error:
            raise RecordingError(f"{task.path} is of no run of the studies: {error} {REMEDY}") from error
        wanted = {f.name: getattr(task.run, f.name) for f in dataclasses.fields(Run)}
        wanted |= {"precision": task.precision, "keep": " ".join(task.keep)}
        stated = {f.name: getattr(found, f.name) for f in dataclasses.fields(Run)}
        stated |= {name: stored.attrs.get(name) for name in ("precision", "keep")}
        differing = [
            f"{name} is {stated[name]!r}, not {wanted[name]!r}" for name in wanted if stated[name] != wanted[name]
        ]
        if differing:
            raise RecordingError(f"{task.path} is of another run: {'; '.join(differing)}. {REMEDY}")


REMEDY = "Choose another folder (--out), or remove the file; nothing was trained."


def _stored(path: Path) -> xr.Dataset | None:
    """Return what a file, or the header of an unfinished recording, says about itself; None where there is neither."""
    partial = store.partial_path(path)
    if path.exists():
        with store.open_trajectory(path) as ds:
            return ds.drop_dims(list(ds.sizes)).load()  # attributes and configuration
    return segments.read_header(partial) if (partial / segments.HEADER).exists() else None
