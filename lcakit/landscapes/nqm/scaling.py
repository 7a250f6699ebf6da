"""What a larger batch is worth: the critical batch size, speed-ups, and when momentum is only a learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import unknown
from lcakit.landscapes.nqm.expectation import expected_loss
from lcakit.landscapes.nqm.optimizer import Optimizer
from lcakit.landscapes.nqm.problem import NoisyQuadratic


def critical_batch_size(curves: xr.Dataset) -> xr.DataArray:
    r"""Return the batch size from which on larger batches are wasted, on a curve of steps to a target.

    .. math:: B^* S(B^*) = 2 \min_B B\, S(B)

    that is where twice as many examples are needed as at best. Below it, twice the batch takes (almost) half the steps;
    where the curve is :math:`S_{min} (1 + B^* / B)` it is that :math:`B^*`. Interpolated between the batch sizes of the
    curve, in logarithms.

    Parameters
    ----------
    curves
        From :func:`tuned_steps` or :func:`compare_optimizers`: ``steps`` ([optimizer,] batch_size).

    Returns
    -------
    DataArray
        Without dimensions, or (optimizer). Infinite where it lies beyond the curve, NaN where no batch size reaches
        the target.

    Raises
    ------
    ValueError
        If the curves have fewer than two batch sizes.

    Examples
    --------
    >>> sizes = 2.0 ** np.arange(12)
    >>> curve = xr.Dataset({"steps": ("batch_size", 10 * (1 + 64 / sizes))}, {"batch_size": sizes})
    >>> round(critical_batch_size(curve).item())
    66
    """
    if curves.sizes.get("batch_size", 0) < 2:
        raise ValueError("a critical batch size needs steps at two or more batch sizes: ask tuned_steps for several")
    ordered = curves["steps"].sortby("batch_size")
    out: xr.DataArray = xr.apply_ufunc(
        _critical,
        ordered,
        kwargs={"sizes": ordered["batch_size"].values.astype(np.float64)},
        input_core_dims=[["batch_size"]],
        vectorize=True,
    )
    return out.rename("critical_batch_size").assign_attrs(long_name="critical batch size", units="examples")


def _critical(steps: np.ndarray, sizes: np.ndarray) -> float:
    examples = steps * sizes
    if not np.isfinite(examples).any():
        return np.nan
    best = int(np.argmin(examples))
    over = np.flatnonzero(examples[best:] >= 2 * examples[best])
    if not over.size:
        return np.inf
    n = best + int(over[0])
    logs = np.log(examples[n - 1 : n + 1] / (2 * examples[best]))
    share = -logs[0] / (logs[1] - logs[0])
    return float(sizes[n - 1] * (sizes[n] / sizes[n - 1]) ** share)


def speed_up(curves: xr.Dataset, baseline: str = "sgd") -> xr.DataArray:
    r"""Return how many times fewer steps each optimizer needs than another one.

    .. math:: S_{baseline}(B) / S(B)

    Parameters
    ----------
    curves
        From :func:`compare_optimizers`: ``steps`` (optimizer, batch_size).
    baseline
        Name of one of them.

    Returns
    -------
    DataArray
        (optimizer, batch_size). Infinite where only the baseline misses the target, NaN where both do.

    Raises
    ------
    ValueError
        If there is no such optimizer.
    """
    if "optimizer" not in curves.dims:
        raise ValueError("speed-ups compare several optimizers: get their curves from compare_optimizers")
    names = [str(name) for name in curves["optimizer"].values]
    if baseline not in names:
        raise unknown("optimizer", baseline, names)
    steps = curves["steps"]
    out = steps.sel(optimizer=baseline, drop=True) / steps
    return out.transpose(*steps.dims).rename("speed_up").assign_attrs(long_name=f"speed-up over {baseline}", units="1")


def momentum_equivalence(
    problem: NoisyQuadratic, optimizer: Optimizer, batch_size: Any, snapshots: int | Iterable[int]
) -> xr.Dataset:
    r"""Compare momentum with SGD at the learning rate :math:`α / (1 - β)`.

    At small batches the learning rate has to be small, and then the two are the same: with
    :math:`s = θ - \frac{αβ}{1-β} m`,

    .. math:: s(t+1) = s(t) - \frac{α}{1 - β}\, g(t)

    exactly, and θ differs from s by what momentum holds, which is little while :math:`αk \ll (1 - β)^2`.

    Parameters
    ----------
    optimizer
        With momentum.
    batch_size, snapshots
        As for :func:`expected_loss`.

    Returns
    -------
    Dataset
        ``loss`` (optimizer[, batch_size, snapshot]) for ``momentum`` and ``sgd``, and the ``ratio`` of the two.

    Raises
    ------
    ValueError
        If the optimizer has no momentum.

    Warns
    -----
    LcakitWarning
        If SGD is unstable with that learning rate.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import paper_problem
    >>> small = momentum_equivalence(paper_problem(100), Optimizer(1e-4, momentum=0.9), 1, [10_000])
    >>> round(small["ratio"].item(), 3)
    1.0
    """
    if not optimizer.momentum:
        raise ValueError("the optimizer has no momentum: give it some, Optimizer(…, momentum=0.9)")
    pair = {"momentum": optimizer, "sgd": optimizer.without_momentum()}
    losses = [expected_loss(problem, one, batch_size, snapshots) for one in pair.values()]
    dim = xr.DataArray(list(pair), dims="optimizer", name="optimizer")
    both = [loss.drop_vars("learning_rate") for loss in losses]
    loss = xr.concat(both, dim=dim, combine_attrs="override")
    ratio = (both[0] / both[1]).assign_attrs(long_name="loss with momentum / loss of SGD", units="1")
    return xr.Dataset({"loss": loss, "ratio": ratio})
