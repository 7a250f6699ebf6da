from __future__ import annotations

import itertools
import json
import sys

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings

import lcakit as lk
from lcakit.analysis.tables import to_table
from lcakit.sharing.copies import share
from lcakit.testing import tiny_trajectory
from tests.support.laziness import any_chunks, nothing_computed, rechunked, two_runs

pandas = pytest.importorskip("pandas")

STUDIES = {
    "layers by class": lambda ds: lk.layers.layer_lca(ds, classes=True),
    "outcomes": lambda ds: lk.noise.help_hurt_zero(ds),
    "a number": lambda ds: lk.noise.fraction_helping(ds),
    "by parameter": lambda ds: lk.noise.iterations_helped(ds),
    "windows": lambda ds: lk.aggregate.window_lca(ds, 7, "unit"),
    "first minima": lambda ds: lk.layers.argmin_iteration(ds),
    "peaks": lambda ds: lk.synchronization.peak_iterations(ds),
    "histogram": lambda ds: lk.noise.helped_histogram(ds, bins=5),
    "a variable": lambda ds: ds["lca_unit_class"],
    "verdicts": lambda ds: lk.layers.freeze_candidates(ds),
    "extremes": lambda ds: lk.ranking.extremes(ds, "unit"),
}


def slow_rows(array: xr.DataArray) -> list[dict]:
    """Twin: one row for each combination of labels, looked up one by one."""
    labels = {d: array[d].values.tolist() if d in array.coords else list(range(n)) for d, n in array.sizes.items()}
    coords = {name: (coord.dims, coord.values) for name, coord in array.coords.items()}
    values, rows = array.values, []
    for places in itertools.product(*(range(n) for n in array.shape)):
        at = dict(zip(array.dims, places, strict=True))
        row = {dim: labels[dim][place] for dim, place in at.items()}
        for name, (dims, numbers) in coords.items():
            if name not in row and set(dims) <= set(array.dims):
                row[name] = numbers.item(*(at[d] for d in dims))
        rows.append(row | {"?": values.item(*places)})
    return rows


@pytest.mark.slow
@settings(deadline=None, max_examples=6)
@given(any_chunks())
def test_tables_against_a_loop(chunks):
    ds = rechunked(tiny_trajectory(25), chunks)
    for name in ("layers by class", "outcomes", "by parameter", "windows", "first minima", "peaks", "a variable"):
        with nothing_computed():
            result = STUDIES[name](ds)
        table, expected = to_table(result, quiet=True), slow_rows(result.compute())
        number = table.columns[-1]
        assert len(table) == len(expected)
        assert set(table.columns) == {*expected[0], number} - {"?"}
        got = [{k: row["?" if k == number else k] for k in table.columns} for row in expected]
        pandas.testing.assert_frame_equal(table, pandas.DataFrame(got).astype(table.dtypes))


@pytest.mark.parametrize("name", STUDIES)
def test_tables_go_through_parquet_with_their_units(name, tmp_path):
    pytest.importorskip("pyarrow")
    result = STUDIES[name](tiny_trajectory(25, chunks=10))
    table = to_table(result, quiet=True)
    table.to_parquet(tmp_path / "x.parquet")
    again = pandas.read_parquet(tmp_path / "x.parquet")
    pandas.testing.assert_frame_equal(again, table)
    assert again.attrs == table.attrs
    json.dumps(table.attrs)
    variables = result.data_vars.values() if isinstance(result, xr.Dataset) else [result]
    for array in variables:
        assert table.attrs["units"][array.name] == array.attrs["units"]
        assert table.attrs["long_name"][array.name] == array.attrs["long_name"]


@pytest.mark.parametrize("name", STUDIES)
def test_results_go_through_plain_netcdf(name, tmp_path):
    result = STUDIES[name](tiny_trajectory(25, chunks=10))
    result.to_netcdf(tmp_path / "x.nc")
    opened = xr.open_dataset if isinstance(result, xr.Dataset) else xr.open_dataarray
    with opened(tmp_path / "x.nc") as again:
        xr.testing.assert_equal(again, result.compute())


def test_a_dataset_of_several_variables_makes_several_columns():
    table = to_table(lk.layers.freeze_candidates(tiny_trajectory(25)))
    assert table.columns.tolist()[:2] == ["layer", "snapshot"]
    assert table["layer"].tolist() == ["conv1", "fc"]
    runs = two_runs(tiny_trajectory(25), tiny_trajectory(25, seed=1))
    both = lk.layers.freeze_candidates(runs)
    table = to_table(both)
    assert table["run"].tolist() == ["x", "x", "y", "y"]
    np.testing.assert_array_equal(table["agreement"], np.tile(both["agreement"], 2))  # one number for both runs


def test_records_are_rows():
    ds = tiny_trajectory(10)
    row = to_table(lk.account(ds))
    assert len(row) == 1
    assert row["iterations"].item() == 10
    checks = to_table(lk.validate(ds))
    assert checks["name"].tolist() == [check.name for check in lk.validate(ds).checks]
    assert set(checks["status"]) == {"pass"}


def test_names_that_are_taken_or_missing():
    assert to_table(xr.DataArray([1, 2], dims="x")).columns.tolist() == ["x", "value"]
    assert to_table(xr.DataArray([1, 2], dims="x", name="x")).columns.tolist() == ["x", "value"]
    assert to_table(xr.Dataset({"a": 1, "b": 2.5})).to_dict("records") == [{"a": 1, "b": 2.5}]


def test_what_makes_no_table():
    ds = tiny_trajectory(10, chunks=5)
    with pytest.raises(ValueError, match=r"theta \('snapshot', 'parameter'\).*to_table\(result\["):
        to_table(ds)
    with pytest.raises(ValueError, match=r"baseline \('trial',\)"):
        to_table(lk.synchronization.synchronization_test(ds, k=2, trials=5))
    with nothing_computed(), pytest.raises(ValueError, match=r"610 rows, at most 600.*select or sum first"):
        to_table(ds["lca"], most_rows=600)
    assert len(to_table(ds["lca"], most_rows=610)) == 610
    for thing in (3, "x", None, [ds], dict):
        with pytest.raises(TypeError, match="DataArray"):
            to_table(thing)


def test_without_pandas_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(lk.LcakitError, match=r"pip install 'lcakit\[share\]'"):
        to_table(xr.DataArray([1, 2], dims="x"))


# ---- trajectories through plain xarray -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["nc", "copy.nc"])
def test_a_trajectory_opened_by_plain_xarray_is_one(tmp_path, suffix):
    ds = tiny_trajectory(25, class_parameters=True)
    path = tmp_path / f"run.{suffix}"
    share(ds, path, keepbits=23) if suffix == "copy.nc" else lk.save(ds, path)
    with xr.open_dataset(path, chunks={}) as stock, lk.open_trajectory(path) as got:
        for study in STUDIES.values():
            theirs, ours = study(stock).compute(), study(got).compute()
            xr.testing.assert_allclose(theirs.transpose(*ours.dims), ours, rtol=1e-6)
        lk.save(stock, tmp_path / "again.nc")
        stock.to_netcdf(tmp_path / "theirs.nc")
        for name in ("again.nc", "theirs.nc"):
            with lk.open_trajectory(tmp_path / name) as again:
                assert again.attrs == got.attrs
                for variable in ds.variables:
                    np.testing.assert_array_equal(again[variable], ds[variable])
                    assert again[variable].dims == ds[variable].dims
                assert lk.validate(again).ok
