"""Are the classes of LCA those of the losses: each column fits its own loss better than that of another class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

from lcakit.sharing.validation.checks import Check, listed
from lcakit.text import printable

__all__ = ["check"]


def __dir__() -> list[str]:
    return __all__


BETTER = 4.0
"""Another order of the columns must fit so many times better: the residuals of neighbouring classes are alike."""

MOST_CLASSES, MOST_ROWS = 256, 2_000
"""Beyond, the comparison of all pairs would take longer than reading the file; rows are taken evenly."""


def check(ds: xr.Dataset, loss_class: str, values: Mapping[str, Any]) -> Check | None:
    """Compare LCA summed by class with the change of each class's loss, in all orders of the columns."""
    found = {name.partition(" ")[2]: sums for name, sums in values.items() if name.startswith("columns ")}
    if not found or not 1 < ds.sizes["class"] <= MOST_CLASSES or not ds.sizes["iteration"]:
        return None
    changes = ds[loss_class].transpose(..., "snapshot", "class").values.astype(np.float64)
    changes = np.diff(changes, axis=-2).reshape(-1, ds.sizes["class"])
    names = ds["class"].values.astype(str)
    problems = []
    for name, sums in found.items():
        allocated = sums.transpose(..., "iteration", "class").values.reshape(changes.shape)
        order = _order(allocated, changes)
        moved = np.flatnonzero(order != np.arange(names.size))
        problems += [
            f"{name} of {printable(names[c], 40)} fits the loss of {printable(names[order[c]], 40)}" for c in moved
        ]
    meaning = "LCA of a class, summed, follows the loss of this class, not that of another one."
    remedy = "Sort the classes of both alike, or allocate again."
    return listed("class columns", "conservation", problems, f"{names.size} classes in order", meaning, remedy)


def _order(allocated: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Return the class whose loss each column of LCA fits; its own, unless another order is much better."""
    own = np.arange(changes.shape[1])
    step = max(1, len(changes) // MOST_ROWS)
    a, b = allocated[::step], changes[::step]
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return own
    cost = np.array([np.abs(a[:, c, None] - b).sum(axis=0) for c in own])
    order = linear_sum_assignment(cost)[1]
    return order if cost[own, own].sum() > BETTER * cost[own, order].sum() else own
