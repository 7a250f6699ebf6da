from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import lcakit as lk
from lcakit.analysis.resolution import aggregated
from lcakit.sharing.copies import share
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import group_ids
from tests.support.laziness import any_chunks, nothing_computed, rechunked


def slow_sums(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Twin: LCA (iteration, class, parameter) added to its units or layers one parameter at a time."""
    out = np.zeros((values.shape[0], count, values.shape[1]))
    for i, row in enumerate(rows):
        out[:, row] += values[:, :, i].astype(np.float64)
    return out


@pytest.mark.slow
@given(any_chunks(), st.sampled_from(["unit", "layer"]), st.sampled_from(["lca_unit_class", "lca_class", "lca"]))
def test_aggregated_against_a_loop(chunks, resolution, source):
    ds = tiny_trajectory(9, class_parameters=True)
    values = ds["lca_class"].values if source != "lca" else ds["lca"].values[:, None]
    rows = ds[f"{resolution}_index"].values
    expected = slow_sums(values, rows, ds.sizes[resolution])
    ds = ds.drop_vars(
        {"lca_unit_class": [], "lca_class": ["lca_unit_class"]}.get(source, ["lca_unit_class", "lca_class"])
    )
    with nothing_computed():
        got = aggregated(rechunked(ds, chunks), resolution)
    array = got["lca_unit_class"]
    assert array.dims == ("iteration", "unit", "class")
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-5)
    assert array["class"].values.tolist() == (["all"] if source == "lca" else ["a", "b", "c"])
    assert "parameter" not in got.dims
    assert ("loss_class" in got) == (source != "lca")
    assert array.attrs["units"] == "nats"
    assert lk.validate(got).ok


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["unit", "layer"])
def test_studies_of_layers_and_classes_work_on_sums(tmp_path, resolution):
    ds = tiny_trajectory(60)
    report = share(ds, tmp_path / "copy.nc", resolution=resolution)
    assert report.resolution == resolution
    with lk.open_trajectory(tmp_path / "copy.nc") as got:
        assert got.attrs["resolution"] == resolution
        for by in ("layer", "kernel_layer"):
            for classes in (False, True):
                ours, theirs = (lk.layers.layer_lca(x, by, classes=classes) for x in (got, ds))
                np.testing.assert_allclose(ours, theirs, atol=2e-3 * float(abs(ds["lca_unit_class"]).sum("unit").max()))
        peaks = [lk.synchronization.synchronization_test(x, trials=20) for x in (got, ds)]
        xr.testing.assert_equal(peaks[0]["observed"].compute(), peaks[1]["observed"].compute())
        np.testing.assert_allclose(
            lk.aggregate.cumulative_lca(got)[-1], np.diff(ds["loss"].values[[0, -1]])[0], rtol=1e-2
        )
        fc = got.lk.sel(layer="fc")
        assert fc.sizes["unit"] == (4 if resolution == "unit" else 1)
        np.testing.assert_array_equal(fc["lca_unit_class"], got["lca_unit_class"].values[:, -fc.sizes["unit"] :])
        assert lk.validate(got).ok
        assert lk.account(got).iterations == 60


@pytest.mark.parametrize("resolution", ["unit", "layer"])
def test_what_needs_parameters_says_that_there_are_none(resolution):
    got = aggregated(tiny_trajectory(5), resolution)
    with pytest.raises(lk.TrajectoryError, match="aggregated copy"):
        group_ids(got, "layer")
    for study in (lk.noise.fraction_helping, lk.oscillation.weight_turns, lk.tails.histogram):
        with pytest.raises(lk.TrajectoryError, match="lca_unit_class"):  # it says what there is instead
            study(got)


def test_every_objective_is_summed():
    ds = tiny_trajectory(5)
    both = ds.assign(lca_val=2 * ds["lca"], lca_unit_class_val=2 * ds["lca_unit_class"])
    got = aggregated(both, "layer")
    np.testing.assert_allclose(got["lca_unit_class_val"], 2 * got["lca_unit_class"])
    assert "val" in got["lca_unit_class_val"].attrs["long_name"]
    with pytest.raises(lk.TrajectoryError, match=r"lca_val.*drop=\('lca_val',\)"):
        aggregated(both.drop_vars("lca_unit_class_val"), "unit")
    with pytest.raises(lk.TrajectoryError, match=r"no LCA to sum.*allocate"):
        aggregated(ds.drop_vars(["lca", "lca_unit_class"]), "unit")


def test_sums_of_sums(tmp_path):
    ds = tiny_trajectory(8)
    share(ds, tmp_path / "unit.nc", resolution="unit", keepbits=23)
    share(tmp_path / "unit.nc", tmp_path / "layer.nc", resolution="layer", keepbits=23)
    with lk.open_trajectory(tmp_path / "layer.nc") as got:
        np.testing.assert_allclose(got["lca_unit_class"], aggregated(ds, "layer")["lca_unit_class"], rtol=1e-5)
    with pytest.raises(lk.TrajectoryError, match=r"'layer'.*original"):
        share(tmp_path / "layer.nc", tmp_path / "x.nc", resolution="unit")
    with pytest.raises(lk.TrajectoryError, match="'unit'"):
        share(tmp_path / "unit.nc", tmp_path / "x.nc")


def test_a_selection_is_summed_to_its_own_layers():
    ds = tiny_trajectory(6)
    part = ds.lk.sel(layer="fc")
    for resolution, expected in (("unit", [6, 7, 8, 9]), ("layer", [2])):
        got = aggregated(part.drop_vars("lca_unit_class"), resolution)
        assert got["unit"].values.tolist() == expected
        assert got["unit_layer"].values.tolist() == [2] * len(expected)
        np.testing.assert_allclose(
            got["lca_unit_class"].sum(["unit", "class"]), part["lca"].sum("parameter"), rtol=1e-4
        )


@pytest.mark.parametrize("resolution", ["unit", "layer"])
def test_one_class_is_shared_under_its_name(tmp_path, resolution):
    ds = tiny_trajectory(4)
    share(ds.lk.sel(cls="b"), tmp_path / "b.nc", resolution=resolution, quiet=True)
    with lk.open_trajectory(tmp_path / "b.nc") as got:
        assert got["class"].values.tolist() == ["b"]
        by = "layer" if resolution == "layer" else "unit"
        whole = lk.aggregate.sum_by(ds, by, "lca_unit_class").sel({"class": "b"})
        np.testing.assert_allclose(got["lca_unit_class"].sum(), whole.sum(), rtol=1e-3)  # bits are rounded
        assert lk.validate(got, quiet=True).ok
