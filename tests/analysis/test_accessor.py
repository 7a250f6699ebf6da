from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.testing import LAYERS, tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.laziness import is_lazy, nothing_computed


@pytest.fixture
def ds() -> xr.Dataset:
    return tiny_trajectory(class_parameters=True, chunks={"parameter": 7, "iteration": 5, "snapshot": 5})


@pytest.mark.parametrize(
    ("names", "parameters", "units"),
    [
        ({"layer": "fc"}, [*range(33, 61)], [6, 7, 8, 9]),
        ({"layer": ["conv1", "fc"]}, [*range(27), *range(33, 61)], [0, 1, 2, 6, 7, 8, 9]),
        ({"kernel_layer": "conv1"}, [*range(33)], [0, 1, 2, 3, 4, 5]),
        ({"tensor": "conv1.bias"}, [24, 25, 26], [0, 1, 2]),
        ({"role": "bias"}, [24, 25, 26, 57, 58, 59, 60], [0, 1, 2, 6, 7, 8, 9]),
        ({"layer": "conv1", "role": "bias"}, [24, 25, 26], [0, 1, 2]),
        ({"layer": "conv1", "unit": 1}, [*range(8, 16), 25], [1]),
        ({"kernel_layer": "conv1", "unit": 1}, [*range(8, 16), 25, 28, 31], [1, 4]),
        ({"unit": [7]}, [*range(39, 45), 58], [7]),
    ],
)
def test_sel_keeps_exactly_the_named_parameters(ds, names, parameters, units):
    with nothing_computed():
        part = ds.lk.sel(**names)
    assert part["parameter"].values.tolist() == parameters
    assert part["unit"].values.tolist() == units
    for name in ("theta", "lca", "lca_class"):
        assert np.array_equal(part[name], ds[name].values[..., parameters])
    if {"tensor", "role"} & set(names):  # of whole units, which these are not
        assert "lca_unit_class" not in part
    else:
        assert np.array_equal(part["lca_unit_class"], ds["lca_unit_class"].values[:, units])
    assert np.array_equal(part["tensor"], ds["tensor"])


def test_sel_in_steps_is_sel_at_once(ds):
    steps = ds.lk.sel(kernel_layer="conv1").lk.sel(layer="conv1").lk.sel(layer="conv1", unit=2)
    xr.testing.assert_identical(steps.load(), ds.lk.sel(layer="conv1", unit=2).load())


def test_sel_does_not_change_its_dataset(ds):
    before = ds.copy(deep=True)
    ds.lk.sel(layer="fc", cls="a", iteration=3)
    xr.testing.assert_identical(ds.load(), before.load())


def test_sel_classes(ds):
    one, two = ds.lk.sel(cls="b"), ds.lk.sel(cls=["c", "a"])
    assert "class" not in one.dims
    assert str(one["class"].values) == "b"
    assert np.array_equal(one["lca_class"], ds["lca_class"].values[:, 1])
    assert np.array_equal(two["loss_class"], ds["loss_class"].values[:, [2, 0]])


def test_classes_whose_names_are_numbers():
    ds = tiny_trajectory(3, classes=("0", "1", "2"))
    xr.testing.assert_identical(ds.lk.sel(cls=1), ds.lk.sel(cls="1"))
    xr.testing.assert_identical(ds.lk.sel(cls=[2, 0]), ds.lk.sel(cls=["2", "0"]))


@pytest.mark.parametrize(("cls", "rows"), [("b", [1]), (["c", "a"], [2, 0]), (["a", "a"], [0])])
def test_what_is_of_all_classes_does_not_pass_for_that_of_some(ds, cls, rows):
    with nothing_computed():
        part = ds.lk.sel(cls=cls)
    assert is_lazy(part["lca"])
    whole = ds["lca_class"].values.astype(float)[:, rows].sum(1)
    np.testing.assert_allclose(part["lca"], whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(part["loss"], ds["loss_class"].values[:, rows].sum(1))
    assert part["lca"].dtype == np.float32
    assert part["lca"].attrs == ds["lca"].attrs
    assert part["loss"].attrs == ds["loss"].attrs
    np.testing.assert_allclose(lk.layers.layer_lca(part, "layer")[:, -1], whole[:, 33:].sum(1), rtol=1e-4)
    assert float(lk.noise.fraction_helping(part)) != float(lk.noise.fraction_helping(ds))
    gone = {"gradient", "accuracy", "first_order", "residual"}
    assert set(ds.data_vars) - set(part.data_vars) == gone
    assert part.attrs["all_classes"] == 3
    assert lk.validate(part).ok


@pytest.mark.parametrize("cls", ["b", ["c", "a"]])
def test_classes_of_a_file_with_sums_of_units_only(ds, cls):
    bare = ds.drop_vars("lca_class")
    part, places = bare.lk.sel(cls=cls), [1] if cls == "b" else [2, 0]
    assert "lca" not in part
    expected = ds["lca_unit_class"].values[:, 6:, places].sum((1, 2))
    np.testing.assert_allclose(lk.layers.layer_lca(part, "layer").sel(layer="fc"), expected, rtol=1e-5)
    says = f"selection of {len(places)} of 3 classes has no 'lca'.*before the classes.*classes=\"parameter\""
    with pytest.raises(lk.TrajectoryError, match=says):
        lk.noise.fraction_helping(part)
    with pytest.raises(lk.TrajectoryError, match="no 'gradient'"):
        lk.oscillation.gradient_crossings(part)
    assert lk.validate(part).ok
    assert "loss" not in bare.drop_vars("loss_class").lk.sel(cls=cls)


def test_all_classes_are_no_selection_and_some_of_some_are_fewer(ds):
    xr.testing.assert_identical(ds.lk.sel(cls=["a", "b", "c"]), ds)
    in_steps = ds.lk.sel(cls=["b", "c"]).lk.sel(cls="b")
    xr.testing.assert_identical(in_steps.load(), ds.lk.sel(cls="b").load())
    assert "gradient" in ds.isel({"class": [0]}).lk.sel(cls="a")  # it was the only one


def test_classes_and_what_else_a_file_may_hold(ds, tmp_path):
    more = {f"{name}_val": 2 * ds[name] for name in ("lca", "lca_class", "loss", "gradient")}
    zero = ds["theta"][0].astype("f8").drop_vars("snapshot") * 0
    counts = dict.fromkeys(("total_lca", "helped_count", "turn_count", "crossing_count"), zero)
    part = ds.assign(more | counts | {"mine": zero}).lk.sel(cls=["a", "b"])
    np.testing.assert_allclose(part["lca_val"], 2 * part["lca"], rtol=1e-5)
    assert {"turn_count", "mine", "theta", "splits", "batch_loss", "learning_rate"} <= set(part.data_vars)
    assert not {"loss_val", "gradient_val", "total_lca", "helped_count", "crossing_count"} & set(part.data_vars)
    with lk.open_trajectory(lk.save(ds, tmp_path / "run.nc")) as opened:
        path = lk.save(opened.lk.sel(cls="b"), tmp_path / "part.nc")
    with lk.open_trajectory(path) as again:
        assert "1 of 3 classes" in lk.account(again).to_text()


@pytest.mark.parametrize(("wanted", "first", "last"), [(slice(3, 6), 3, 6), (4, 4, 4), (slice(None, 2), 0, 2)])
def test_sel_iterations_stays_a_trajectory(ds, wanted, first, last):
    part = ds.lk.sel(iteration=wanted)
    assert part["iteration"].values.tolist() == list(range(first, last + 1))
    assert part["snapshot"].values.tolist() == list(range(first, last + 2))
    assert lk.validate(part).ok


def test_statistics_of_the_whole_run_are_not_those_of_all_but_one():
    ds = tiny_trajectory(6).assign(turn_count=("parameter", np.zeros(61, np.int32)))
    assert "turn_count" in ds.lk.sel(iteration=slice(0, 5))
    for part in (slice(0, 4), slice(1, 5)):
        assert "turn_count" not in ds.lk.sel(iteration=part)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ({"layer": "fc1"}, "'fc'"),
        ({"kernel_layer": "norm1"}, "conv1"),
        ({"tensor": "fc.weights"}, r"fc\.weight"),
        ({"role": "biases"}, "'bias'"),
        ({"layer": 0}, r"layer must be a name .* got 0 \(int\).*'conv1', 'norm1', 'fc'"),
        ({"tensor": ["fc.bias", None]}, r"got None \(NoneType\)"),
        ({"cls": "A"}, "'a'"),
        ({"cls": []}, "leaves no class"),
        ({"layer": "fc", "unit": 4}, "unknown unit 4"),
        ({"unit": 10}, "unknown unit 10"),
        ({"unit": ("fc", 3)}, r"got 'fc' \(str\).*channel numbers inside.*layer='conv1', unit=0.*coordinate 'unit'"),
        ({"unit": "3"}, r"got '3' \(str\)"),
        ({"unit": True}, "bool"),
        ({"layer": "fc", "role": "norm_scale"}, "nothing in common"),
        ({"iteration": slice(50, 60)}, "0 to 11"),
        ({"iteration": slice(0, 8, 2)}, "step of 2"),
    ],
)
def test_sel_errors_name_what_is_allowed(ds, names, match):
    with pytest.raises(ValueError, match=match):
        ds.lk.sel(**names)


def test_sel_takes_arrays_of_names(ds):
    xr.testing.assert_identical(ds.lk.sel(layer=ds["layer"][2]), ds.lk.sel(layer="fc"))
    xr.testing.assert_identical(ds.lk.sel(cls=ds["class"].values[:2]), ds.lk.sel(cls=["a", "b"]))
    xr.testing.assert_identical(ds.lk.sel(cls=ds["class"][1]), ds.lk.sel(cls="b"))
    xr.testing.assert_identical(ds.lk.sel(unit=ds["unit"][3:5]), ds.lk.sel(unit=[3, 4]))


def test_a_layer_named_as_a_number_is_not_asked_for_as_one():
    sequential = tiny_trajectory(3, layers=(TensorSpec("0.weight", (2, 3), "kernel", "0", "linear"),))
    with pytest.raises(ValueError, match="Did you mean '0'"):
        sequential.lk.sel(layer=0)
    assert sequential.lk.sel(layer="0").sizes["parameter"] == 6


def test_sel_class_needs_classes(ds):
    bare = ds.drop_dims("class").drop_vars("class", errors="ignore")
    with pytest.raises(lk.TrajectoryError, match="classes="):
        bare.lk.sel(cls="a")


@pytest.mark.parametrize("spec", LAYERS, ids=lambda t: t.name)
def test_unflatten_is_the_natural_shape(ds, spec):
    start = ds["tensor_offset"].sel(tensor=spec.name).item()
    with nothing_computed():
        got = ds.lk.unflatten(spec.name, "lca_class")
    assert is_lazy(got)
    assert got.dims[2:] == ("out", "in", "ky", "kx")[: len(spec.shape)]
    flat = ds["lca_class"].values[..., start : start + spec.size]
    assert np.array_equal(got, flat.reshape(12, 3, *spec.shape))
    assert got.attrs["units"] == "nats"


@pytest.mark.parametrize(
    ("shape", "kind", "dims"),
    [
        ((2, 3, 4), "conv1d", ("out", "in", "kx")),
        ((2, 1, 2, 2, 3), "conv3d", ("out", "in", "kz", "ky", "kx")),
        ((3, 2, 2, 2), "convtranspose2d", ("in", "out", "ky", "kx")),
        ((), "other", ()),
        ((2, 1, 1, 2, 1, 2), "other", ("out", "in", "axis0", "axis1", "axis2", "axis3")),
    ],
)
def test_unflatten_names_the_axes(shape, kind, dims):
    transposed = kind.startswith("convtranspose")
    spec = TensorSpec("w", shape, "other", "w", kind, transposed=transposed)
    got = tiny_trajectory(2, layers=(spec,)).lk.unflatten("w", "theta")
    assert got.dims == ("snapshot", *dims)
    assert got.shape == (3, *shape)


def test_unflatten_after_sel_and_errors(ds):
    part = ds.lk.sel(layer="fc")
    xr.testing.assert_identical(part.lk.unflatten("fc.weight").load(), ds.lk.unflatten("fc.weight").load())
    with pytest.raises(ValueError, match="holds 6 of the 24"):
        ds.lk.sel(layer="fc", unit=0).lk.unflatten("fc.weight")
    with pytest.raises(ValueError, match="holds 0 of the 3"):
        part.lk.unflatten("conv1.bias")
    with pytest.raises(ValueError, match=r"fc\.bias"):
        ds.lk.unflatten("fc.bia")
    with pytest.raises(ValueError, match="'parameter'"):
        ds.lk.unflatten("fc.bias", "loss")


def test_by_forwards_to_sum_by(ds):
    xr.testing.assert_identical(ds.lk.by("layer", "theta").load(), lk.aggregate.sum_by(ds, "layer", "theta").load())


def test_a_trajectory_shows_itself_on_one_screen():
    ds = tiny_trajectory(12)
    lines = repr(ds.lk).splitlines()
    assert len(lines) < 12
    assert all(len(line) <= 160 for line in lines)
    assert "  sizes      12 iterations, 61 parameters, 3 layers, 10 units, 3 classes" in lines
    first, last = (float(ds["loss"][n]) for n in (0, -1))
    assert f"  loss       {first:.4g} to {last:.4g} nats" in lines
    assert "not finished" in repr(ds.assign_attrs(partial=1).lk)
    many = ds.assign_coords(layer=("layer", ["<script>", "\x1b[2J", "c"]))
    assert "&lt;script&gt;" in many.lk._repr_html_()
    assert "<script>" not in many.lk._repr_html_()
    assert "\x1b" not in repr(many.lk)
    assert "loss (val)" in repr(ds.assign(loss_val=ds["loss"]).lk)
    assert repr(xr.Dataset().lk)  # nothing is there, and it says so


@pytest.mark.parametrize("part", [{"role": "bias"}, {"tensor": "fc.bias"}])
def test_sums_of_whole_units_are_not_those_of_some_of_their_tensors(part):
    ds = tiny_trajectory(6)
    some = ds.lk.sel(**part)
    assert "lca_unit_class" not in some
    np.testing.assert_allclose(lk.layers.layer_lca(some).sum(), some["lca"].sum(dtype=float), rtol=1e-6)
    for study in (lk.specialization.specialized_fraction, lambda ds: lk.layers.layer_lca(ds, classes=True)):
        with pytest.raises(lk.TrajectoryError, match=r"no 'lca_unit_class'.*computed over whole units"):
            study(some)
    with pytest.raises(lk.TrajectoryError, match=r"no 'lca'.*computed over all classes"):
        lk.layers.layer_lca(some.lk.sel(cls="a"))
    assert "lca_unit_class" in ds.lk.sel(layer="fc")


def test_a_class_can_be_selected_again():
    one = tiny_trajectory(4).lk.sel(cls="a")
    xr.testing.assert_equal(one.lk.sel(cls="a"), one)
    with pytest.raises(ValueError, match=r"unknown class 'b'.*'a'"):
        one.lk.sel(cls="b")


def test_what_a_file_never_had_did_not_go_with_a_selection():
    ds = tiny_trajectory(4).drop_vars("gradient").lk.sel(cls="a")
    with pytest.raises(lk.TrajectoryError, match="To have it, record with"):
        lk.oscillation.gradient_crossings(ds)
    with pytest.raises(lk.TrajectoryError, match="open the file again"):
        lk.generalization.train_validation(tiny_trajectory(4))


@pytest.mark.parametrize("given", [[3, 4, 5], range(3, 6), np.arange(3, 6), (3, 4, 5), xr.DataArray([3, 4, 5])])
def test_neighbouring_iterations_may_be_listed(given):
    ds = tiny_trajectory()
    xr.testing.assert_identical(ds.lk.sel(iteration=given), ds.lk.sel(iteration=slice(3, 5)))
    xr.testing.assert_identical(ds.lk.sel(iteration=given[1:2]), ds.lk.sel(iteration=4))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([3, 1], r"neighbours .* in their order, got \[3, 1\]"),
        ([3, 5], "neighbours"),
        ([3, 3], "neighbours"),
        (np.array([[1, 2]]), "whole number"),
        ([], "whole number"),
        ("all", "whole number.*'all'"),
        (1.5, "whole number"),
        (True, "whole number"),
        (slice("a", "b"), "whole number"),
        ([11, 12], "neighbours|not in the run"),
    ],
)
def test_other_lists_of_iterations_are_named(given, says):
    with pytest.raises(ValueError, match=says):
        tiny_trajectory().lk.sel(iteration=given)
