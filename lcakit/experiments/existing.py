"""What already exists at the path of a run: nothing, this run, or another one, which is refused before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import RecordingError, TrajectoryError
from lcakit.experiments.names import split_name
from lcakit.experiments.run import Run, own_data_in, run_of
from lcakit.storage import opening, segments
from lcakit.storage.paths import partial_path
from lcakit.trajectory import provenance

__all__ = ["refuse_existing", "refuse_other_end", "refuse_other_length", "refuse_other_run"]


def __dir__() -> list[str]:
    return __all__


_REMEDY = "Choose another folder or name (--out), or remove the file; nothing was trained."


def refuse_existing(path: Path) -> None:
    """Raise RecordingError if there is a file at ``path``, finished or not."""
    for there in (path, partial_path(path)):
        if there.exists():
            raise RecordingError(
                f"{there} exists already. Choose another name (--out), or give --resume to continue an "
                "unfinished recording, --overwrite to replace it; nothing was trained."
            )


def refuse_other_run(path: Path, run: Run, **attrs: Any) -> None:
    """Raise RecordingError if the file at ``path``, finished or not, is of another run, or does not hold all of it.

    Parameters
    ----------
    run
        Resolved. The user's own data is recognized by the name of its file.
    attrs
        Root attributes that must be these, such as ``precision``.
    """
    existing = _existing(path)
    if existing is None:
        return
    try:
        differing = _differing(existing, run, attrs)
    except TrajectoryError as error:
        raise RecordingError(f"{path} does not hold a run of lcakit.experiments: {error} {_REMEDY}") from error
    if differing:
        raise RecordingError(f"{path} is of another run: {'; '.join(differing)}. {_REMEDY}")
    if path.exists():
        refuse_other_length(path, existing, run)


def refuse_other_length(path: Path, ds: xr.Dataset, run: Run) -> None:
    """Raise RecordingError if a finished file holds fewer, or more, iterations than its run has."""
    found = int(ds["snapshot"][-1])
    if found != run.iterations:
        raise RecordingError(
            f"{path} holds {found} iterations, not the {run.iterations} of its run: it was finished early, or went on "
            f"for longer. {_REMEDY}"
        )


def refuse_other_end(path: Path, run: Run) -> None:
    """Raise RecordingError if an unfinished recording was begun for another number of iterations: its file says so."""
    existing = None if path.exists() else _existing(path)
    begun = run.iterations if existing is None else provenance.config_of(existing).get("iterations", run.iterations)
    if begun != run.iterations:
        raise RecordingError(
            f"{partial_path(path)} was begun for {begun} iterations, so it cannot be continued for "
            f"{run.iterations}. Continue it for {begun}, or remove it to start over."
        )


def _existing(path: Path) -> xr.Dataset | None:
    """Return what a file, or the header of an unfinished recording, says about itself; None where there is neither."""
    partial = partial_path(path)
    if path.exists():
        with opening.open_trajectory(path) as ds:
            return ds.drop_dims([dim for dim in ds.sizes if dim != "snapshot"]).load()  # what is small
    return segments.read_header(partial) if (partial / segments.HEADER).exists() else None


def _differing(existing: xr.Dataset, run: Run, attrs: dict[str, Any]) -> list[str]:
    folder = str(Path(split_name(run.network)[0]).parent)
    wanted = vars(run) | {"network": own_data_in(run.network, folder)} | attrs
    found = vars(run_of(existing, folder)) | {"data_root": run.data_root}
    found |= {name: _plain(existing.attrs.get(name)) for name in attrs}
    return [f"{name} is {found[name]!r}, not {wanted[name]!r}" for name in wanted if found[name] != wanted[name]]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
