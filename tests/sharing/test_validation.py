from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given

import lcakit as lk
from lcakit.sharing.validation import GROUPS
from lcakit.testing import tiny_trajectory
from tests.support.laziness import any_chunks, rechunked, two_runs

TINY = tiny_trajectory(10, class_parameters=True)


def tiny() -> xr.Dataset:
    return TINY.copy(deep=True)


def with_values(ds: xr.Dataset, name: str, change) -> xr.Dataset:
    """Return ds with the values of a variable changed in place by ``change(values)``."""
    values = ds[name].values.copy()
    change(values)
    return (
        ds.assign_coords({name: (ds[name].dims, values)})
        if name in ds.coords
        else ds.assign({name: (ds[name].dims, values)})
    )


def put(index, value):
    def change(values):
        values[index] = value

    return change


def add(index, value):
    def change(values):
        values[index] += value

    return change


@pytest.mark.slow
@given(any_chunks())
def test_a_sound_trajectory_passes_every_check(chunks):
    report = lk.validate(rechunked(tiny(), chunks))
    assert report.ok, report
    assert {check.status for check in report.checks} == {"pass"}
    assert [sum(check.group == group for check in report.checks) for group in GROUPS] == [12, 10, 9]


def swap_unit_rows(values):
    values[:, [0, 1]] = values[:, [1, 0]]


def swap_rows(a, b):
    def change(values):
        values[[a, b]] = values[[b, a]]

    return change


def copy_row(to, source):
    def change(values):
        values[to] = values[source]

    return change


def permuted(place):
    """Put the labels of one tensor in another order, all columns alike: each place is still named once."""

    def spoil(ds):
        for name in ("unit_index", "input_index", "tap_index"):
            ds = with_values(ds, name, reorder)
        return ds

    def reorder(values):
        values[place] = np.random.default_rng(0).permutation(values[place])

    return spoil


# name of the check -> ways to break it
BROKEN = {
    "format version": [
        lambda ds: ds.assign_attrs(schema_version="9.0"),
        lambda ds: ds.assign_attrs(schema_version="one"),
    ],
    "attributes": [
        lambda ds: ds.drop_attrs(deep=False).assign_attrs(schema_version="1.0"),
        lambda ds: ds.assign_attrs(tolerance="small"),
        lambda ds: ds.assign_attrs(n_examples=np.nan),
        lambda ds: ds.assign_attrs(n_examples=0),
        lambda ds: ds.assign_attrs(rule=4),
        lambda ds: ds.assign_attrs(rule="r" * 10_000),
    ],
    "variables": [
        lambda ds: ds.assign(theta=ds["theta"].astype("f8")),
        lambda ds: ds.assign(lca=ds["lca"].transpose()),
        lambda ds: ds.assign_coords(tensor_index=ds["tensor_index"].astype("f4")),
        lambda ds: ds.drop_vars(list(ds.data_vars)),
        lambda ds: ds.assign_coords(tensor_shape=ds["tensor_shape"][:, 0]),
        lambda ds: ds.assign(loss=ds["loss"].assign_attrs(scale_factor=0.5)),
    ],
    "sizes": [
        lambda ds: ds.isel(snapshot=slice(1, None)),
        lambda ds: ds.drop_dims("snapshot"),
        lambda ds: ds.drop_vars("snapshot"),
        lambda ds: ds.drop_vars("iteration"),
    ],
    "tensor table": [
        lambda ds: with_values(ds, "tensor_offset", add(2, 1)),
        lambda ds: with_values(ds, "tensor_shape", put((0, 0), 5)),
        lambda ds: with_values(ds, "tensor_shape", put((1, 2), 1)),
        lambda ds: with_values(ds, "tensor_size", put(0, -24)),
        lambda ds: with_values(ds, "tensor_size", put(0, 2**62)),
        lambda ds: with_values(ds, "tensor_layer", put(0, 7)),
        lambda ds: with_values(ds, "tensor_role", put(0, "bark")),
        lambda ds: with_values(ds, "tensor", put(1, "conv1.weight")),
        lambda ds: ds.drop_vars("tensor_size"),
    ],
    "layer table": [
        lambda ds: with_values(ds, "kernel_layer", put(1, -1)),
        lambda ds: ds.drop_vars("layer_kind"),
        lambda ds: with_values(ds, "layer", put(1, "conv1")),
    ],
    "unit table": [
        lambda ds: with_values(ds, "unit_layer", put(0, 3)),
        lambda ds: with_values(ds, "unit_channel", put(0, 1)),
        lambda ds: with_values(ds, "unit_channel", put(2, 7)),
        lambda ds: with_values(ds, "unit_channel", put(2, -1)),
        lambda ds: with_values(ds, "unit", put(1, 0)),
        lambda ds: ds.drop_vars("unit_channel"),
    ],
    "class table": [
        lambda ds: with_values(ds, "class", put(1, "a")),
        lambda ds: ds.drop_vars("class"),
    ],
    "parameter labels": [
        lambda ds: with_values(ds, "tensor_index", put(0, 1)),
        lambda ds: with_values(ds, "tensor_index", put(0, 99)),
        lambda ds: with_values(ds, "layer_index", put(0, 1)),
        lambda ds: with_values(ds, "layer_index", put(0, -1)),
        lambda ds: with_values(ds, "unit_index", put(0, 99)),
        lambda ds: with_values(ds, "unit_index", put(0, 9)),
        lambda ds: with_values(ds, "tap_index", put(0, -2)),
        lambda ds: with_values(ds, "tap_index", put(0, 1)),  # two entries in one place
        lambda ds: with_values(ds, "input_index", put(0, 2)),  # a third input of a kernel that has two
        lambda ds: with_values(ds, "input_index", put(25, 0)),  # an input of a bias
        lambda ds: with_values(ds, "tap_index", put(40, 0)),  # a tap of a matrix
        lambda ds: ds.isel(parameter=slice(10)),
        lambda ds: ds.drop_vars("unit_index"),
    ],
    "finite loss": [
        lambda ds: with_values(ds, "loss", put(3, np.nan)),
        lambda ds: with_values(ds, "residual", put(3, np.inf)),
        lambda ds: with_values(ds, "loss_class", put((3, 0), np.nan)),
    ],
    "splits": [
        lambda ds: with_values(ds, "splits", put(3, -2)),
        lambda ds: with_values(ds, "splits", put(3, 0)),
    ],
    "length": [lambda ds: ds.isel(iteration=slice(0), snapshot=slice(1))],
    "labels and shapes": [
        lambda ds: with_values(ds, "layer", put([0, 2], ["fc", "conv1"])),
        lambda ds: with_values(ds, "tensor_role", put(1, "kernel")),
        lambda ds: with_values(ds, "tensor_role", put([4, 5], ["bias", "kernel"])),
        lambda ds: with_values(ds, "kernel_layer", put([0, 2], [2, 0])),
        lambda ds: with_values(ds, "kernel_layer", put(2, 0)),
        permuted(slice(33, 57)),
        permuted(slice(0, 24)),
    ],
    "class columns": [
        lambda ds: ds.assign(loss_class=(ds["loss_class"].dims, ds["loss_class"].values[:, [1, 0, 2]])),
        lambda ds: ds.assign(lca_class=(ds["lca_class"].dims, ds["lca_class"].values[:, [1, 2, 0]])),
    ],
    "returning snapshots": [
        lambda ds: with_values(ds, "theta", copy_row(7, 3)),
        lambda ds: with_values(ds, "theta", copy_row(2, 0)),
    ],
    "steps": [
        lambda ds: with_values(ds, "iteration", put(3, 2)),
        lambda ds: with_values(ds, "snapshot", put(3, 9)),
        lambda ds: ds.assign_coords(iteration=ds["iteration"] + 1),
    ],
    "finite values": [
        lambda ds: with_values(ds, "theta", put((0, 3), np.nan)),
        lambda ds: with_values(ds, "theta", put((10, 60), -np.inf)),
        lambda ds: with_values(ds, "gradient", put((10, 3), np.inf)),
        lambda ds: with_values(ds, "lca", put((4, 3), np.inf)),
        lambda ds: with_values(ds, "lca_class", put((4, 1, 3), np.nan)),
        lambda ds: with_values(ds, "lca_unit_class", put((4, 1, 2), np.nan)),
    ],
    "total": [
        lambda ds: ds.assign(lca=ds["lca"] * np.float32(1.02)),
        lambda ds: with_values(ds, "lca", put((0, 0), np.nan)),
        lambda ds: ds.assign(residual=ds["residual"] + 1.0).drop_vars(["lca", "lca_class"]),
    ],
    "iterations": [
        lambda ds: with_values(ds, "lca", add((4, 0), 1e-2)),
        lambda ds: with_values(ds, "residual", add(4, 1e-2)),
        lambda ds: with_values(ds, "loss", add(4, 1e-2)),
    ],
    "unit classes": [
        lambda ds: with_values(ds, "lca_unit_class", add((4, 0, 0), 1e-2)),
        lambda ds: with_values(ds, "lca_unit_class", swap_unit_rows),  # same sums, wrong units
        lambda ds: with_values(ds.drop_vars(["lca", "lca_class"]), "lca_unit_class", add((4, 0, 0), 1e-2)),
    ],
    "first order": [
        lambda ds: with_values(ds, "first_order", add(4, 1e-2)),
        lambda ds: with_values(ds, "gradient", swap_rows(4, 5)),
        lambda ds: with_values(ds, "theta", swap_rows(4, 5)),
        lambda ds: with_values(ds, "theta", swap_rows(0, 1)),
    ],
    "zero moves": [
        lambda ds: with_values(ds, "lca", put((4, 4), 1e-30)),  # every fifth parameter is frozen
        lambda ds: with_values(ds, "lca", put((0, 59), -1e-6)),
    ],
    "classes": [lambda ds: with_values(ds, "lca_class", add((4, 0, 0), 1e-2))],
    "loss of classes": [lambda ds: with_values(ds, "loss_class", add((4, 0), 1e-2))],
}


@pytest.mark.parametrize(
    ("name", "spoil"), [(name, spoil) for name, ways in BROKEN.items() for spoil in ways],
    ids=[f"{name}-{n}" for name, ways in BROKEN.items() for n in range(len(ways))],
)  # fmt: skip
def test_every_check_can_fail(name, spoil):
    report = lk.validate(spoil(tiny()))
    assert report[name].status == "fail", report
    assert not report.ok
    assert report[name].remedy
    assert report[name].cause
    assert report[name].cause in report.to_text()


def test_residual_above_the_tolerance_is_a_warning_with_its_count():
    ds = tiny()
    shift = np.zeros(11)
    shift[5] = 0.5  # a loss that only one iteration could not follow: residuals of -0.5 and +0.5 there
    ds = ds.assign(loss=ds["loss"] + shift, residual=ds["residual"] - np.diff(shift))
    report = lk.validate(ds.drop_vars("loss_class"))
    assert report.ok, report
    assert report["residual"].status == "warn"
    assert report["residual"].figure.startswith("2 of 10")


def test_newer_minor_version_is_a_warning():
    report = lk.validate(tiny().assign_attrs(schema_version="1.7"))
    assert report.ok
    assert report["format version"].status == "warn"


def test_broken_structure_stops_before_the_numbers():
    report = lk.validate(tiny().isel(snapshot=slice(1, None)))
    assert report["numbers"].status == "warn"
    assert "sizes" in report["numbers"].figure


def test_selections_are_sound_but_say_so():
    report = lk.validate(tiny().lk.sel(layer="fc", cls="a"))
    assert report.ok, report
    assert report["selection"].status == "warn"


@pytest.mark.slow
def test_runs_and_other_objectives():
    ds = two_runs(tiny(), tiny_trajectory(10, seed=1, class_parameters=True))
    assert lk.validate(ds.chunk(iteration=3)).ok
    del ds.attrs["loss_unit"]
    assert lk.validate(ds)["attributes"].status == "fail"
    assert not lk.validate(with_values(ds, "lca", add((1, 4, 0), 1e-2))).ok
    val = tiny().assign({f"{n}_val": 3 * TINY[n] for n in ("loss", "residual", "lca")})
    assert lk.validate(val).ok
    assert lk.validate(with_values(val, "lca_val", add((4, 0), 1e-2)))["iterations (val)"].status == "fail"


def test_a_further_objective_is_judged_by_its_own_rule_and_tolerance():
    more = {f"{n}_val": TINY[n] for n in ("loss", "residual")} | {"lca_val": (1.1 * TINY["lca"]).astype("f4")}
    ds = tiny().assign(more)
    ds["residual_val"] = ds["residual"] + 0.1 * ds["lca"].sum("parameter")
    report = lk.validate(ds.assign_attrs(rule_val="first_order", tolerance_val=1e3))
    assert report["total (val)"].status == "warn"
    assert report["residual (val)"].status == "pass"
    report = lk.validate(ds)
    assert report["total (val)"].status == "fail"
    assert report["residual (val)"].status == "warn"


def test_a_trajectory_without_lca_is_judged_by_what_it_has():
    report = lk.validate(tiny().drop_vars([n for n in TINY.data_vars if n not in ("theta", "loss")]))
    assert report.ok
    with pytest.raises(KeyError, match="finite loss"):
        report["total"]


def test_report_says_everything_in_every_form():
    ds = with_values(tiny(), "loss", add(4, 1e-2))
    report = lk.validate(ds.rename({}).assign_attrs(schema_version="<b>1</b>"))
    assert "NOT SOUND" in repr(report)
    assert report["format version"].remedy in report.to_text()
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["ok"] is False
    assert {"name", "group", "status", "figure", "meaning", "remedy", "cause"} == set(plain["checks"][0])
    page = report._repr_html_()
    assert "<b>1</b>" not in page
    assert "&lt;b&gt;1&lt;/b&gt;" in page


def test_files(tmp_path):
    path = lk.save(tiny(), tmp_path / "run.nc")
    report = lk.validate(path)
    assert report.ok, report
    assert report.source == str(path)
    with pytest.raises(lk.TrajectoryError):
        lk.validate(tmp_path / "none.nc")
    (tmp_path / "junk.nc").write_bytes(b"no netCDF")
    with pytest.raises(lk.TrajectoryError):
        lk.validate(tmp_path / "junk.nc")
