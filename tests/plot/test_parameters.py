"""Heat maps of a layer: each parameter, and each unit over time, at its place."""

from __future__ import annotations

import numpy as np
import pytest

import lcakit as lk
from tests.support.pictures import DS, IMAGES, hv, marks, pixels, plot


def test_a_convolution_is_a_grid_of_kernels():
    shown = pixels(plot.parameter_map(DS, "conv1", iteration=slice(3, 6)))
    kernel = DS.lk.unflatten("conv1.weight").sel(iteration=slice(3, 6)).sum("iteration")
    assert shown.shape == (3 * 3 - 1, 2 * 3 - 1)
    np.testing.assert_allclose(shown[3:5, 3:5], kernel.sel({"in": 1, "out": 1}), rtol=1e-5)
    assert np.isnan(shown[2]).all()


def test_units_of_a_first_layer_are_images_and_know_their_place():
    (element,) = marks(plot.parameter_map(IMAGES, quantity="movement"), hv.Image)
    moved = IMAGES.lk.unflatten("fc1.weight", "theta").isel(snapshot=[0, -1]).astype(float).diff("snapshot")[0].values
    value, unit, inputs = (element.dimension_values(n) for n in (2, 3, 4))
    inside = np.isfinite(unit)
    np.testing.assert_allclose(value[inside], moved[unit[inside].astype(int), inputs[inside].astype(int)])
    tile = pixels(element)[:4, 5:9]
    np.testing.assert_allclose(tile, moved[1].reshape(4, 4))


def test_units_of_a_first_layer_are_rows_where_no_images_are_wanted():
    shown = pixels(plot.parameter_map(IMAGES, iteration=3, images=False))
    np.testing.assert_allclose(shown, IMAGES.lk.unflatten("fc1.weight").sel(iteration=3), rtol=1e-6)


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("lca", lambda ds: ds["lca"].sel(iteration=slice(2, 4)).sum("iteration")),
        ("cumulative", lambda ds: ds["lca"].sel(iteration=slice(None, 4)).sum("iteration")),
        ("gradient", lambda ds: ds["gradient"].sel(snapshot=slice(2, 4)).mean("snapshot")),
        ("movement", lambda ds: ds["theta"].sel(snapshot=5) - ds["theta"].sel(snapshot=2)),
        ("theta", lambda ds: ds["theta"].sel(snapshot=5)),
    ],
)
def test_quantities_of_a_window(quantity, expected):
    shown = pixels(plot.parameter_map(DS, "fc", slice(2, 4), quantity))
    part = expected(DS.lk.sel(tensor="fc.weight")).values.reshape(4, 6)
    np.testing.assert_allclose(shown, part, rtol=1e-4, atol=1e-6)


def test_units_over_time():
    np.testing.assert_allclose(
        pixels(plot.unit_map(DS, "fc")), lk.aggregate.sum_by(DS.lk.sel(layer="fc"), "unit").T, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("select", [lambda ds, c: ds.lk.sel(cls=c), lambda ds, c: ds.lk.sel(cls=[c])])
def test_units_over_time_of_a_selection_of_one_class(select):
    chosen = str(DS["class"].values[1])
    expected = DS["lca_unit_class"].sel({"class": chosen})[:, DS["unit_layer"].values == 2]
    np.testing.assert_allclose(pixels(plot.unit_map(select(DS, chosen), "fc")), expected.T, rtol=1e-4, atol=1e-6)
