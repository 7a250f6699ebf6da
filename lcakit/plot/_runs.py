"""One run or several: what a picture draws of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.plot._marks import band, line

Runs = xr.Dataset | Mapping[str, xr.Dataset]


def one_run(ds: xr.Dataset, what: str) -> xr.Dataset:
    """Return the dataset without a run dimension; raise TrajectoryError if it has several runs or no iterations."""
    if ds.sizes.get("run", 1) > 1:
        raise TrajectoryError(
            f"{what}: a picture of one run, got {ds.sizes['run']}: pass ds.isel(run=0), or draw one picture for each"
        )
    _require_some(ds)
    return ds.isel(run=0, drop=True) if "run" in ds.dims else ds


def _require_some(data: xr.Dataset | xr.DataArray) -> None:
    if 0 in data.sizes.values():
        empty = next(dim for dim, n in data.sizes.items() if n == 0)
        raise TrajectoryError(f"the selection has no {empty}, so there is nothing to draw: select less narrowly")


def named(ds: Runs) -> dict[str, xr.Dataset]:
    """Return the configurations of a picture by name: a single dataset has no name."""
    if isinstance(ds, xr.Dataset):
        return {"": ds}
    if not ds:
        raise ValueError("no trajectories to draw: the dict is empty; pass a dataset, or a dict of name to dataset")
    return {str(name): part for name, part in ds.items()}


def mean_line(
    backend: str, x: Any, array: xr.DataArray, axes: tuple[str, str], name: str, color: str, **look: Any
) -> list[Any]:
    """Return the marks of a series: a line; for several runs their mean, and their range as a shade."""
    _require_some(array)
    if "run" not in array.dims:
        return [line(backend, x, array, axes, name, color, **look)]
    marks = [line(backend, x, array.mean("run"), axes, name, color, **look)]
    if array.sizes["run"] > 1:
        marks.insert(0, band(backend, x, array.min("run"), array.max("run"), axes, color))
    return marks
