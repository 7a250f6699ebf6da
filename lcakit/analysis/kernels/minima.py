"""The smallest value of running sums over iterations, and where it is: one pass, exact across blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from lcakit.analysis.kernels.fold import fold

__all__ = ["running_minimum"]


def __dir__() -> list[str]:
    return __all__


_TILE = 32_768  # columns at a time, so that the running sums stay in the cache
_FIELDS = ("total", "minimum", "position")


@dataclass(frozen=True)
class _Minimum:
    """Of the sums before each of ``rows`` rows and after the last: the smallest, its place, the sum of all rows."""

    rows: int
    total: np.ndarray
    minimum: np.ndarray
    position: np.ndarray


def running_minimum(series: xr.DataArray) -> xr.Dataset:
    r"""Return ``total``, ``minimum`` and ``position`` of :math:`C[s] = \sum_{t<s} x[t], 0 \le s \le T`.

    The dimension ``iteration`` goes; ``position`` is the first s of the minimum, int64. Sums are in float64. Lazy.
    Where a number is missing (NaN), so are total and minimum, and the position is -1.
    """
    last = next(str(d) for d in reversed(series.dims) if d != "iteration")
    series = series.transpose(..., "iteration", last)
    data = fold(series.data, _summarize, _merge, _columns, width=len(_FIELDS))
    coords = {name: c for name, c in series.coords.items() if "iteration" not in c.dims}
    dims = [d for d in series.dims if d != "iteration"]
    parts = {name: xr.DataArray(data[..., k, :], dims=dims, coords=coords) for k, name in enumerate(_FIELDS)}
    return xr.Dataset(parts | {"position": parts["position"].astype(np.int64)})


def _columns(found: _Minimum) -> np.ndarray:
    missing = np.isnan(found.total)
    minimum, position = np.where(missing, np.nan, found.minimum), np.where(missing, -1.0, found.position)
    return np.stack([found.total, minimum, position], axis=-2)


def _summarize(block: np.ndarray) -> _Minimum:
    """Run over the rows, tile by tile. A later lower sum has the larger count, so a maximum keeps its place."""
    rows = np.moveaxis(block, -2, 0)
    shape = rows.shape[1:]
    total, minimum, position = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int32)
    for start in range(0, shape[-1], _TILE):
        tile = (..., slice(start, start + _TILE))
        sums, least, place = total[tile], minimum[tile], position[tile]
        for count, row in enumerate(rows[(slice(None), *tile)], 1):
            sums += row
            lower = sums < least
            np.minimum(sums, least, out=least)
            np.maximum(place, lower * np.int32(count), out=place)
    return _Minimum(len(rows), total, minimum, position.astype(np.int64))


def _merge(a: _Minimum, b: _Minimum) -> _Minimum:
    lower = a.total + b.minimum < a.minimum
    minimum = np.where(lower, a.total + b.minimum, a.minimum)
    return _Minimum(a.rows + b.rows, a.total + b.total, minimum, np.where(lower, a.rows + b.position, a.position))
