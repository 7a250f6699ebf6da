"""The trajectory to allocate along: opened, or made of an array, and refused where the objective does not fit it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.errors import RecordingError, TrajectoryError
from lcakit.record.allocation.facts import Facts
from lcakit.record.objective.trees import of_theta
from lcakit.storage import opening
from lcakit.storage.paths import given_path, writable_path
from lcakit.text import printable, visible
from lcakit.trajectory import schema
from lcakit.trajectory.labels import tensor_shapes

__all__ = ["as_dataset", "check_source"]


def __dir__() -> list[str]:
    return __all__


_TAKEN = ("class", "unit", "order", "rate")  # endings of names that the format has already


def as_dataset(trajectory: Any, facts: Facts, in_place: bool) -> tuple[xr.Dataset, Path | None]:
    """Return the trajectory, and its path if it was given as one.

    Parameters
    ----------
    trajectory
        A path, an opened trajectory, or an array of snapshots (T+1, K).
    facts
        Of the objective, for the layout of an array.
    in_place
        The file is to be extended, so it must be a finished one, and local.
    """
    if isinstance(trajectory, xr.Dataset):
        return trajectory, None
    if isinstance(trajectory, str | os.PathLike):
        source = opening.open_trajectory(trajectory)
        if in_place and source.attrs.get("partial"):
            raise RecordingError(
                f"{trajectory} is an unfinished recording, and cannot be extended. Make it a file with lk.finish, or "
                "pass out=…"
            )
        return source, writable_path(trajectory) if in_place else given_path(trajectory)
    theta = of_theta(trajectory).to("cpu", torch.float32).numpy()
    n_parameters = facts.labels.n_parameters
    if theta.ndim != 2 or theta.shape[1] != n_parameters or len(theta) < 2:
        raise TrajectoryError(
            f"an array of snapshots must have shape (T+1, {n_parameters}) with T ≥ 1, got {theta.shape}"
        )
    steps = {
        "snapshot": (("snapshot",), np.arange(len(theta))),
        "iteration": (("iteration",), np.arange(len(theta) - 1)),
    }
    return schema.build_dataset(facts.labels.coords() | steps, {"theta": theta}), None


def check_source(source: xr.Dataset, facts: Facts, name: str | None, overwrite: bool) -> None:
    """Refuse a trajectory of other parameters or classes, and one that has the variables already."""
    if "theta" not in source:
        raise TrajectoryError(
            "the trajectory has no 'theta', so there is no path to integrate along. Record with keep including 'theta'."
        )
    if "buffers" not in source and "buffer_change" in source and bool((source["buffer_change"] != 0).any()):
        raise TrajectoryError(
            "buffers of the model moved the loss while this was recorded (buffer_change), and their values are not "
            "stored: along theta alone the loss is not that of the recording. Record with the objective that you need."
        )
    _check_parameters(source, facts)
    if name is not None and (not re.fullmatch("[a-z][a-z0-9]*", name) or name in _TAKEN):
        raise ValueError(f'name is a suffix of small letters and digits such as "val", got {name!r}')
    _check_classes(source, facts)
    taken = [schema.with_suffix(v, name) for v in ("lca", "loss") if schema.with_suffix(v, name) in source]
    if taken and not overwrite:
        raise RecordingError(
            f"the trajectory already has {', '.join(taken)}. Pass overwrite=True to replace them, "
            'or name="…" to add another objective beside them.'
        )


def _check_parameters(source: xr.Dataset, facts: Facts) -> None:
    shapes = {t.name: t.shape for t in facts.labels.tensors}
    stored = tensor_shapes(source)
    if stored != shapes:
        theirs, ours = (_only(a, b) for a, b in ((stored, shapes), (shapes, stored)))
        raise TrajectoryError(
            f"the trajectory's parameters are not those of the objective's model: the file has {theirs}, the model "
            f"{ours}. Build the objective from the model that was recorded."
        )


def _only(tensors: Mapping[str, tuple[int, ...]], others: Mapping[str, tuple[int, ...]]) -> str:
    """Name the tensors of one side that the other has not, or has in another shape."""
    said = [f"{name} {shape}" for name, shape in tensors.items() if others.get(name) != shape]
    return ", ".join([*said[:3], *(["…"] if len(said) > 3 else [])]) or "nothing else"


def _check_classes(source: xr.Dataset, facts: Facts) -> None:
    stored = [str(c) for c in source["class"].values] if "class" in source.coords else None
    ours = [visible(name) for name in facts.class_names or ()]  # as names come back from a file
    if stored and ours and not _same_classes(stored, ours):
        raise RecordingError(
            f"the trajectory has {_some(stored)}, this objective {_some(ours)}; one file has one list of "
            "classes. Build the objective with the same classes in the same order (class_names=…)."
        )


def _same_classes(stored: Sequence[str], ours: Sequence[str]) -> bool:
    """Say whether these can be the same classes: by their names, or their number where one side has only numbers."""
    numbers = [str(k) for k in range(len(ours))]
    return len(stored) == len(ours) and (list(stored) == list(ours) or numbers in (list(stored), list(ours)))


def _some(names: Sequence[str], most: int = 10) -> str:
    more = ", …" if len(names) > most else ""
    return f"{len(names)} classes ({', '.join(printable(name, 20) for name in names[:most])}{more})"
