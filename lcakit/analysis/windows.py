"""Helping in windows of training: how the share of parameters that help changes over time."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from lcakit.analysis.aggregate import windowed
from lcakit.analysis.outcomes import outcome_counts, share_helping
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.require import recorded, require, require_iterations

__all__ = ["WINDOWS", "helping_by_window"]


def __dir__() -> list[str]:
    return __all__


WINDOWS = (1, 10, 100)
"""Sizes of windows, unless others are asked for."""


@of_trajectories
def helping_by_window(ds: xr.Dataset, windows: Sequence[int] | None = None, lca: str = "lca") -> xr.DataArray:
    r"""Return the fraction of moving parameters that help, as a function of the window LCA is summed over.

    .. math:: f[n] = \operatorname{mean}_w \frac{\#\{i : A_w[i] < 0\}}{\#\{i : A_w[i] \ne 0\}}, \quad
              A_w[i] = \sum_{t \in w} A[t, i], \quad |w| = n

    In a single iteration barely more than half of the parameters help; over the whole run most do. Only whole windows
    count: iterations after the last one are left out, as sums over fewer of them are not comparable.

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter).
    windows
        Numbers of recorded iterations, each 1 … T; by default 1, 10 and 100, as far as the run is that long. See
        :func:`lcakit.aggregate.window_lca`.
    lca
        Name of the variable; ``"lca_val"`` for another objective.

    Returns
    -------
    DataArray
        (window_size), from 0 to 1. A window in which every LCA is zero does not count; NaN where all are so. Lazy.

    Raises
    ------
    TrajectoryError
        If there is no iteration, or the file does not hold ``lca``.
    ValueError
        For an empty list of windows, or one that is longer than the run or not a whole number.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> helping_by_window(tiny_trajectory(), [1, 12]).round(2).values
    array([0.55, 0.92])
    """
    array = require(ds, lca)
    most = require_iterations(array)
    sizes = [n for n in WINDOWS if n <= most] if windows is None else [int(n) for n in windows]
    if not sizes:
        raise ValueError("windows is empty; allowed: one or more numbers of iterations")
    shares = [share_helping(outcome_counts(ds, _whole_windows(array, n), by=None)).mean("window") for n in sizes]
    out = xr.concat(shares, dim=xr.DataArray(sizes, dims="window_size", name="window_size"))
    out["window_size"].attrs = {"long_name": recorded(ds, "iterations of a window"), "units": "1"}
    return out.rename("fraction_helping").assign_attrs(long_name="fraction helping (zeros ignored)", units="1")


def _whole_windows(array: xr.DataArray, size: int) -> xr.DataArray:
    """Return sums over windows of iterations, without the incomplete one at the end."""
    sums = windowed(array, size)
    return sums.isel(window=slice(0, array.sizes["iteration"] // size))
