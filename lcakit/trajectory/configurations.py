"""Runs that differ only in chance (their seeds) belong together: configurations, named by their files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.text import printable
from lcakit.trajectory.provenance import config_of

__all__ = ["configurations", "require_alike", "runs_of"]


def __dir__() -> list[str]:
    return __all__


_OF_CHANCE = ("seed", "command", "subset_seed", "device", "threads")
"""What does not make a run another configuration."""
_MOST_NAMED = 4
_NUMBER = re.compile(r"[-_. ]*\d+$")


def configurations(runs: Mapping[str, xr.Dataset]) -> dict[str, list[str]]:
    """Return the configurations of runs, by name.

    Runs are of one configuration if what is stored of their making is the same but for seeds, what is None or empty
    being as good as not there; where nothing is stored, if their names are the same but for a number at the end. Where
    a layer was frozen at an iteration, which may have been found in each run by itself (its minimum, say), their names
    decide whether another iteration is another configuration.

    A configuration is called what its names have in common and those of others have not: ``frozen`` and ``plain`` for
    ``resnet-frozen-0``, ``resnet-frozen-1``, ``resnet-plain-0``.

    Examples
    --------
    >>> configurations(dict.fromkeys(["fc-sgd-0", "fc-sgd-1", "fc-adam-0"], xr.Dataset()))
    {'sgd': ['fc-sgd-0', 'fc-sgd-1'], 'adam': ['fc-adam-0']}
    """
    groups: dict[str, list[str]] = {}
    for run, ds in runs.items():
        groups.setdefault(_made(run, ds), []).append(run)
    stems = [_stem(members[0]) or members[0] for members in groups.values()]
    shared = _shared(stems) if len(stems) > 1 else ""
    names = [
        stem if stems.count(stem) == 1 else members[0]  # numbers that tell configurations apart
        for stem, members in zip(stems, groups.values(), strict=True)
    ]
    return {name.removeprefix(shared) or name: runs for name, runs in zip(names, groups.values(), strict=True)}


def _shared(stems: list[str]) -> str:
    """Return the words that all begin with."""
    first, last = min(stems), max(stems)
    same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: max(map(first[:same].rfind, "-_. /")) + 1]


def _made(run: str, ds: xr.Dataset) -> str:
    return _said(run, ds) or _stem(run)


def _said(run: str, ds: xr.Dataset) -> str:
    """Return what is stored of the making of a run, "" if nothing is."""
    config = _stored(ds)
    changes = config.get("interventions")
    if isinstance(changes, list) and (same := [_without_iteration(change) for change in changes]) != changes:
        config |= {"interventions": same, "name": _stem(run)}
    return json.dumps(config, sort_keys=True) if config else ""


def _without_iteration(change: Any) -> Any:
    found = isinstance(change, dict) and isinstance(change.get("freeze"), int)
    return change | {"freeze": "found"} if found else change


def _stem(run: str) -> str:
    return _NUMBER.sub("", run)


def _stored(ds: xr.Dataset) -> dict[str, Any]:
    """Return what is stored of the making of a run, without what is of chance and what says nothing."""
    said = config_of(ds).items()
    return {key: value for key, value in said if key not in _OF_CHANCE and value not in (None, [], {}, "")}


def runs_of(ds: xr.Dataset) -> dict[str, xr.Dataset]:
    """Return the runs of a dataset with a dimension ``run``, by name; {} for one without."""
    if "run" not in ds.dims:
        return {}
    names = ds["run"].values if "run" in ds.coords else range(ds.sizes["run"])
    return {str(name): ds.isel(run=n, drop=True) for n, name in enumerate(names)}


def require_alike(ds: xr.Dataset) -> None:
    """Refuse runs that are stored to be of several configurations, where they would be averaged as replicates.

    Raises
    ------
    TrajectoryError
        If what is stored of their making differs by more than chance; runs of which nothing is stored are taken as they
        are given.
    """
    runs = runs_of(ds)
    if len({_said(name, run) for name, run in runs.items()}) < 2:
        return
    groups = configurations(runs)
    several = ", ".join(
        f"{printable(name, 40)} ({len(members)})" for name, members in list(groups.items())[:_MOST_NAMED]
    )
    more = f" and {len(groups) - _MOST_NAMED} more" if len(groups) > _MOST_NAMED else ""
    raise TrajectoryError(
        f"these runs are of {len(groups)} configurations, "
        f"so their mean is of nothing that was trained: {several}{more}. "
        "Draw the runs of one, ds.sel(run=[…]), or one picture for each."
    )
