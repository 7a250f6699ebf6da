"""Curves of steps to a target over batch sizes: where larger batches are wasted, and what an optimizer saves."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lcakit.errors import unknown
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["critical_batch_size", "speed_up"]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
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
    examples, sizes = examples[~np.isnan(examples)], sizes[~np.isnan(examples)]
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


@checks_arguments
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
