"""Pruning: which weights of a trained network to keep, by what their moves did to the loss or by other measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import unknown
from lcakit.experiments.constrained import train_to_end
from lcakit.experiments.run import Run
from lcakit.record.objective.objective import Objective
from lcakit.trajectory.labels import group_ids
from lcakit.trajectory.require import require

__all__ = ["CRITERIA", "RANKINGS", "compare_pruned", "importance", "kept"]


def __dir__() -> list[str]:
    return __all__


CRITERIA = ("lca", "magnitude", "movement", "random")
"""What says that a weight matters: how much it helped, its size, how far it has moved; or nothing."""

RANKINGS = ("layer", "network")
"""Each layer loses the same share, or the network as a whole."""

_NEVER = np.iinfo(np.int64).max


def importance(ds: xr.Dataset, criterion: str, seed: int = 0) -> np.ndarray:
    r"""Return how much each parameter matters by a criterion; larger is more.

    .. math:: -\sum_t A_i[t] \;(\mathrm{lca}), \quad |θ_i[T]| \;(\mathrm{magnitude}), \quad
              |θ_i[T] - θ_i[0]| \;(\mathrm{movement}), \quad U(0, 1) \;(\mathrm{random})

    Parameters
    ----------
    ds
        Trajectory of one run with ``theta``, and for ``lca`` with LCA or its running sum (``total_lca``).
    criterion
        One of :data:`CRITERIA`.
    seed
        Of ``random``.

    Returns
    -------
    ndarray
        (K,) float64; nats for ``lca``, units of the weights for magnitude and movement.

    Raises
    ------
    ValueError
        For an unknown criterion.
    TrajectoryError
        If the file does not hold what is needed.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> ds = tiny_trajectory()
    >>> bool(np.isclose(importance(ds, "lca").sum(), ds["loss"][0] - ds["loss"][-1], atol=1e-5))
    True
    """
    if criterion not in CRITERIA:
        raise unknown("criterion", criterion, CRITERIA)
    if criterion == "random":
        return np.random.default_rng(seed).random(ds.sizes["parameter"])
    if criterion == "lca":
        total = ds["total_lca"] if "total_lca" in ds else require(ds, "lca").astype(np.float64).sum("iteration")
        return -np.asarray(total, np.float64)
    first, last = (require(ds, "theta").isel(snapshot=k).values.astype(np.float64) for k in (0, -1))
    found: np.ndarray = np.abs(last if criterion == "magnitude" else last - first)
    return found


def kept(importance: np.ndarray, sparsity: float, groups: np.ndarray) -> np.ndarray:
    r"""Return which weights stay: in each group the :math:`n - \mathrm{round}(s\, n)` that matter most.

    Parameters
    ----------
    importance
        (K,); of equal ones the first stay.
    sparsity
        s, the share that is pruned, from 0 to 1.
    groups
        (K,) int; a share s of each group is pruned. −1: never pruned.

    Returns
    -------
    ndarray
        (K,) bool.

    Raises
    ------
    ValueError
        For a sparsity outside of 0 to 1.

    Examples
    --------
    >>> kept(np.array([3.0, 1.0, 2.0, 0.0]), 0.5, np.array([0, 0, 0, -1]))
    array([ True, False, False,  True])
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"the sparsity is a share of the weights, 0 to 1; got {sparsity}")
    stays = np.ones(len(importance), bool)
    for group in np.unique(groups[groups >= 0]):
        members = np.flatnonzero(groups == group)
        order = members[np.argsort(-importance[members], kind="stable")]
        stays[order[len(order) - round(sparsity * len(order)) :]] = False
    return stays


def compare_pruned(
    ds: xr.Dataset,
    run: Run,
    test: Objective,
    sparsities: Sequence[float],
    *,
    criteria: Sequence[str] = CRITERIA,
    rankings: Sequence[str] = RANKINGS,
    iterations: int | None = None,
) -> xr.Dataset:
    """Prune a trained network by each criterion, look at it, and train what is left.

    Kernels are pruned: their weights are set to zero and held there. Biases and norm layers stay whole. Training goes
    on from the pruned weights with the settings and batches of the run, its momentum at zero.

    Parameters
    ----------
    ds, run
        Trajectory of one run, and the run.
    test
        The loss over the test set.
    sparsities
        Shares of the kernels' weights that are pruned. 0 is a network that is only trained for longer.
    criteria, rankings
        Parts of :data:`CRITERIA` and :data:`RANKINGS`.
    iterations
        Of training after pruning; None: as many as the run had.

    Returns
    -------
    Dataset
        ``loss`` and ``accuracy`` over the test set, of the pruned network and of one whose moves are undone (the same
        weights put back to where they began instead: ``undone_loss``, ``undone_accuracy``), and after training what was
        pruned to zero, ``retrained_loss``, ``retrained_accuracy``; each (ranking, criterion, sparsity).

    Raises
    ------
    ValueError
        For an unknown criterion or ranking, or a sparsity outside of 0 to 1.
    TrajectoryError
        If the file does not hold what is needed.
    """
    data, longer = run.data(), run if iterations is None else dataclasses.replace(run, iterations=iterations)
    first, last = (require(ds, "theta").isel(snapshot=k).values for k in (0, -1))
    matters = {name: importance(ds, name, run.seed) for name in criteria}

    def prune(ranking: str, criterion: str, sparsity: float) -> dict[str, float]:
        stays = kept(matters[criterion], sparsity, _groups(ds, ranking))
        pruned = np.where(stays, last, np.zeros_like(last))
        trained = train_to_end(longer, data, start=pruned, frozen_from=np.where(stays, _NEVER, 0))
        points = {"": pruned, "undone_": np.where(stays, last, first), "retrained_": trained}
        found = {name: test.evaluate(theta, gradient=False) for name, theta in points.items()}
        losses = {f"{name}loss": one.loss for name, one in found.items()}
        return losses | {f"{name}accuracy": one.accuracy for name, one in found.items()}

    rows = [[[prune(r, c, s) for s in sparsities] for c in criteria] for r in rankings]
    dims = ("ranking", "criterion", "sparsity")
    coords: dict[str, Any] = dict(zip(dims, (list(rankings), list(criteria), list(sparsities)), strict=True))
    names = rows[0][0][0]
    values = {name: (dims, np.array([[[one[name] for one in c] for c in r] for r in rows])) for name in names}
    return xr.Dataset(values, coords=coords)


def _groups(ds: xr.Dataset, ranking: str) -> np.ndarray:
    """Return the group of each parameter in which its kernel is pruned, −1 where it is no kernel."""
    if ranking not in RANKINGS:
        raise unknown("ranking", ranking, RANKINGS)
    roles, names = group_ids(ds, "role")
    kernels = np.asarray(names.values.astype(str)[roles] == "kernel")
    ids = group_ids(ds, "layer")[0] if ranking == "layer" else np.zeros(len(kernels), int)
    out: np.ndarray = np.where(kernels, ids, -1)
    return out
