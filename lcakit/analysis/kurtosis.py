"""Excess kurtosis of LCA: central moments of blocks, merged without the cancellation of raw power sums."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from scipy import special

from lcakit.analysis._summaries import describe, labelled, map_blocks, members
from lcakit.analysis.kernels.missing import any_missing
from lcakit.storage.given import of_trajectories
from lcakit.trajectory.arguments import checks_itself
from lcakit.trajectory.labels import runs_of
from lcakit.trajectory.require import require

__all__ = ["excess_kurtosis"]


def __dir__() -> list[str]:
    return __all__


_GROUPS = 256  # columns of moments that are joined over time at once
_FEWEST = 5  # values that the kurtosis test needs
_LEAST_VARIANCE = 1e-120  # of float32 it is at least 1e-90 or 0; below, fourth powers leave float64
_ROUNDING = 1e-25  # variance by mean²: less is the rounding of the mean; one float32 among 10⁹ others makes more


@of_trajectories
@checks_itself(window=float | str | None)
def excess_kurtosis(
    ds: xr.Dataset, window: int | str | None = None, by: str | None = None, lca: str = "lca"
) -> xr.Dataset:
    r"""Return the excess kurtosis of LCA, 0 for a Gaussian, and its test against one.

    .. math:: κ = m_4 / m_2^2 - 3, \qquad m_p = \frac1n \sum_{(t, i)} (A[t, i] - \bar A)^p

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter).
    window
        What a sample is: None, the parameters in each iteration; a number, those in that many iterations (the last
        window holds what is left); ``"run"``, everything.
    by
        None for the whole network, or a grouping of :func:`lcakit.aggregate.sum_by`.
    lca
        Name of the variable; ``"lca_val"`` for another objective.

    Returns
    -------
    Dataset
        ``excess_kurtosis``, ``n`` (values of the sample that are there), ``z`` and two-sided ``p`` of the
        Anscombe-Glynn test, as :func:`scipy.stats.kurtosistest` has them; over (iteration[, by]), (window[, by]) or
        ([by]). ``window`` is the label of its first iteration and ``window_end`` that of its last. NaN where all values
        are equal or one is NaN, and z and p for fewer than 5 values. The test takes the values as independent, which
        neighbouring iterations and parameters are not, so that p is too small (0 where float64 has no such number).
        Lazy.

    Raises
    ------
    TrajectoryError
        If the file does not hold ``lca``.
    ValueError
        For a window that is not 1 … T, or an unknown grouping.

    Notes
    -----
    Fig. S10 of the paper.

    Central moments of blocks are merged in float64 (Pébay 2008), so that a mean far from zero does no harm.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> excess_kurtosis(tiny_trajectory(), "run")["n"].item()
    732
    """
    array = require(ds, lca)
    dim, ids, names = members(ds, array, by)
    array = array.transpose(..., "iteration", dim)
    size = _window_size(window, array.sizes["iteration"])
    blocks, columns = map_blocks(array.data, ids, _moments_block, 5, True, np.float64)
    data = _join_windows(_join_columns(blocks, columns, names.size), size)
    moments = labelled(data, array.isel(iteration=slice(None, None, size)), "moment", names)
    moments = _name_windows(moments, array["iteration"].values, size, window)
    n, mean, m2, m4 = (moments.isel(moment=row) for row in (0, 1, 2, 4))
    spread = m2.where(m2 > n * np.maximum(_LEAST_VARIANCE, _ROUNDING * mean**2))
    kurtosis = n * m4 / (spread * spread) - 3
    z = xr.apply_ufunc(_anscombe_glynn, kurtosis, n, dask="parallelized", output_dtypes=[np.float64])
    out = xr.Dataset({"excess_kurtosis": kurtosis, "n": n.astype(np.int64), "z": z, "p": 2 * special.ndtr(-np.abs(z))})
    out = describe(out, excess_kurtosis="excess kurtosis of LCA", n="values of the sample")
    return describe(out, z="z of the kurtosis test", p="p of the kurtosis test, two-sided")


def _window_size(window: int | str | None, iterations: int) -> int:
    if window is None or window == "run":
        return 1 if window is None else max(iterations, 1)
    if isinstance(window, str) or not 1 <= window <= iterations or window != int(window):
        raise ValueError(
            f'window must be None, "run" or 1 to {iterations} iterations (the run has them), got {window!r}'
        )
    return int(window)


def _name_windows(moments: xr.DataArray, iterations: np.ndarray, size: int, window: int | str | None) -> xr.DataArray:
    if window is None:
        return moments
    if window == "run":
        return moments.isel(iteration=0, drop=True)
    ends = np.minimum(np.arange(0, iterations.size, size) + size, iterations.size) - 1
    return moments.rename(iteration="window").assign_coords(window_end=("window", iterations[ends]))


def _moments_block(block: np.ndarray, starts: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return n, the mean and the sums of (x − mean)², …³, …⁴ of each group and row, row by row to stay in the cache."""
    lengths = np.diff(np.append(starts, block.shape[-1])).astype(np.float64)
    rows = block.reshape(-1, block.shape[-1])
    out = np.empty((len(rows), 5, starts.size))
    missing = any_missing(block)
    for row, to in zip(rows, out, strict=True):
        x = row.astype(np.float64)
        to[0], to[1] = lengths, np.add.reduceat(x, starts) / lengths
        if missing:
            to[0] -= np.add.reduceat(np.isnan(x), starts, dtype=np.float64)
        x -= np.repeat(to[1], lengths.astype(int))
        square = x * x
        to[2] = np.add.reduceat(square, starts)
        to[3] = np.add.reduceat(np.multiply(x, square, out=x), starts)
        to[4] = np.add.reduceat(np.multiply(square, square, out=square), starts)
    return _join(out.reshape(*block.shape[:-2], 5, starts.size), place, place.max(initial=-1) + 1)


def _join(parts: np.ndarray, ids: np.ndarray, n_groups: int) -> np.ndarray:
    """Join moments (…, 5, part) of the parts of each group: (…, 5, group)."""
    order = np.argsort(ids, kind="stable")
    starts, present = runs_of(np.asarray(ids)[order])
    n, mean, m2, m3, m4 = np.moveaxis(parts[..., order], -2, 0)

    def total(x: np.ndarray) -> np.ndarray:
        return np.add.reduceat(x, starts, axis=-1)

    count = total(n)
    centre = total(n * mean) / np.where(count > 0, count, np.nan)
    d = mean - np.repeat(centre, np.diff(np.append(starts, order.size)), axis=-1)
    out = np.zeros((*parts.shape[:-1], n_groups))
    out[..., 0, present], out[..., 1, present] = count, centre
    out[..., 2, present] = total(m2 + n * d**2)
    out[..., 3, present] = total(m3 + 3 * d * m2 + n * d**3)
    out[..., 4, present] = total(m4 + 4 * d * m3 + 6 * d**2 * m2 + n * d**4)
    return out


def _join_columns(blocks: Any, columns: np.ndarray, n_groups: int) -> Any:
    if not isinstance(blocks, da.Array):
        return _join(blocks, columns, n_groups)
    whole = blocks.rechunk({blocks.ndim - 1: -1})
    options = {"dtype": np.float64, "meta": np.empty((0,) * blocks.ndim)}
    return whole.map_blocks(_join, columns, n_groups, chunks=(*blocks.chunks[:-1], (n_groups,)), **options)


def _join_windows(moments: Any, size: int) -> Any:
    """Join moments (…, iteration, 5, group) over windows of rows."""
    if size == 1:
        return moments
    axis = moments.ndim - 3
    windows = np.arange(moments.shape[axis]) // size
    count = int(windows[-1]) + 1

    def join(block: np.ndarray) -> np.ndarray:
        return np.swapaxes(_join(np.swapaxes(block, axis, -1), windows, count), axis, -1)

    if not isinstance(moments, da.Array):
        return join(moments)
    columns = moments.rechunk({axis: -1, axis + 2: _GROUPS})
    chunks = (*columns.chunks[:axis], (count,), *columns.chunks[axis + 1 :])
    return columns.map_blocks(join, chunks=chunks, dtype=np.float64, meta=np.empty((0,) * moments.ndim))


def _anscombe_glynn(kurtosis: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return z of an excess kurtosis of n values (Anscombe & Glynn 1983); NaN for n < 5."""
    n = np.where(n < _FEWEST, np.nan, n)
    expected = -6 / (n + 1)
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    x = (kurtosis - expected) / np.sqrt(variance)
    skew = 6 * (n * n - 5 * n + 2) / ((n + 7) * (n + 9)) * np.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    freedom = 6 + 8 / skew * (2 / skew + np.sqrt(1 + 4 / skew**2))
    base = 1 + x * np.sqrt(2 / (freedom - 4))
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.where(base == 0, np.nan, np.cbrt((1 - 2 / freedom) / base))
    out: np.ndarray = (1 - 2 / (9 * freedom) - root) / np.sqrt(2 / (9 * freedom))
    return out
