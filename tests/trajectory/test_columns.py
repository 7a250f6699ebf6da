"""Label columns that are not held in memory are those that are: computed, and read from a file."""

from __future__ import annotations

import gc
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import lcakit as lk
from lcakit.sharing.importers import rows
from lcakit.sharing.importers.checkpoints import from_checkpoints
from lcakit.testing import tiny_trajectory
from lcakit.trajectory import columns
from lcakit.trajectory.columns import LABELS
from lcakit.trajectory.consistency import label_problems
from lcakit.trajectory.labels import Labels, TensorSpec
from tests.trajectory.test_unit_axes import tensors

GATES = TensorSpec("lstm.weight", (8, 3), "kernel", "lstm", axes="(tap=4 unit) input", unit_kind="hidden unit")
TURNED = TensorSpec("conv1d.weight", (3, 5), "kernel", "conv1d", axes="input unit")
UP = TensorSpec("up.weight", (4, 2, 2), "kernel", "up", "conv transpose", transposed=True, groups=2)
PLAIN = TensorSpec("fc.weight", (4, 6), "kernel", "fc", "linear")
BIAS = TensorSpec("fc.bias", (4,), "bias", "fc", "linear")
NETWORK = (PLAIN, BIAS, GATES, TURNED, UP, TensorSpec("scale", (), "other", "scale", axes="none", unit_kind="none"))


@pytest.fixture
def unheld(monkeypatch):
    """Let no column be held in memory, and whole columns be worked on a few parameters at a time."""
    monkeypatch.setattr(columns, "MOST_HELD", 0)
    monkeypatch.setattr(columns, "PART", 7)


def is_lazy(array: xr.DataArray) -> bool:
    return not array.variable._in_memory


@given(tensors(), st.data())
def test_any_part_of_a_column_is_that_of_the_whole_one(tensor, data):
    axes, shape = tensor
    labels = Labels((BIAS, TensorSpec("t", shape, "kernel", "layer", axes=axes, first_unit=2), TURNED))
    n = labels.n_parameters
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    for name, whole in labels.parameter_labels().items():
        np.testing.assert_array_equal(labels.column(name, start, stop), whole[start:stop])


@pytest.mark.parametrize(
    "key", [slice(None), slice(5, 40, 3), slice(40, 3, -7), slice(9, 9), 17, -1, [3, 3, 60, 1], np.arange(84) % 5 == 0]
)
def test_a_computed_column_takes_any_key(unheld, key):
    whole = Labels(NETWORK).parameter_labels()
    ds = xr.Dataset(coords=Labels(NETWORK).coords())
    for name in LABELS:
        assert is_lazy(ds[name])
        np.testing.assert_array_equal(ds[name][key], whole[name][key])


@pytest.fixture(params=["computed", "file", "copy", "pickled"])
def pair(request, monkeypatch, tmp_path):
    """Give a trajectory with its labels in memory, and one without."""
    held = tiny_trajectory(layers=NETWORK)
    monkeypatch.setattr(columns, "MOST_HELD", 0)
    monkeypatch.setattr(columns, "PART", 7)
    ds = tiny_trajectory(layers=NETWORK)
    if request.param == "copy":
        lk.share(ds, tmp_path / "run.nc", keepbits=23)
    elif request.param != "computed":
        lk.save(ds, tmp_path / "run.nc")
    ds = ds if request.param == "computed" else lk.open_trajectory(tmp_path / "run.nc")
    return held, pickle.loads(pickle.dumps(ds)) if request.param == "pickled" else ds


def test_a_trajectory_without_held_labels_is_the_same(pair):
    held, ds = pair
    assert all(is_lazy(ds[name]) for name in LABELS)
    assert not label_problems(ds)
    assert all(name in repr(ds) for name in LABELS)
    assert all(ds[name].dtype == np.int32 and ds[name].attrs == held[name].attrs for name in LABELS)
    for choice in ({"layer": "lstm", "unit": 1}, {"role": "bias"}, {"layer": "up", "unit": [0, 3]}):
        ours, theirs = ds.lk.sel(**choice), held.lk.sel(**choice)
        xr.testing.assert_equal(ours["lca"], theirs["lca"])  # with all labels
        assert all(is_lazy(ours[name]) for name in LABELS)
    xr.testing.assert_allclose(lk.layers.layer_lca(ds), lk.layers.layer_lca(held))
    xr.testing.assert_allclose(lk.aggregate.sum_by(ds, "unit"), lk.aggregate.sum_by(held, "unit"))
    np.testing.assert_array_equal(ds["lca"].values, held["lca"].values)
    assert all(is_lazy(ds[name]) for name in LABELS)  # whatever was computed of them


def test_a_selection_and_joined_runs_are_saved_and_opened(unheld, tmp_path):
    ds = tiny_trajectory(layers=NETWORK)
    for name in ("a", "b"):
        lk.save(ds, tmp_path / f"{name}.nc", compression="zlib")
    both = lk.open_runs([tmp_path / "a.nc", tmp_path / "b.nc"])
    assert is_lazy(both["unit_index"])
    np.testing.assert_array_equal(both["unit_index"], ds["unit_index"])
    part = lk.open_trajectory(tmp_path / "a.nc").lk.sel(layer=["fc", "up"])
    lk.save(part, tmp_path / "part.nc")
    xr.testing.assert_equal(lk.open_trajectory(tmp_path / "part.nc")["lca"], part["lca"])


def test_the_file_is_the_same(monkeypatch, tmp_path):
    ds = tiny_trajectory(layers=NETWORK).assign_attrs(created_at="now")
    lk.save(ds, tmp_path / "held.nc")
    monkeypatch.setattr(columns, "MOST_HELD", 0)
    lk.save(ds, tmp_path / "unheld.nc")
    with xr.open_dataset(tmp_path / "held.nc") as held, xr.open_dataset(tmp_path / "unheld.nc") as unheld:
        xr.testing.assert_identical(held, unheld)  # as users of plain xarray see them
        assert set(held.coords) == set(unheld.coords)
        assert all(held[name].encoding["contiguous"] and unheld[name].encoding["contiguous"] for name in LABELS)


@pytest.mark.parametrize(
    ("name", "where", "says"),
    [
        ("tensor_index", 30, "tensor_index"),
        ("unit_index", 9, "unit_index|the same tensor"),
        ("input_index", 40, "the same tensor, unit, input and tap"),
        ("unit_index", 53, "the same tensor, unit, input and tap"),
        ("tap_index", 26, "tap_index is not -1"),
    ],
)
@pytest.mark.parametrize("part", [1, 7, 1000])
def test_one_wrong_label_is_found_in_parts_of_any_size(monkeypatch, name, where, says, part):
    monkeypatch.setattr(columns, "PART", part)
    ds = tiny_trajectory(layers=NETWORK)
    wrong = ds[name].copy()
    wrong[where] = wrong[where - 1] if says.startswith("the same") else wrong[where] + 1
    problems = label_problems(ds.assign_coords({name: wrong}))
    assert len(problems) == 1
    assert any(text in problems[0] for text in says.split("|"))


@pytest.mark.slow
def test_a_series_of_checkpoints_is_written_in_the_memory_of_some(tmp_path, monkeypatch):
    """The five columns alone are five checkpoints, in the dataset and again in the file that is opened."""
    model = nn.Sequential(nn.Linear(250, 250), nn.ReLU(), nn.Linear(250, 250))
    bytes_ = 4 * sum(p.numel() for p in model.parameters())
    (tmp_path / "all").mkdir()
    for step in range(4):
        torch.save(model.state_dict(), tmp_path / "all" / f"step{step}.pt")
    monkeypatch.setattr(columns, "MOST_HELD", 2**14)
    monkeypatch.setattr(columns, "PART", 2**11)
    monkeypatch.setattr(rows, "MERGED_BYTES", bytes_)
    from_checkpoints(tmp_path / "all", model=model, out=tmp_path / "first.nc", quiet=True)  # imports
    tracemalloc.start()
    try:
        ds = from_checkpoints(tmp_path / "all", model=model, out=tmp_path / "run.nc", quiet=True)
        peak = tracemalloc.get_traced_memory()[1]
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert is_lazy(ds["unit_index"])
    assert peak < 3 * bytes_
    assert held < bytes_
    np.testing.assert_array_equal(ds["theta"][3, :250], model[0].weight[0].detach())
