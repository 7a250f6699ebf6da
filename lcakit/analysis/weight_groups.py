"""Groups of the weights of a kernel: those that share an input or an output, and random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.trajectory.labels import parameter_coord

__all__ = ["RANDOM", "SHARED", "random_groups", "shared_groups"]


def __dir__() -> list[str]:
    return __all__


SHARED = ("output", "input")
RANDOM = ("apart", "any")


def shared_groups(part: xr.Dataset, by: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the group of each weight of a kernel, 0 … n−1, and the labels of the groups."""
    if by == "output":
        units, ids = np.unique(parameter_coord(part, "unit_index"), return_inverse=True)
        rows = np.searchsorted(part["unit"].values, units)
        return ids, {"unit": ("group", units), "unit_channel": ("group", part["unit_channel"].values[rows])}
    inputs, tensors = (parameter_coord(part, name) for name in ("input_index", "tensor_index"))
    if (inputs < 0).any():
        raise TrajectoryError("the weights of this kernel have no inputs (input_index is -1); group them by output")
    pairs, ids = np.unique(np.stack([tensors, inputs]), axis=1, return_inverse=True)  # a layer may have two kernels
    names = part["tensor"].values.astype(str)[pairs[0]]
    return ids.reshape(-1), {"input": ("group", pairs[1]), "tensor": ("group", names)}


def random_groups(part: xr.Dataset, like: str, how: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Return the random group of each weight, and how many there are; weights in none have a group beyond."""
    ids, _ = shared_groups(part, like)
    groups = int(ids.max()) + 1
    return (rng.permutation(ids) if how == "any" else _apart(part, groups, rng)), groups


def _apart(part: xr.Dataset, groups: int, rng: np.random.Generator) -> np.ndarray:
    """Return random groups in which no two weights share an input or an output; other weights are in group ``groups``.

    A random order of the smaller side (say the outputs) is laid beside a random order of the other, moved on by one for
    each further group, as in a Latin square: that makes up to as many disjoint groups as the larger side has members,
    all as large as the smaller side, which is as many such weights as there are.
    """
    row, column = (shared_groups(part, by)[0] for by in SHARED)
    n_rows, n_columns = row.max() + 1, column.max() + 1
    ids = np.full(row.size, groups)
    short, long = min(n_rows, n_columns), max(n_rows, n_columns)
    of_short, of_long = (row, column) if n_rows <= n_columns else (column, row)
    place = rng.permutation(long)  # of each member of the larger side
    start = rng.permutation(long)[:short]  # of each member of the smaller side
    square = (place[of_long] - start[of_short]) % long
    chosen = _one_tap(row, column, rng) & (square < groups)
    ids[chosen] = square[chosen]
    return ids


def _one_tap(row: np.ndarray, column: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose one of the weights between each input and output: convolutions have several, one for each tap."""
    order = rng.permutation(row.size)
    _, first = np.unique((row * (column.max() + 1) + column)[order], return_index=True)
    chosen = np.zeros(row.size, bool)
    chosen[order[first]] = True
    return chosen
