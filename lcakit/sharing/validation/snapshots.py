"""Snapshots that are equal though they should differ, and single tensors of them.

A few parameters of each tensor are compared between all snapshots, bit by bit; what looks equal by them is read and
compared in full. Tensors that never move (frozen layers) and stretches without a move are no finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from lcakit.sharing.validation.checks import Check, listed
from lcakit.trajectory.labels import runs_of

__all__ = ["checks", "probes"]


def __dir__() -> list[str]:
    return __all__


PROBES = 64
"""Parameters of a tensor that are compared first."""

SMALLEST = 8
"""Parameters that a tensor must have: a few numbers may well return to where they were."""

MOST_READ = 16
"""Pairs of snapshots that are read in full."""

SAME_LOSS = 1e-5
"""The loss of equal parameters differs by less than this fraction, whatever the order of its sums."""

AGAIN = "Compare with the original checkpoints; get the file again, or record it again."

Pair = tuple[int, int]


def probes(ds: xr.Dataset) -> dict[str, Any]:
    """Return, lazy, the parameters that are compared first, (…, snapshot, probe); empty without ``theta``."""
    if "theta" not in ds or "parameter" not in ds["theta"].dims or not ds["theta"].size or "tensor_index" not in ds:
        return {}
    return {"probes": ds["theta"].transpose(..., "snapshot", "parameter").isel(parameter=_places(ds)[0])}


def _places(ds: xr.Dataset) -> tuple[np.ndarray, list[tuple[int, slice, slice]]]:
    """Return the places of all probes, and of each tensor: its row, its parameters, its probes."""
    rng = np.random.default_rng(0)
    starts, rows = runs_of(ds["tensor_index"].values)
    found: list[np.ndarray] = []
    parts, done = [], 0
    for row, (a, b) in zip(rows, pairwise([*starts, ds.sizes["parameter"]]), strict=True):
        here = np.arange(a, b) if b - a <= PROBES else np.unique(rng.integers(a, b, PROBES))
        parts.append((int(row), slice(int(a), int(b)), slice(done, done := done + here.size)))
        found.append(here)
    return np.concatenate(found), parts


def checks(ds: xr.Dataset, found: Mapping[str, Any]) -> Iterator[Check]:
    """Yield the checks of equal snapshots and tensors, from what :func:`probes` gave, computed."""
    if not found or ds.sizes.get("snapshot", 0) < 3:
        return
    runs = range(ds.sizes["run"]) if "run" in ds.dims else [None]
    wholes, tensors, wrong = [], [], False
    for run in runs:
        one = ds if run is None else ds.isel(run=run)
        bits = _bits(found["probes"].values if run is None else found["probes"].values[run])
        pairs = [pair for pair in _returns(bits)[:MOST_READ] if _same(one, pair, slice(None))]
        wrong = wrong or any(_other_loss(one, pair) for pair in pairs)
        wholes += [_told("the parameters", one, pair) for pair in pairs]
        tensors += list(_tensors(one, bits, set(pairs)))
    meaning = "Training does not come back, bit by bit, to parameters that it has left."
    if wrong:
        meaning += " Equal parameters cannot have different losses."
    fine = f"{ds.sizes['snapshot']} snapshots, none like an earlier one that it does not follow"
    worst: Any = "fail" if wrong else "warn"
    yield listed("returning snapshots", "content", wholes, fine, meaning, AGAIN, worst=worst)
    meaning = "A tensor that moves with the others neither stops for a single step nor comes back to what it was."
    yield listed("returning tensors", "content", tensors, "none", meaning, AGAIN, worst="warn")


def _told(what: str, ds: xr.Dataset, pair: Pair) -> str:
    steps = ds["snapshot"].values if "snapshot" in ds.coords else np.arange(ds.sizes["snapshot"])
    return f"{what} at step {steps[pair[1]]} are those at step {steps[pair[0]]}"


def _returns(bits: np.ndarray) -> list[Pair]:
    """Return pairs of equal rows with other rows between them."""
    rows = bits.view(np.dtype((np.void, bits.shape[-1] * bits.dtype.itemsize))).reshape(-1)
    _, kind = np.unique(rows, return_inverse=True)
    last: dict[int, int] = {}
    out = []
    for row, name in enumerate(kind.reshape(-1).tolist()):
        if name in last and row > last[name] + 1:
            out.append((last[name], row))
        last[name] = row
    return out


def _same(ds: xr.Dataset, pair: Pair, part: slice) -> bool:
    """Say whether two snapshots are equal in full; they are read one after the other."""
    theta = ds["theta"].transpose("snapshot", "parameter").isel(parameter=part)
    first, second = (_bits(theta.isel(snapshot=row).values) for row in pair)
    return bool(np.array_equal(first, second))


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def _other_loss(ds: xr.Dataset, pair: Pair) -> bool:
    if "loss" not in ds or "buffer_change" in ds:  # buffers may move a loss, too
        return False
    a, b = (float(x) for x in ds["loss"].isel(snapshot=list(pair)).values)
    return abs(a - b) > SAME_LOSS * max(abs(a), abs(b))


def _tensors(ds: xr.Dataset, bits: np.ndarray, whole: set[Pair]) -> Iterator[str]:
    """Yield what is said of single tensors, where the whole snapshots differ."""
    moved = (bits[1:] != bits[:-1]).any(axis=1)
    read = 0
    for row, place, part in _places(ds)[1]:
        if place.stop - place.start < SMALLEST:
            continue
        own = np.ascontiguousarray(bits[:, part])
        still = ~(own[1:] != own[:-1]).any(axis=1) & moved
        rare = 0 < still.sum() <= moved.sum() / 20  # else it is frozen for a stretch
        pairs = [(int(t), int(t) + 1) for t in np.flatnonzero(still)] if rare else []
        for pair in [*(pair for pair in _returns(own) if pair not in whole), *pairs]:
            if read < MOST_READ and _same(ds, pair, place):
                yield _told(f"those of {ds['tensor'].values[row]}", ds, pair)
            read += 1
