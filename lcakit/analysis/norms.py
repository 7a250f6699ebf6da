"""L2 norms of vectors, group by group: of the gradient, of the movement, and of the effective gradient.

They are computed from the vectors where a trajectory has them, else from the norms of units that a compact copy keeps
in their place (``lk.share(…, norms=True)``): squares of norms add up, so those of layers follow from those of units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import grouped, unit_group_ids
from lcakit.analysis.kernels.groups import sum_squares
from lcakit.errors import TrajectoryError
from lcakit.trajectory import labels, schema
from lcakit.trajectory.require import require, require_tables
from lcakit.trajectory.schema import split_name, with_suffix

__all__ = ["effective_norms", "gradient_norms", "movement_norms", "unit_norms"]


def __dir__() -> list[str]:
    return __all__


_SHARED = "A compact copy keeps the norms of it: lk.share(…, norms=True)."


def gradient_norms(ds: xr.Dataset, by: str, lca: str = "lca") -> xr.DataArray:
    """Return the norm of each group's part of the gradient: (…, snapshot, by), float64. Lazy."""
    suffix = split_name(lca)[1]
    name = with_suffix("gradient", suffix)
    if held := _of_units(ds, name, with_suffix("unit_gradient_norm", suffix), by):
        return held[0].assign_attrs(long_name="norm of the gradient")
    array = require(ds, name, _SHARED).transpose(..., "snapshot", "parameter")
    return _norm(ds, array, by).assign_attrs(array.attrs | {"long_name": "norm of the gradient"})


def movement_norms(ds: xr.Dataset, by: str) -> xr.DataArray:
    """Return the length of each group's part of the movement θ(t+1) - θ(t): (…, iteration, by), float64. Lazy."""
    if held := _of_units(ds, "theta", "unit_movement_norm", by):
        return held[0].assign_attrs(long_name="norm of the movement")
    theta = require(ds, "theta", _SHARED).transpose(..., "snapshot", "parameter")
    return _norm(ds, _moves(theta), by).assign_attrs(theta.attrs | {"long_name": "norm of the movement"})


def effective_norms(ds: xr.Dataset, by: str, lca: str = "lca", classes: bool = True) -> xr.DataArray:
    """Return the norm of LCA over movement of each group: (…, iteration, by[, class]), float64. Lazy."""
    suffix = split_name(lca)[1]
    name = with_suffix("lca_class", suffix) if classes else lca
    attrs = {"long_name": "norm of the effective gradient", "units": schema.loss_unit(ds, lca)}
    if classes and (held := _of_units(ds, name, with_suffix("unit_effective_norm", suffix), by)):
        return held[0].transpose(..., "iteration", by, "class").assign_attrs(attrs)
    if classes and name not in ds:
        raise TrajectoryError(
            f"the effective gradient by class needs {name!r}, LCA of each parameter by class, which the file does not "
            'hold. Record with classes="parameter", or pass classes=False for that of the whole loss. ' + _SHARED
        )
    array, theta = require(ds, name), require(ds, "theta").transpose(..., "snapshot", "parameter")
    moved = _moves(theta).assign_coords(iteration=array["iteration"].values)
    still = moved == 0
    vectors = (array / moved.where(~still, 1.0)).where(~still, 0.0).transpose(..., "iteration", "parameter")
    out = _norm(ds, vectors, by)
    return (out.transpose(..., "iteration", by, "class") if classes else out).assign_attrs(attrs)


def unit_norms(ds: xr.Dataset, by: str, lca: str = "lca") -> dict[str, xr.DataArray]:
    """Return every norm that the trajectory has, or has the vectors for, by its name in the format. Lazy."""
    suffix = split_name(lca)[1]
    made: dict[str, Callable[[], xr.DataArray]] = {
        "unit_gradient_norm": lambda: gradient_norms(ds, by, lca),
        "unit_movement_norm": lambda: movement_norms(ds, by),
        "unit_effective_norm": lambda: effective_norms(ds, by, lca),
    }
    needs = {
        "unit_gradient_norm": {with_suffix("gradient", suffix)},
        "unit_movement_norm": {"theta"},
        "unit_effective_norm": {with_suffix("lca_class", suffix), "theta"},
    }
    names = {base: base if base == "unit_movement_norm" else with_suffix(base, suffix) for base in made}
    return {names[base]: make() for base, make in made.items() if names[base] in ds or needs[base] <= set(ds.data_vars)}


def _of_units(ds: xr.Dataset, vector: str, norm: str, by: str) -> list[xr.DataArray]:
    """Return the norms of groups from those of their units, where the trajectory has these in place of the vector."""
    if vector in ds or norm not in ds:
        return []
    require_tables(ds)
    squares = grouped(ds[norm], "unit", *unit_group_ids(ds, by), sum_squares)
    return [(squares**0.5).assign_attrs(ds[norm].attrs)]


def _norm(ds: xr.Dataset, vectors: xr.DataArray, by: str) -> xr.DataArray:
    require_tables(ds)
    squares = grouped(vectors, "parameter", *labels.group_ids(ds, by), sum_squares)
    norm: xr.DataArray = squares**0.5
    return norm


def _moves(theta: xr.DataArray) -> xr.DataArray:
    """Return θ(t+1) - θ(t) as an array (…, iteration, parameter), in float64."""
    start = theta.isel(snapshot=slice(None, -1)).rename(snapshot="iteration")
    return start.copy(data=_movement(theta.data))


def _movement(theta: Any) -> Any:
    """Return the differences of neighbouring rows (…, T+1, K) -> (…, T, K), in float64; lazy where ``theta`` is."""
    if not isinstance(theta, da.Array):
        return _row_differences(np.asarray(theta))
    axis = theta.ndim - 2
    *rows, last = theta.chunks[axis]
    chunks = (*theta.chunks[:axis], (*rows, last - 1), theta.chunks[-1])
    with_next = da.overlap.overlap(theta, depth={axis: (0, 1)}, boundary={axis: "none"})
    return with_next.map_blocks(_row_differences, chunks=chunks, dtype=np.float64, meta=np.empty((0,) * theta.ndim))


def _row_differences(block: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.subtract(block[..., 1:, :], block[..., :-1, :], dtype=np.float64)
    return out
