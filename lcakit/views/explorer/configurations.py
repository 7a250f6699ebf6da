"""Runs that differ only in chance (their seeds) belong together: configurations, named by their files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import xarray as xr

from lcakit.trajectory.provenance import config_of

__all__ = ["configurations"]


def __dir__() -> list[str]:
    return __all__


_OF_CHANCE = ("seed", "command", "subset_seed", "device", "threads")
"""What does not make a run another configuration."""
_NUMBER = re.compile(r"[-_. ]*\d+$")


def configurations(runs: Mapping[str, xr.Dataset]) -> dict[str, list[str]]:
    """Return the configurations of runs, by name.

    Runs are of one configuration if what is stored of their making is the same but for seeds; where nothing is stored,
    if their names are the same but for a number at the end. A configuration is called what its names have in common and
    those of others have not: ``frozen`` and ``plain`` for ``resnet-frozen-0``, ``resnet-frozen-1``, ``resnet-plain-0``.

    Examples
    --------
    >>> configurations(dict.fromkeys(["fc-sgd-0", "fc-sgd-1", "fc-adam-0"], xr.Dataset()))
    {'sgd': ['fc-sgd-0', 'fc-sgd-1'], 'adam': ['fc-adam-0']}
    """
    groups: dict[str, list[str]] = {}
    for run, ds in runs.items():
        groups.setdefault(_made(run, ds), []).append(run)
    stems = [_NUMBER.sub("", members[0]) or members[0] for members in groups.values()]
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
    config = {key: value for key, value in config_of(ds).items() if key not in _OF_CHANCE}
    return json.dumps(config, sort_keys=True) if config else _NUMBER.sub("", run)
