"""Datasets that were narrowed by other ways than ``ds.lk.sel``: what is wrong where an analysis stumbles on one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.text import printable
from lcakit.trajectory import schema
from lcakit.trajectory.consistency import contradictions

__all__ = ["check_dimensions", "faults"]


def __dir__() -> list[str]:
    return __all__


_OF_THE_FORMAT = {dim for variable in schema.VARIABLES.values() for dim in variable.dims}


def faults(ds: xr.Dataset, most: int = 3) -> list[str]:
    """Return what is wrong with a dataset: dimensions that nothing is left of, and parts that contradict each other.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> faults(tiny_trajectory()), faults(tiny_trajectory().isel(iteration=slice(2, 5)))
    ([], ['13 snapshots for 3 iterations, not 4'])
    """
    return list(itertools.islice(_faults(ds), most))


def _faults(ds: xr.Dataset) -> Iterator[str]:
    empty = {dim for array in ds.data_vars.values() for dim in array.dims if not ds.sizes[dim]}
    yield from (f"it has no {dim}" for dim in ("iteration", "snapshot", "parameter", "unit", "class") if dim in empty)
    if "parameter" in ds.dims or "unit" in ds.dims:
        yield from (f"its table of {name}s is gone" for name in ("tensor", "layer") if name not in ds.coords)
    yield from contradictions(ds)


def check_dimensions(array: xr.DataArray, variable: str) -> None:
    """Raise TrajectoryError for a variable without a parameter, or spread over a dimension that is not its own.

    Sums over the latter would count the same numbers once for each place along that dimension.
    """
    if array.sizes.get("parameter") == 0:
        raise TrajectoryError(
            f"{printable(variable)!r} is of no parameter: the selection kept none. Allowed: at least 1."
        )
    spec = schema.VARIABLES.get(schema.split_name(variable)[0])
    further = _OF_THE_FORMAT.intersection(map(str, array.dims)).difference(spec.dims if spec else array.dims)
    if spec and further:
        raise TrajectoryError(
            f"{printable(variable)!r} has the dimensions {tuple(map(str, array.dims))}, and those of the format are "
            f"{spec.dims}: ds.where(…) and arithmetic spread every variable over the dimensions of the other array. "
            "Narrow a trajectory with ds.lk.sel(layer=…), or apply it to this variable alone, "
            f'ds.assign({variable}=ds["{variable}"].where(…)).'
        )
