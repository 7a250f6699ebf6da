"""Norms that a compact copy keeps in place of vectors: a slow twin, the peaks that follow, and what bad input says."""

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
from tests.support.laziness import any_chunks, nothing_computed, rechunked

NAMES = ("unit_gradient_norm", "unit_movement_norm", "unit_effective_norm")
QUANTITIES = ("lca", "gradient", "movement", "effective_gradient")


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return tiny_trajectory(30, class_parameters=True)


@pytest.fixture(scope="module")
def copies(ds, tmp_path_factory) -> dict[str, xr.Dataset]:
    folder = tmp_path_factory.mktemp("norms")
    made = {}
    for resolution in ("unit", "layer"):
        share(ds, folder / f"{resolution}.nc", resolution=resolution, keepbits=23, norms=True)
        made[resolution] = lk.open_trajectory(folder / f"{resolution}.nc").load()
    share(folder / "unit.nc", folder / "again.nc", resolution="layer", keepbits=23)
    return made | {"again": lk.open_trajectory(folder / "again.nc").load()}


def slow_norms(ds: xr.Dataset, resolution: str) -> dict[str, np.ndarray]:
    """Twin: the squares of each parameter added to its unit or layer, one parameter at a time."""
    rows, n = ds[f"{resolution}_index"].values, ds.sizes[resolution]
    theta, gradient, by_class = (ds[name].values.astype(float) for name in ("theta", "gradient", "lca_class"))
    moved = theta[1:] - theta[:-1]
    squares = {
        "unit_gradient_norm": np.zeros((len(gradient), n)),
        "unit_movement_norm": np.zeros((len(moved), n)),
        "unit_effective_norm": np.zeros((len(moved), n, by_class.shape[1])),
    }
    for i, row in enumerate(rows):
        squares["unit_gradient_norm"][:, row] += gradient[:, i] ** 2
        squares["unit_movement_norm"][:, row] += moved[:, i] ** 2
        for t, move in enumerate(moved[:, i]):
            if move != 0:
                squares["unit_effective_norm"][t, row] += (by_class[t, :, i] / move) ** 2
    return {name: np.sqrt(values) for name, values in squares.items()}


@pytest.mark.parametrize("resolution", ["unit", "layer"])
def test_norms_against_a_loop(ds, copies, resolution):
    for name, expected in slow_norms(ds, resolution).items():
        got = copies[resolution][name]
        assert got.dtype == np.float32
        assert got.attrs["units"] == ("1" if name == "unit_movement_norm" else "nats")
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-12)
        if resolution == "layer":  # also of a copy of a copy, which did not ask
            np.testing.assert_allclose(copies["again"][name], expected, rtol=1e-6, atol=1e-12)
    assert lk.validate(copies[resolution]).ok


@pytest.mark.slow
@given(any_chunks(), st.sampled_from(["unit", "layer"]))
def test_norms_are_lazy_in_any_chunks(chunks, resolution):
    source = tiny_trajectory(9, class_parameters=True)
    with nothing_computed():
        got = aggregated(rechunked(source, chunks), resolution, norms=True)
    for name, expected in slow_norms(source, resolution).items():
        np.testing.assert_allclose(got[name], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("copy", ["unit", "layer", "again"])
@pytest.mark.parametrize("of", QUANTITIES)
def test_peaks_from_norms_are_those_of_the_vectors(ds, copies, copy, of):
    for by in ("layer", "kernel_layer"):
        ours, theirs = (lk.synchronization.peak_iterations(one, 5, of, by=by) for one in (copies[copy], ds))
        assert ours.dims == theirs.dims
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(ours["value"], theirs["value"], rtol=1e-5)
    tests = [lk.synchronization.synchronization_test(one, k=5, of=of, trials=20) for one in (copies[copy], ds)]
    xr.testing.assert_allclose(*tests)


def test_norms_without_asking_are_left_out(ds):
    assert not set(NAMES) & set(aggregated(ds, "unit").data_vars)


def test_what_has_no_vectors_keeps_the_norms_there_are(ds):
    got = aggregated(ds.drop_vars(["gradient", "lca_class"]), "layer", norms=True)
    assert [name for name in NAMES if name in got] == ["unit_movement_norm"]
    with pytest.raises(lk.TrajectoryError, match="norms=True needs"):
        aggregated(ds.drop_vars(["gradient", "lca_class", "theta"]), "layer", norms=True)
    with pytest.raises(ValueError, match='resolution="unit" with it, or resolution="layer"'):
        aggregated(ds, "parameter", norms=True)


def test_a_copy_with_norms_is_of_the_version_that_has_them(ds):
    old = ds.assign_attrs(schema_version="1.0", Conventions="lcakit-1.0")
    assert aggregated(old, "layer").attrs["schema_version"] == "1.0"
    got = aggregated(old, "layer", norms=True).attrs
    assert (got["schema_version"], got["Conventions"]) == ("1.1", "lcakit-1.1")


def test_norms_of_another_objective(ds):
    both = ds.assign(lca_val=2 * ds["lca"], lca_class_val=2 * ds["lca_class"], gradient_val=2 * ds["gradient"])
    got = aggregated(both.drop_vars("lca_unit_class"), "layer", norms=True)
    for name in ("unit_gradient_norm", "unit_effective_norm"):
        np.testing.assert_allclose(got[f"{name}_val"], 2 * got[name], rtol=1e-6)
    assert "unit_movement_norm_val" not in got
    peaks = [lk.synchronization.peak_iterations(one, 4, "gradient", lca="lca_val") for one in (got, both)]
    np.testing.assert_array_equal(*peaks)


def test_selections_leave_out_norms_of_more_than_is_selected(copies):
    copy = copies["unit"]
    layer = copy.lk.sel(layer="fc")
    np.testing.assert_array_equal(layer["unit_gradient_norm"], copy["unit_gradient_norm"][:, -4:])
    of_class = copy.lk.sel(cls="b")
    assert "unit_gradient_norm" not in of_class
    np.testing.assert_array_equal(of_class["unit_effective_norm"], copy["unit_effective_norm"].sel({"class": "b"}))
    assert not set(NAMES) & set(copy.lk.sel(role="bias").data_vars)
    short = copy.lk.sel(iteration=slice(5, 14))
    assert (short["unit_gradient_norm"].sizes["snapshot"], short["unit_movement_norm"].sizes["iteration"]) == (11, 10)


@pytest.mark.parametrize("of", QUANTITIES[1:])
def test_a_copy_without_norms_says_how_to_keep_them(ds, of):
    with pytest.raises(lk.TrajectoryError, match=r"(?s)[Rr]ecord with.*lk\.share\(…, norms=True\)"):
        lk.synchronization.peak_iterations(aggregated(ds, "layer"), 5, of)


def test_groups_that_units_do_not_make_up_are_refused(copies):
    with pytest.raises(ValueError, match="'unit', 'layer', 'kernel_layer'"):
        lk.synchronization.peak_iterations(copies["unit"], 5, "gradient", by="role")
