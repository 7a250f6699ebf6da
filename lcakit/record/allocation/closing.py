"""Do the allocations of a run add up to what its loss did? Said at the end where they cannot, however fine the rule."""

from __future__ import annotations

import math
import warnings

import numpy as np
import xarray as xr

from lcakit.errors import LcakitWarning

__all__ = ["Closing", "warn_unless_closed"]


def __dir__() -> list[str]:
    return __all__


_RULES = ("rk4", "boole")
"""Rules whose account is to close; the others are there to be compared with them."""
_SHARE = 0.1  # of the loss change: far beyond what these rules miss with a gradient that is one
_FINE = 16  # splits
_FEW = 20  # iterations that may each miss by the tolerance, before misses must cancel


class Closing:
    r"""Compares the residuals of a recording with the change of its loss.

    It does not close where

    .. math:: |\sum_t r_t| > 0.1\,|L(θ_T) - L(θ_0)| + \mathrm{tolerance} \cdot \min(T, 20^2 / T)

    or where more than half of the iterations miss by more than the tolerance with 16 splits or more: for a derivative
    the error of the rule falls with the fourth power of the splits.

    Parameters
    ----------
    rule, tolerance
        Those of the allocation; without a tolerance nothing is said.
    """

    def __init__(self, rule: str, tolerance: float | None) -> None:
        self._judges, self._tolerance = rule in _RULES and tolerance is not None, tolerance or 0.0
        self._residual, self._change, self._iterations, self._stuck = 0.0, 0.0, 0, 0

    def add(self, residual: float, change: float, splits: int) -> None:
        """Take an iteration: what its allocations miss of the change of the loss, that change, and the splits."""
        self._stuck += splits >= _FINE and abs(residual) > self._tolerance > 0
        self._residual += residual
        self._change += change
        self._iterations += 1

    def warning(self) -> str | None:
        """Return what there is to say."""
        n, change, miss = self._iterations, self._change, abs(self._residual)
        if not (self._judges and n and math.isfinite(miss)):
            return None
        closes = miss <= _SHARE * abs(change) + self._tolerance * min(n, _FEW**2 / n)
        if closes and 2 * self._stuck <= n:
            return None
        return (
            f"the allocations do not add up: their sum is {change + self._residual:.4g}, and the loss changed by "
            f"{change:.4g}; {self._stuck} of {n} iterations miss by more than the tolerance with {_FINE} splits or "
            "more. Where most do, backward() does not give the derivative of the loss (a straight-through estimator, "
            "detach(), a reversed gradient), so that LCA means little, or the steps are very long; else record with a "
            "smaller tolerance. lk.validate says more."
        )


def warn_unless_closed(allocated: xr.Dataset, rule: str, tolerance: float | None) -> None:
    """Warn of an allocation (loss along snapshots; residual, splits, … along iterations) that does not add up."""
    closing = Closing(rule, tolerance)
    names = ("residual", "splits", "buffer_change")
    rows = {name: allocated[name].values for name in names if name in allocated}
    changes = np.diff(allocated["loss"].values) - rows.get("buffer_change", 0.0)
    for residual, splits, change in zip(rows["residual"], rows["splits"], changes, strict=True):
        closing.add(float(residual), float(change), int(splits))
    if text := closing.warning():
        warnings.warn(text, LcakitWarning, stacklevel=3)
