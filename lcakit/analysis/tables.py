"""Results as tables: one row for each combination of labels, ready for pandas, spreadsheets and Parquet."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.packages import package
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["MOST_ROWS", "to_table"]


def __dir__() -> list[str]:
    return __all__


MOST_ROWS = 20_000_000


@checks_arguments
def to_table(result: Any, *, most_rows: int = MOST_ROWS, quiet: bool = False) -> Any:
    """Return a result of a study as a table of plain columns: its labels, then its numbers. Computes what is lazy.

    Parameters
    ----------
    result
        DataArray or Dataset of any study, also a variable of a trajectory; or a record such as that of ``lk.account``,
        which makes a single row, or of ``lk.validate``, which makes a row for each check.
    most_rows
        More rows are refused, before anything is computed.
    quiet
        No progress bar.

    Returns
    -------
    pandas.DataFrame
        A column for each dimension (its labels, or the position where it has none) and for each further coordinate
        along them; a column for each variable, or one named after the array (``value`` where it has no name). Rows in
        the order of the dimensions, the last one running fastest. ``attrs`` holds ``units`` and ``long_name`` of the
        columns; ``to_parquet`` keeps them.

    Raises
    ------
    ValueError
        If a Dataset's variables have dimensions that do not contain each other, or there would be too many rows.
    TypeError
        For anything else.

    Examples
    --------
    >>> import lcakit as lk
    >>> from lcakit.testing import tiny_trajectory
    >>> to_table(lk.layers.layer_lca(tiny_trajectory())).columns.tolist()
    ['iteration', 'layer', 'lca']
    """
    pandas = package("pandas", "making tables")
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return _of_records(result, pandas)
    if not isinstance(result, xr.DataArray | xr.Dataset):
        raise TypeError(
            f"a table is made of a DataArray, a Dataset or a record of a study, got {type(result).__name__}"
        )
    ds = _as_dataset(result) if isinstance(result, xr.DataArray) else result
    dims = _dimensions(ds)
    rows = math.prod(ds.sizes[dim] for dim in dims)
    if rows > most_rows:
        raise ValueError(
            f"the table would have {rows:,} rows, at most {most_rows:,} are made: select or sum first "
            "(ds.lk.sel, lk.aggregate.sum_by), or pass most_rows"
        )
    return _of_dataset(compute(ds, quiet=quiet), dims, pandas)


def _of_records(record: Any, pandas: Any) -> Any:
    plain = dataclasses.asdict(record)
    return pandas.DataFrame(list(plain["checks"]) if "checks" in plain else [plain])


def _as_dataset(array: xr.DataArray) -> xr.Dataset:
    taken = {None, *array.coords, *array.dims}
    return array.to_dataset(name="value" if array.name in taken else array.name)


def _dimensions(ds: xr.Dataset) -> list[str]:
    """Return the dimensions of the rows: those of the variable that has most, which must include all others."""
    widest = max(ds.data_vars.values(), key=lambda array: array.ndim, default=xr.DataArray(0))
    for name, array in ds.data_vars.items():
        if not set(array.dims) <= set(widest.dims):
            all_dims = ", ".join(f"{n} {tuple(map(str, a.dims))}" for n, a in ds.data_vars.items())
            raise ValueError(
                f"the variables have dimensions that make no common rows: {all_dims}. "
                f"Make a table of one, such as to_table(result[{str(name)!r}])"
            )
    return [str(dim) for dim in widest.dims]


def _of_dataset(ds: xr.Dataset, dims: list[str], pandas: Any) -> Any:
    ds = ds.drop_vars([name for name, c in ds.coords.items() if not set(c.dims) <= set(dims)])
    if dims:
        table = ds.to_dataframe(dim_order=dims).reset_index()
    else:
        table = pandas.DataFrame({str(name): [array.values[()]] for name, array in ds.variables.items()})
    labels = [*dims, *(str(name) for name in ds.coords if name not in dims)]
    table = table[[*labels, *(str(name) for name in ds.data_vars)]]
    for key in ("units", "long_name"):
        known = {str(name): str(array.attrs[key]) for name, array in ds.variables.items() if key in array.attrs}
        table.attrs[key] = known
    return table
