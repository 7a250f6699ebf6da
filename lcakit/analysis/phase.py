"""Do layers move in phase with their gradients, and with each other: lagged correlations.

The paper explains hurting layers by a phase lag (section 4): a layer that reacts a few iterations late moves against
a gradient that has turned meanwhile. Here is the lag itself.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lcakit.analysis.kernels.groups import reduce_groups
from lcakit.analysis.layerwise import layer_lca
from lcakit.storage.given import of_trajectories
from lcakit.trajectory import labels
from lcakit.trajectory.require import recorded, require, require_pairs, require_tables

__all__ = ["MAX_LAG", "phase_lag"]


def __dir__() -> list[str]:
    return __all__


MAX_LAG = 10
"""Largest lag, unless another is asked for."""

_TILE = 8_192  # columns at a time: float64 copies stay small


@of_trajectories
def phase_lag(ds: xr.Dataset, by: str = "kernel_layer", max_lag: int | None = None, lca: str = "lca") -> xr.Dataset:
    r"""Return how far the movement of each layer lags behind its negative full gradient, and behind other layers.

    With :math:`m_i(t) = θ_{t+1,i} - θ_{t,i}`, :math:`d_i(t) = -∇L(θ_t)_i`, and both less their means over the run:

    .. math:: r_\ell(τ) = \frac{\sum_{i \in \ell} \sum_t \tilde m_i(t + τ)\, \tilde d_i(t)}
              {\sqrt{\sum_{i \in \ell} \sum_t \tilde m_i(t)^2 \; \sum_{i \in \ell} \sum_t \tilde d_i(t)^2}}

    τ > 0: the movement follows the gradient. Momentum moves the peak to later lags; a layer whose correlation is
    negative at some lag then moves against its gradient.

    Parameters
    ----------
    ds
        Trajectory with ``theta`` and ``gradient``.
    by
        A grouping of :func:`lcakit.aggregate.sum_by`.
    max_lag
        Lags −max_lag … max_lag, in recorded iterations; less than half of the run. By default 10, as far as the run is
        long enough.
    lca
        Name of the variable whose correlation between layers is added; ``"lca_val"`` for another objective.

    Returns
    -------
    Dataset
        ``gradient_correlation`` (layer, lag): r; ``lag_of_peak`` (layer): the lag of its largest value. Where the file
        has LCA and ``by`` is a layer grouping, ``layer_correlation`` (layer, other_layer, lag): Pearson correlation of
        the LCA of ``layer`` at t + τ with that of ``other_layer`` at t (both less their means). NaN where a layer does
        not move, or has no gradient. Lazy; one pass over the data.

    Raises
    ------
    TrajectoryError
        If ``theta`` or ``gradient`` were not recorded.
    ValueError
        For a largest lag that is not less than half of the run, or an unknown grouping.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> phase_lag(tiny_trajectory(40), max_lag=3)["lag_of_peak"].values  # plain gradient descent does not lag
    array([0., 0.])
    """
    theta, gradient = require(ds, "theta"), require(ds, "gradient")
    require_tables(ds)
    iterations = ds.sizes["snapshot"] - 1
    max_lag = max(0, min(MAX_LAG, (iterations - 1) // 2)) if max_lag is None else max_lag
    if not 0 <= max_lag < iterations / 2:
        raise ValueError(f"max_lag must be 0 to less than half of the {iterations} iterations, got {max_lag}")
    ids, names = labels.group_ids(ds, by)
    present, compact = np.unique(ids, return_inverse=True)
    names = names.isel({names.dims[0]: present})
    order = [d for d in theta.dims if d not in ("snapshot", "parameter")] + ["snapshot", "parameter"]
    values = _correlations(
        theta.transpose(*order).data, gradient.transpose(*order).data, compact, present.size, max_lag
    )
    lags = np.arange(-max_lag, max_lag + 1)
    dims = [*order[:-2], "lag", "layer"]
    coords: dict[Any, Any] = {"lag": lags, "layer": names.values}
    coords |= {d: ds[d] for d in order[:-2] if d in ds.coords}
    correlation = xr.DataArray(values, dims=dims, coords=coords).transpose(..., "layer", "lag")
    correlation.attrs = {"long_name": "correlation of movement with the negative gradient", "units": "1"}
    out = xr.Dataset({"gradient_correlation": correlation})
    unit = recorded(ds, "iterations")
    out["lag_of_peak"] = _peak(correlation, lags).assign_attrs(units=unit)
    if lca in ds and by in ("kernel_layer", "layer"):
        require_pairs(ds)
        out["layer_correlation"] = _between_layers(layer_lca(ds, by, lca), max_lag)
    out["lag"].attrs = {"long_name": "lag behind", "units": unit}
    return out


def _peak(correlation: xr.DataArray, lags: np.ndarray) -> xr.DataArray:
    place: xr.DataArray = xr.apply_ufunc(
        lambda r: np.where(np.isnan(r).any(-1), np.nan, lags[np.argmax(np.nan_to_num(r), axis=-1)]),
        correlation,
        input_core_dims=[["lag"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )
    return place.assign_attrs(long_name="lag of the largest correlation")


# ---- movement against gradient ------------------------------------------------------------------------------------


def _correlations(theta: Any, gradient: Any, ids: np.ndarray, n_groups: int, max_lag: int) -> Any:
    """Return r (…, lag, group).

    Means are taken out afterwards: movement by its own mean, which the first and last snapshot give; the gradient by
    subtracting mean(d) Σ_t m̃(t + τ), a sum that single snapshots give. So one pass over the data is enough.
    """
    n = theta.shape[-2] - 1
    first, last = _row(theta, 0), _row(theta, n)
    drift = (last - first) / n
    raw = _sum_products(theta, gradient, drift, max_lag)
    mean = -gradient[..., :n, :].mean(axis=-2, dtype=np.float64)
    stack = da.stack if isinstance(theta, da.Array) else np.stack
    corrections = [mean * _partial_sum(theta, drift, lag, n) for lag in range(-max_lag, max_lag + 1)]
    corrections += [0 * mean, n * mean**2]
    per_parameter = raw - stack(corrections, axis=-2)
    sums = reduce_groups(per_parameter, ids, n_groups)
    covariance, moves, directions = sums[..., :-2, :], sums[..., -2:-1, :], sums[..., -1:, :]
    scale = (np.maximum(moves, 0) * np.maximum(directions, 0)) ** 0.5
    where = da.where if isinstance(scale, da.Array) else np.where
    return covariance / where(scale > 0, scale, np.nan)


def _row(data: Any, index: int) -> Any:
    return data[..., index, :].astype(np.float64)


def _partial_sum(theta: Any, drift: Any, lag: int, n: int) -> Any:
    """Return Σ m̃(t + lag) over the t for which both t and t + lag are iterations."""
    start, stop = max(lag, 0), n + min(lag, 0)
    return _row(theta, stop) - _row(theta, start) - (stop - start) * drift


def _sum_products(theta: Any, gradient: Any, drift: Any, max_lag: int) -> Any:
    """Return Σ_t m̃(t + τ) d(t) for each lag, then Σ m̃² and Σ d²: (…, lags + 2, K), block by block of time."""
    n = theta.shape[-2] - 1
    if not isinstance(theta, da.Array):
        return _products(np.asarray(theta), np.asarray(gradient)[..., :n, :], drift, 0, 0, n, max_lag)
    theta = theta.rechunk(dict(enumerate(gradient.chunks)))
    parts = []
    for start, stop in pairwise([0, *np.minimum(np.cumsum(gradient.chunks[-2]), n)]):
        if start == stop:
            continue
        low, high = max(0, start - max_lag), min(n, stop + max_lag)
        rows = theta[..., low : high + 1, :].rechunk({theta.ndim - 2: -1})
        chunks = (*theta.chunks[:-2], (2 * max_lag + 3,), theta.chunks[-1])
        parts.append(
            da.map_blocks(
                _products,
                rows,
                gradient[..., start:stop, :],
                drift[..., None, :],
                low,
                int(start),
                n,
                max_lag,
                chunks=chunks,
                dtype=np.float64,
                meta=np.empty((0,) * theta.ndim),
            )
        )
    return sum(parts[1:], start=parts[0])


def _products(
    theta: np.ndarray, gradient: np.ndarray, drift: np.ndarray, low: int, start: int, n: int, max_lag: int
) -> np.ndarray:
    """Sums of one block: ``theta`` has the snapshots from ``low`` on, ``gradient`` those from ``start`` on."""
    out = np.empty((*gradient.shape[:-2], 2 * max_lag + 3, gradient.shape[-1]))
    drift = drift.reshape(*gradient.shape[:-2], 1, gradient.shape[-1])
    rows = gradient.shape[-2]
    for column in range(0, gradient.shape[-1], _TILE):
        tile = (..., slice(column, column + _TILE))
        moves = np.diff(theta[tile].astype(np.float64), axis=-2) - drift[tile]
        down = -gradient[tile].astype(np.float64)
        for k, lag in enumerate(range(-max_lag, max_lag + 1)):
            a, b = max(start, -lag), min(start + rows, n - lag)  # the t for which t + lag is an iteration
            b = max(a, b)
            m, d = moves[..., a + lag - low : b + lag - low, :], down[..., a - start : b - start, :]
            out[(*tile[:1], k, tile[1])] = np.einsum("...tk,...tk->...k", m, d)
        own = moves[..., start - low : start - low + rows, :]
        out[(*tile[:1], -2, tile[1])] = np.einsum("...tk,...tk->...k", own, own)
        out[(*tile[:1], -1, tile[1])] = np.einsum("...tk,...tk->...k", down, down)
    return out


# ---- layer against layer -------------------------------------------------------------------------------------------


def _between_layers(series: xr.DataArray, max_lag: int) -> xr.DataArray:
    lags = np.arange(-max_lag, max_lag + 1)
    out: xr.DataArray = xr.apply_ufunc(
        _lagged,
        series,
        kwargs={"max_lag": max_lag},
        input_core_dims=[["iteration", "layer"]],
        output_core_dims=[["layer", "other_layer", "lag"]],
        dask="parallelized",
        vectorize=True,
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={
            "output_sizes": {"other_layer": series.sizes["layer"], "lag": lags.size},
            "allow_rechunk": True,
        },
    )
    out = out.assign_coords(layer=series["layer"].values, other_layer=series["layer"].values, lag=lags)
    return out.assign_attrs(long_name="correlation of the LCA of two layers", units="1")


def _lagged(series: np.ndarray, max_lag: int) -> np.ndarray:
    """Correlate the columns of (T, layers): out[l, o, τ] for layer l at t + τ with layer o at t."""
    centred = series - series.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=0))
    centred = np.divide(centred, scale, out=np.full_like(centred, np.nan), where=scale > 0)
    n = len(series)
    pairs = [(slice(max(k, 0), n + min(k, 0)), slice(max(-k, 0), n - max(k, 0))) for k in range(-max_lag, max_lag + 1)]
    return np.stack([centred[later].T @ centred[earlier] for later, earlier in pairs], axis=-1)
