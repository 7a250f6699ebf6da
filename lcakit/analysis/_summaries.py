"""Summaries of blocks by group: what each block of a variable holds of each group, to be merged afterwards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import unit_group_ids
from lcakit.analysis.kernels.groups import Runs, runs_of_blocks
from lcakit.errors import TrajectoryError
from lcakit.trajectory import labels
from lcakit.trajectory.require import require_tables

Kernel = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(block (…, t, 1, k), starts of its runs, place of each run among the groups) -> (…, t, width, groups)."""


def members(ds: xr.Dataset, array: xr.DataArray, by: str | None) -> tuple[str, np.ndarray, xr.DataArray]:
    """Return the dimension that is summed up, the group of each of its entries, and the labels of the groups."""
    dim = next((d for d in ("parameter", "unit") if d in array.dims), "")
    if not dim or "iteration" not in array.dims:
        raise TrajectoryError(
            f"{array.name!r} has dimensions {array.dims}; tails need 'iteration' and 'parameter' (or 'unit')"
        )
    if by is None:
        return dim, np.zeros(array.sizes[dim], np.int64), xr.DataArray(["all"], dims="group")
    require_tables(ds)
    ids, names = labels.group_ids(ds, by) if dim == "parameter" else unit_group_ids(ds, by)
    present, compact = np.unique(ids, return_inverse=True)
    return dim, compact, names.isel({names.dims[0]: present})


def labelled(data: Any, array: xr.DataArray, new: str, names: xr.DataArray) -> xr.DataArray:
    """Label (…, new, group) whose leading dimensions are the first of ``array``; drop the group of ``by=None``."""
    lead = array.dims[: data.ndim - 2]
    coords = {name: c for name, c in array.coords.items() if set(c.dims) <= set(lead)}
    out = xr.DataArray(data, dims=[*lead, new, *names.dims], coords=coords | dict(names.coords))
    return out.squeeze("group", drop=True) if names.dims == ("group",) else out


def map_blocks(data: Any, ids: np.ndarray, kernel: Kernel, width: int, rows: bool, dtype: Any) -> tuple[Any, Any]:
    """Reduce each block (…, t, 1, k) to the groups that occur in it: (…, t, width, groups), t = 1 without ``rows``.

    Returns the columns of all blocks side by side, and the group of each column.
    """
    data = data[..., None, :]
    if not isinstance(data, da.Array):
        ((starts, groups, place),) = runs_of_blocks(ids, (ids.size,))
        return kernel(np.asarray(data), starts, place), groups
    blocks = runs_of_blocks(ids, data.chunks[-1])
    tall = data.chunks[-3] if rows else (1,) * data.numblocks[-3]
    chunks = (*data.chunks[:-3], tall, (width,), tuple(groups.size for _, groups, _ in blocks))
    options = {"chunks": chunks, "dtype": dtype, "meta": np.empty((0,) * data.ndim, dtype)}
    columns = np.concatenate([groups for _, groups, _ in blocks])
    return da.map_blocks(partial(_reduce_block, blocks=blocks, kernel=kernel), data, **options), columns


def _reduce_block(block: np.ndarray, blocks: list[Runs], kernel: Kernel, block_id: tuple[int, ...]) -> np.ndarray:
    starts, _, place = blocks[block_id[-1]]
    return kernel(block, starts, place)


def describe(ds: xr.Dataset, units: str = "1", **long_names: str) -> xr.Dataset:
    for name, long_name in long_names.items():
        ds[name].attrs = {"long_name": long_name, "units": units}
    return ds
