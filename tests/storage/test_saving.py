"""Files written and read again: the same numbers, readable by others, whole or not there."""

from __future__ import annotations

import errno

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import lcakit as lk
from lcakit.storage import netcdf
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from lcakit.trajectory.schema import VARIABLES
from tests.support.same import assert_same


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("chunks", [None, {"parameter": 7, "iteration": 5}])
def test_round_trip(ds, tmp_path, compression, chunks):
    path = lk.save(ds if chunks is None else ds.chunk(chunks), tmp_path / "deep" / "run.nc", compression=compression)
    with lk.open_trajectory(path) as got:
        assert all(got[name].chunks for name in ("theta", "lca", "lca_class"))
        assert_same(got, ds)
    assert [p.name for p in path.parent.iterdir()] == ["run.nc"]


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 5),
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1), min_size=1, max_size=3
    ),
)
def test_round_trip_of_any_network(tmp_path_factory, iterations, shapes, classes):
    layers = tuple(TensorSpec(f"l{n}.w", tuple(s), "other", f"l{n}") for n, s in enumerate(shapes))
    ds = tiny_trajectory(iterations, layers=layers, classes=list(dict.fromkeys(classes)))
    path = lk.save(ds, tmp_path_factory.mktemp("any") / "run.nc")
    with lk.open_trajectory(path) as got:
        assert_same(got, ds)
        assert lk.validate(got).ok


def test_stock_readers_understand_the_file(ds, tmp_path):
    path = lk.save(ds, tmp_path / "run.nc")
    with netCDF4.Dataset(path) as file:
        assert file.data_model == "NETCDF4"
        assert file.Conventions == "lcakit-1.1"
        assert np.array_equal(file["theta"][:], ds["theta"])
        assert list(file["layer"][:]) == ["conv1", "norm1", "fc"]
        assert {"tensor_index", "layer_index", "unit_index"} <= set(file["lca"].coordinates.split())
        for name in ds.data_vars:
            assert file[name].dimensions == VARIABLES[name].dims
            assert file[name].long_name
            assert file[name].units
    with xr.open_dataset(path) as stock:
        assert np.array_equal(stock["lca"], ds["lca"])
        assert "tensor_index" in stock.coords


def test_a_selection_can_be_saved(ds, tmp_path):
    part = ds.lk.sel(layer="fc", iteration=slice(2, 5))
    with lk.open_trajectory(lk.save(part, tmp_path / "fc.nc")) as got:
        assert np.array_equal(got["parameter"], np.arange(33, 61))
        assert np.array_equal(got.lk.unflatten("fc.weight"), ds.lk.unflatten("fc.weight").sel(iteration=slice(2, 5)))


def test_overwrite_only_on_request(ds, tmp_path):
    path = lk.save(ds, tmp_path / "run.nc")
    before = path.read_bytes()
    with pytest.raises(lk.RecordingError, match="overwrite=True"):
        lk.save(ds, path)
    assert path.read_bytes() == before
    lk.save(ds.isel(snapshot=slice(0, 4), iteration=slice(0, 3)), path, overwrite=True)
    with lk.open_trajectory(path) as got:
        assert got.sizes["iteration"] == 3


def test_save_refuses_what_is_no_trajectory(ds, tmp_path):
    with pytest.raises(lk.TrajectoryError, match="schema_version"):
        lk.save(ds.drop_attrs(deep=False), tmp_path / "run.nc")
    with pytest.raises(ValueError, match="zlib"):
        lk.save(ds, tmp_path / "run.nc", compression="zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["_create", "write_window"])
def test_full_disk_leaves_the_older_file(ds, tmp_path, monkeypatch, step):
    path = lk.save(ds, tmp_path / "run.nc")
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(netcdf, step, full)
    with pytest.raises(lk.RecordingError, match="No space left"):
        lk.save(ds, path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_recording_of_its_start_alone_can_be_saved(tmp_path):
    start = tiny_trajectory(1).isel(snapshot=[0]).drop_dims("iteration")
    with lk.open_trajectory(lk.save(start, tmp_path / "a.nc")) as got:
        again = lk.save(got, tmp_path / "b.nc")
        assert_same(lk.open_trajectory(again), got)


UNREADABLE = {
    "a dimension with another name": (lambda ds: ds.rename(parameter="weight"), "dimensions"),
    "iterations without their snapshots": (lambda ds: ds.isel(iteration=slice(2, 5)), "13 snapshots for 3"),
    "parameters without their tables": (lambda ds: ds.isel(parameter=slice(0, 7)), "7 parameters"),
    "one iteration without its dimension": (lambda ds: ds.isel(iteration=3, snapshot=3), "dimensions"),
    "no parameter": (lambda ds: ds.isel(parameter=[]), "no parameter"),
    "no iteration and its snapshots": (lambda ds: ds.isel(iteration=[], snapshot=[]), "no iteration"),
    "a table that is gone": (lambda ds: ds.drop_vars("layer"), "layer"),
    "all spread over the parameters": (lambda ds: ds.where(ds["layer_index"] == 0, drop=True), "dimensions"),
    "classes that are numbers": (lambda ds: ds.assign_coords({"class": [*range(ds.sizes["class"])]}), "names"),
    "classes of one name": (lambda ds: ds.assign_coords({"class": ["a"] * ds.sizes["class"]}), "repeated"),
    "half precision": (lambda ds: ds.assign(lca=ds["lca"].astype("f2")), "'lca' is float16"),
    "extended precision": (lambda ds: ds.assign(loss=ds["loss"].astype(np.longdouble)), "'loss' is float"),
    "a long attribute": (lambda ds: ds.assign_attrs(note="x" * (2**20 + 1)), "1,048,577 letters"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_could_not_be_opened_again_is_not_written(ds, tmp_path, kind):
    """With ``overwrite=True`` it would even have replaced a sound file."""
    edit, says = UNREADABLE[kind]
    path = lk.save(ds, tmp_path / "run.nc")
    before = path.read_bytes()
    with pytest.raises(lk.TrajectoryError, match=f"the dataset to save: .*{says}.*Nothing was written"):
        lk.save(edit(ds), path, overwrite=True)
    assert path.read_bytes() == before
