"""What every imported trajectory must pass, whatever it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

import lcakit as lk
from lcakit.analysis import aggregate, layerwise, noise, oscillation
from lcakit.trajectory import schema

STUDIES = {
    "lca": [
        noise.help_hurt_zero,
        noise.fraction_helping,
        layerwise.layer_lca,
        lambda ds, lca: aggregate.sum_by(ds, "unit", lca),
    ],
    "theta": [oscillation.weight_turns, oscillation.iterations_per_turn],
    "gradient": [oscillation.gradient_crossings],
}


def assert_conforms(ds: xr.Dataset, folder: Path, total_error: float = 0.01) -> xr.Dataset:
    """Fail unless ``ds`` is sound, complete, saved and opened without loss, studied, and adds up; return it opened.

    ``total_error`` is the largest relative miss of Σ LCA against the loss change.
    """
    assert_in_format(ds)
    path = lk.save(ds, folder / "conformance.nc")
    opened = lk.open_trajectory(path)
    assert_equal(opened, ds)
    for dataset in (ds, opened):
        report = lk.validate(dataset)
        failed = [check for check in report.checks if check.status == "fail"]
        assert not failed, failed
    assert_studied(opened)
    assert_adds_up(opened, total_error)
    return opened


def assert_in_format(ds: xr.Dataset) -> None:
    for name, array in ds.data_vars.items():
        base, _ = schema.split_name(str(name))
        spec = schema.VARIABLES[base]
        assert array.dims == spec.dims
        assert array.dtype == np.dtype(spec.dtype), name
        assert array.attrs["long_name"]
        assert array.attrs["units"]
    for name, coord in ds.coords.items():
        assert coord.dtype.kind == np.dtype(schema.COORDINATES[str(name)].dtype).kind, name
    assert ds.sizes["snapshot"] == ds.sizes["iteration"] + 1
    assert set(schema.REQUIRED_ATTRIBUTES) <= set(ds.attrs)


def assert_equal(got: xr.Dataset, expected: xr.Dataset) -> None:
    assert set(got.variables) == set(expected.variables)
    assert got.attrs == expected.attrs
    for name in expected.variables:
        assert got[name].dims == expected[name].dims
        np.testing.assert_array_equal(got[name].values, expected[name].values, err_msg=str(name))


def assert_studied(ds: xr.Dataset) -> None:
    """Run the studies that its variables allow; every number must be one."""
    for suffix in ("", "val"):
        lca = schema.with_suffix("lca", suffix)
        if lca in ds:
            for study in STUDIES["lca"]:
                assert np.isfinite(study(ds, lca=lca)).all()
            assert lk.account(ds, suffix or None).iterations == ds.sizes["iteration"]
    for variable in ("theta", "gradient"):
        for study in STUDIES[variable] if variable in ds else ():
            study(ds).compute()
    first = str(ds["layer"].values[0])
    part = ds.lk.sel(layer=first)
    assert 0 < part.sizes["parameter"] <= ds.sizes["parameter"]


def assert_adds_up(ds: xr.Dataset, total_error: float) -> None:
    for suffix in ("", "val"):
        loss, lca = (schema.with_suffix(name, suffix) for name in ("loss", "lca"))
        if {loss, lca} <= set(ds.data_vars):
            change = float(ds[loss][-1] - ds[loss][0])
            assert abs(float(ds[lca].astype(float).sum()) - change) <= total_error * abs(change)
