"""Tables and labels that contradict each other are refused on opening, and reported by validation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lcakit as lk
from lcakit.storage import guard
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.unchecked import save_unchecked

CONTRADICTIONS = [
    lambda ds: ds.isel(snapshot=slice(1, None)),
    lambda ds: ds.assign(lca=ds["lca"].rename(parameter="weight")),
    lambda ds: ds.assign_coords(tensor_index=ds["tensor_index"].astype("f4")),
    lambda ds: ds.assign_coords(tensor_layer=("tensor", np.array([0, 0, 1, 1, 2, 3]))),
    lambda ds: ds.assign_coords(tensor_offset=ds["tensor_offset"] + 1),
    lambda ds: ds.assign_coords(layer_index=ds["layer_index"][::-1].values),
    lambda ds: ds.assign_coords(unit_index=("parameter", np.roll(ds["unit_index"].values, 1))),
    lambda ds: ds.assign_coords(layer=("layer", np.array(["a", "a", "b"], object))),
    lambda ds: ds.isel(parameter=slice(10)),
    lambda ds: ds.drop_vars("kernel_layer"),
    lambda ds: ds.drop_vars("tap_index"),
]


@pytest.mark.parametrize("change", CONTRADICTIONS, ids=range(len(CONTRADICTIONS)))
def test_tables_that_contradict_each_other(ds, change, tmp_path):
    path = tmp_path / "run.nc"
    change(ds).to_netcdf(path)
    with pytest.raises(lk.TrajectoryError, match=r"run\.nc: its parts contradict each other: .*lk\.validate"):
        lk.open_trajectory(path)
    with lk.open_trajectory(path, check=False) as got:
        assert "lca" in got
    report = lk.validate(path, quiet=True)  # tells all, and raises nothing
    assert not report.ok
    assert {check.group for check in report.checks if check.status == "fail"} == {"structure"}


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds,
        lambda ds: ds.lk.sel(layer="fc", cls="a"),
        lambda ds: ds.lk.sel(role="bias", iteration=slice(2, 5)),
        lambda ds: ds.lk.sel(layer="conv1", unit=[0, 2]),
        lambda ds: ds.drop_dims("parameter"),
        lambda ds: ds.drop_dims(["parameter", "tensor"]),
        lambda ds: ds.drop_dims(["parameter", "tensor", "unit"]),
        lambda ds: ds.drop_dims("class"),
        lambda ds: ds.assign(theta=ds["theta"].astype("f8")),
    ],
)
def test_parts_of_a_trajectory_are_no_contradiction(ds, change, tmp_path):
    change(ds).to_netcdf(tmp_path / "run.nc")
    lk.open_trajectory(tmp_path / "run.nc").close()


def test_a_selection_beyond_the_network(ds):
    part = ds.lk.sel(layer="fc")
    assert lk.validate(part, quiet=True)["parameter labels"].status == "pass"
    beyond = part.assign_coords(parameter=[*range(33, 60), 61])
    assert lk.validate(beyond, quiet=True)["parameter labels"].status == "fail"


@given(st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=4), st.data())
def test_labels_of_any_network_are_no_contradiction(shapes, data):
    layers = tuple(
        TensorSpec(f"l{n}.w", tuple(shape), "kernel", f"l{n}", "convtranspose2d" if turned else "linear", "", turned)
        for n, shape in enumerate(shapes)
        for turned in [data.draw(st.booleans())]
    )
    guard.check_tables(tiny_trajectory(2, layers=layers), "any")


def test_names_that_are_written_differently_and_look_the_same_are_refused(tmp_path):
    ds = tiny_trajectory(5)
    names = ["\u00e9", "e\u0301", *map(str, ds["class"].values[2:])]  # one letter, and a letter with an accent
    path = save_unchecked(ds.assign_coords({"class": names}), tmp_path / "run.nc")
    with pytest.raises(lk.TrajectoryError, match=r"run\.nc: .*class has repeated names"):
        lk.open_trajectory(path)
