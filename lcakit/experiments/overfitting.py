"""Overfitting held back where it happens: decay or a stop for the units that help training and hurt validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import sum_by
from lcakit.experiments.constrained import train_to_end
from lcakit.experiments.data import ImageData
from lcakit.experiments.run import Run
from lcakit.record.objective.objective import Objective
from lcakit.trajectory.labels import group_ids

__all__ = ["TREATMENTS", "compare_regularized", "overfitting_groups", "stopping_iterations"]


def __dir__() -> list[str]:
    return __all__


TREATMENTS = ("none", "decay", "decay_overfitting", "decay_random", "freeze_overfitting", "freeze_random", "stop")
"""Nothing; decay of all, of the groups that overfit, of as many at random; these frozen; all stopped together."""

_NEVER = np.iinfo(np.int64).max


def overfitting_groups(ds: xr.Dataset, by: str = "unit", start: int = 0, val: str = "val") -> xr.DataArray:
    r"""Say which groups help the training loss and hurt the validation loss, from an iteration on.

    .. math:: \sum_{t \ge t_0} \sum_{i \in g} A_i[t] < 0 \quad\text{and}\quad
              \sum_{t \ge t_0} \sum_{i \in g} A^{val}_i[t] > 0

    Parameters
    ----------
    ds
        Trajectory of one run with LCA of both losses.
    by
        A grouping of :func:`lcakit.aggregate.sum_by`, such as ``"unit"`` or ``"kernel_layer"``.
    start
        Position t_0 of the first iteration that counts.
    val
        Suffix of the validation loss.

    Returns
    -------
    DataArray
        (by), bool.

    Raises
    ------
    TrajectoryError
        If the file does not hold both.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> ds = tiny_trajectory()
    >>> overfitting_groups(ds.assign(lca_val=-ds["lca"]), "kernel_layer").values
    array([ True,  True])
    """
    train, validation = (_late(ds, by, name, start).sum("iteration") for name in ("lca", f"lca_{val}"))
    return (train < 0) & (validation > 0)


def stopping_iterations(ds: xr.Dataset, by: str = "unit", val: str = "val") -> xr.DataArray:
    r"""Return, for each group, the iteration from which on it did no more for the validation loss.

    .. math:: \operatorname*{argmin}_{0 \le t \le T} \sum_{s < t} \sum_{i \in g} A^{val}_i[s]

    Frozen from t on, the group ends where the sum of its validation LCA is lowest.

    Returns
    -------
    DataArray
        (by), int64, positions from 0 (it never helped) to T (it is lowest at the end).

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> ds = tiny_trajectory()
    >>> stopping_iterations(ds.assign(lca_val=abs(ds["lca"])), "kernel_layer").values
    array([0, 0])
    """
    total = _late(ds, by, f"lca_{val}", 0).cumsum("iteration").transpose("iteration", ...)
    return total.pad(iteration=(1, 0), constant_values=0.0).argmin("iteration").astype(np.int64)


def _late(ds: xr.Dataset, by: str, name: str, start: int) -> xr.DataArray:
    return sum_by(ds, by, name).isel(iteration=slice(start, None)).astype(np.float64).compute()


def compare_regularized(
    ds: xr.Dataset,
    run: Run,
    data: ImageData,
    validation: Objective,
    test: Objective,
    decays: Sequence[float],
    by: str = "unit",
) -> xr.Dataset:
    r"""Train again with each of :data:`TREATMENTS`; look at the loss over data that decided nothing.

    The groups that overfit are those of the plain run (:func:`overfitting_groups`) after the iteration where its
    validation loss was lowest. Decay acts on their parameters from the beginning; of each treatment with decay the
    :math:`λ` with the lowest validation loss at the end counts. ``freeze_overfitting`` freezes each at its own
    :func:`stopping_iterations`; ``stop`` ends training as a whole where the validation loss was lowest. The random
    groups are as many, with the same stops.

    Parameters
    ----------
    ds
        The plain run, with ``lca``, ``lca_val`` and ``loss_val``.
    run, data
        What was trained, on what.
    validation, test
        The loss that chooses (that of ``lca_val``), and another one, that is reported.
    decays
        Values of λ.
    by
        Grouping of the parameters.

    Returns
    -------
    Dataset
        ``test_loss``, ``test_accuracy``, ``validation_loss``, ``decay`` (the λ chosen, or 0), each (treatment); and
        ``groups``, ``parameters``: how many overfit, and the share of parameters in them.
    """
    ids, names = group_ids(ds, by)
    lowest = int(np.argmin(ds["loss_val"].values))
    chosen = overfitting_groups(ds, by, lowest).values
    stops = stopping_iterations(ds, by).values
    until = np.where(chosen, stops, _NEVER)
    shuffled = np.random.default_rng(run.seed).permutation(names.size)

    def decayed(groups: np.ndarray) -> tuple[float, np.ndarray]:
        tried = {rate: train_to_end(run, data, decay=rate * groups[ids]) for rate in decays}
        best = min(tried, key=lambda rate: validation.loss(tried[rate]))
        return best, tried[best]

    def frozen(groups: np.ndarray) -> tuple[float, np.ndarray]:
        return 0.0, train_to_end(run, data, frozen_from=groups[ids])

    trained: dict[str, Callable[[], tuple[float, np.ndarray]]] = {
        "none": lambda: (0.0, ds["theta"].values[-1]),
        "decay": lambda: decayed(np.ones(names.size, bool)),
        "decay_overfitting": lambda: decayed(chosen),
        "decay_random": lambda: decayed(chosen[shuffled]),
        "freeze_overfitting": lambda: frozen(until),
        "freeze_random": lambda: frozen(until[shuffled]),
        "stop": lambda: (0.0, ds["theta"].values[lowest]),
    }
    rows = [_looked_at(*trained[name](), validation, test) for name in TREATMENTS]
    values: dict[str, Any] = {key: ("treatment", [row[key] for row in rows]) for key in rows[0]}
    values |= {"groups": int(chosen.sum()), "parameters": float(chosen[ids].mean())}
    return xr.Dataset(values, coords={"treatment": list(TREATMENTS)})


def _looked_at(rate: float, theta: np.ndarray, validation: Objective, test: Objective) -> dict[str, float]:
    end = test.evaluate(theta, gradient=False)
    found = {"test_loss": end.loss, "test_accuracy": end.accuracy}
    return found | {"validation_loss": validation.loss(theta), "decay": rate}
