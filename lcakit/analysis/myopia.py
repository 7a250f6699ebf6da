"""Is LCA myopic? Does what a parameter does in one iteration agree with what it does over many?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError, unknown
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.arguments import checks_itself
from lcakit.trajectory.require import recorded, require, require_iterations

__all__ = ["PLACES", "WINDOWS", "sign_agreement"]


def __dir__() -> list[str]:
    return __all__


WINDOWS = (2, 10, 100)
"""Sizes of windows, unless others are asked for."""

PLACES = ("start", "centre")
"""Where in its window an iteration lies."""

_TILE = 2**17  # numbers at a time, so that the running sums stay in the cache
_TALLIES = 6
_NAMES = {
    "agreement": "share of signs that agree with the window's",
    "agreement_others": "share of signs that agree with the rest of the window",
    "rms": "root mean square of LCA summed over a window",
    "growth": "root mean square over that of independent iterations",
}


@of_trajectories
@checks_itself(windows=Sequence[float] | None)
def sign_agreement(
    ds: xr.Dataset, windows: Sequence[int] | None = None, at: str = "start", lca: str = "lca"
) -> xr.Dataset:
    r"""Return how often the sign of one iteration's LCA agrees with that of a window of iterations.

    .. math:: W_n[t, i] = \sum_{s=t}^{t+n-1} A[s, i], \qquad
              \mathrm{agreement}[n] = \frac{\#\{(t, i): A[t, i]\, W_n[t, i] > 0\}}
                                           {\#\{(t, i): A[t, i]\, W_n[t, i] \ne 0\}}

    The window holds the iteration itself, so it agrees more often than not even where iterations are independent (of
    normal numbers, :math:`1/2 + \arcsin(1/\sqrt n)/π` do). ``agreement_others`` compares with the rest of the window,
    :math:`W_n - A`: one half where what a parameter does now says nothing about what it does next, whatever the shape
    of the (symmetric) distribution. ``growth`` asks the same of sizes,

    .. math:: \mathrm{growth}[n] = \sqrt{\sum_{t,i} W_n[t, i]^2 \Big/ \sum_{t,i} \sum_{s=t}^{t+n-1} A[s, i]^2}

    1 where iterations are independent, :math:`\sqrt n` where each repeats the last, below 1 where they cancel.

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter), or a selection of one (a layer: ``ds.lk.sel(layer=…)``).
    windows
        Numbers of recorded iterations n, each 2 … T; by default 2, 10 and 100, as far as the run is that long. Only
        whole windows count, T − n + 1 for each parameter.
    at
        Where the iteration is in its window: ``"start"``: the window is it and what follows; ``"centre"``: the window
        begins n // 2 iterations before it.
    lca
        Name of the variable.

    Returns
    -------
    Dataset
        (window_size), float64: ``agreement``, ``agreement_others`` (pairs of which one is zero do not count: such a
        parameter neither helps nor hurts; NaN where none is left), ``rms`` of :math:`W_n` (in the unit of the loss,
        zeros included) and ``growth``. With a leading ``run`` where ``ds`` has one. Lazy; a block of the data is made
        to hold at least n iterations.

    Raises
    ------
    TrajectoryError
        If the file does not hold the variable, it has no iterations or parameters, or there is no iteration.
    ValueError
        For a place that is none, a window that is empty or longer than the run, or a run of a single iteration.

    Notes
    -----
    Not in the paper; a question of its reviewers.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> sign_agreement(tiny_trajectory(), [2, 6])["agreement"].sizes
    Frozen({'window_size': 2})
    """
    array = require(ds, lca)
    if not {"iteration", "parameter"} <= set(array.dims):
        raise TrajectoryError(f"{lca!r} has dimensions {array.dims}; expected 'iteration' and 'parameter'")
    if at not in PLACES:
        raise unknown("place in the window", at, PLACES)
    array = array.transpose(..., "iteration", "parameter")
    sizes = _sizes(windows, require_iterations(array))
    parts = [_window(array, n, n // 2 if at == "centre" else 0) for n in sizes]
    out = xr.concat(parts, dim=xr.DataArray(sizes, dims="window_size", name="window_size"))
    for name, text in _NAMES.items():
        units = array.attrs.get("units", "1") if name == "rms" else "1"
        out[name] = out[name].transpose(..., "window_size").assign_attrs(long_name=text, units=units)
    out["window_size"].attrs = {"long_name": recorded(ds, "iterations of a window"), "units": "1"}
    return out


def _sizes(windows: Sequence[int] | None, iterations: int) -> list[int]:
    if iterations < 2:
        raise ValueError("the run has a single iteration, and a window needs 2: record or select more of them")
    if windows is None:
        return [n for n in WINDOWS if n <= iterations]
    sizes = [int(n) for n in windows]
    if not sizes:
        raise ValueError("windows is empty; allowed: one or more numbers of iterations")
    for n, given in zip(sizes, windows, strict=True):
        if n != given or not 2 <= n <= iterations:
            raise ValueError(
                f"a window must have 2 to {iterations} iterations (the run has {iterations}), got {given!r}"
            )
    return sizes


def _window(array: xr.DataArray, size: int, place: int) -> xr.Dataset:
    """Return the four measures for one size, without ``window_size``."""
    dims = array.dims[:-2]
    coords = {name: c for name, c in array.coords.items() if set(c.dims) <= set(dims)}
    sums = _tallied(array.data, size, place)
    agree, both, agree_others, both_others, squares, independent = (
        xr.DataArray(sums[..., k], dims=dims, coords=coords) for k in range(_TALLIES)
    )
    pairs = (array.sizes["iteration"] - size + 1) * array.sizes["parameter"]
    return xr.Dataset(
        {
            "agreement": agree / both.where(both > 0),
            "agreement_others": agree_others / both_others.where(both_others > 0),
            "rms": (squares / pairs) ** 0.5,
            "growth": (squares / independent.where(independent > 0)) ** 0.5,
        }
    )


def _tallied(data: Any, size: int, place: int) -> Any:
    """Reduce an array (…, T, K) to (…, _TALLIES): each block gets the rows after it that its windows reach into."""
    if not isinstance(data, da.Array):
        return _tally(np.asarray(data), size, place)[..., 0, :, 0]
    rows, columns = data.ndim - 2, data.ndim - 1
    data = da.overlap.overlap(data, depth={rows: (0, size - 1)}, boundary="none")
    chunks = (*data.chunks[:-2], (1,) * data.numblocks[-2], (_TALLIES,), (1,) * data.numblocks[-1])
    options: dict[str, Any] = {"dtype": np.float64, "meta": np.empty((0,) * (data.ndim + 1))}
    parts = data.map_blocks(_tally, size, place, chunks=chunks, new_axis=rows + 1, **options)
    return parts.sum(axis=(rows, columns + 1))


def _tally(block: np.ndarray, size: int, place: int) -> np.ndarray:
    """Count over all whole windows of a block (…, t, k): (…, 1, _TALLIES, 1)."""
    starts = block.shape[-2] - size + 1
    out = np.zeros((*block.shape[:-2], 1, _TALLIES, 1))
    step = max(1, _TILE // block.shape[-2])
    for first in range(0, block.shape[-1] if starts > 0 else 0, step):
        rows = block[..., first : first + step].astype(np.float64)
        single = rows[..., place : place + starts, :]
        others = (
            _sums(rows, place)[..., :starts, :] + _sums(rows, size - 1 - place)[..., place + 1 :, :][..., :starts, :]
        )
        whole = single + others
        products = (single * np.sign(whole), single * np.sign(others))  # of signs: small numbers must not underflow
        counts = [n for x in products for n in _positive_and_other(x)]
        squares = [np.square(whole).sum((-2, -1)), _sums(np.square(rows), size).sum((-2, -1))]
        out[..., 0, :, 0] += np.stack([*counts, *squares], axis=-1)
    return out


def _positive_and_other(products: np.ndarray) -> tuple[Any, Any]:
    """Count, over the last two axes, the positive products and those that are not zero; NaN is neither."""
    positive = np.count_nonzero(products > 0, (-2, -1))
    return positive, positive + np.count_nonzero(products < 0, (-2, -1))


def _sums(rows: np.ndarray, size: int) -> np.ndarray:
    """Sum ``size`` neighbouring rows (…, t, k) -> (…, t − size + 1, k), by doubling: no differences of large sums."""
    starts = rows.shape[-2] - size + 1
    out = np.zeros((*rows.shape[:-2], starts, rows.shape[-1]))
    power, step, done = rows, 1, 0
    while step <= size:
        if size & step:
            out += power[..., done : done + starts, :]
            done += step
        step *= 2
        if step <= size:
            power = power[..., : -step // 2, :] + power[..., step // 2 :, :]
    return out
