"""Runs with numbers that are not there: padded by a join, or damaged."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lcakit.testing import tiny_trajectory

SHORT, LONG = 8, 12


def _with_validation(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign(lca_val=ds["lca"] * np.float32(0.5) + np.float32(0.1))


def run_of(iterations: int, seed: int) -> xr.Dataset:
    return _with_validation(tiny_trajectory(iterations, seed=seed, class_parameters=True))


def joined(*several: xr.Dataset) -> xr.Dataset:
    """Put runs together as xarray does when told to keep all labels: the shorter ones are padded with NaN."""
    name = xr.DataArray([str(k) for k in range(len(several))], dims="run", name="run")
    return xr.concat(
        several,
        dim=name,
        join="outer",
        data_vars="all",
        coords="minimal",
        compat="override",
        combine_attrs="drop_conflicts",
    )


def damaged(ds: xr.Dataset, value: float, share: float = 0.05) -> xr.Dataset:
    """Put a value at the same random places of each variable of floats."""
    rng = np.random.default_rng(5)
    new = {}
    for name, array in ds.data_vars.items():
        if array.dtype.kind == "f" and name != "accuracy":
            values = array.values.copy()
            values[rng.random(values.shape) < share] = value
            new[name] = (array.dims, values, array.attrs)
    return ds.assign(new)
