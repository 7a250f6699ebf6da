from __future__ import annotations

import numpy as np
import pytest

from lcakit.landscapes.wedges import (
    Wedges,
    average_loss,
    averaging,
    compare,
    geometry,
    optima,
    reachable_loss,
)


def test_average_loss_step_by_step(surface, rng):
    points = rng.normal(size=(4, 60))
    found = average_loss(surface, points)
    for m in range(1, 5):
        here, mean = found.sel(count=m), points[:m].mean(0)
        assert here["loss_of_average"] == pytest.approx(geometry.loss(mean, 30))
        assert here["average_loss"] == pytest.approx(geometry.loss(points[:m], 30).mean())
        spread = np.sqrt(np.square(points[:m] - mean).sum(1).mean())
        assert here["spread"] == pytest.approx(spread, abs=1e-6)


def test_close_checkpoints_average_into_the_wedge_and_far_ones_out_of_it():
    rate, noise, count = 0.2, 0.01, 20
    found = averaging(Wedges(200, 100), count, spacing=30, learning_rate=rate, noise=noise)
    close, far = found.sel(kind="close"), found.sel(kind="far")
    floor = 100 * (rate * noise**2 / (2 - rate)) / 2
    assert close["average_loss"][-1] == pytest.approx(floor, rel=0.1)
    assert close["loss_of_average"][-1] == pytest.approx(floor / count, rel=0.4)
    assert far["average_loss"].max() < 1e-12
    assert far["loss_of_average"].sel(count=2) > 1
    assert (close["spread"] < 0.2 * far["spread"])[1:].all()


def test_averaging_errors(surface):
    with pytest.raises(ValueError, match="count must be at least 1"):
        averaging(surface, 0)
    with pytest.raises(ValueError, match="several points"):
        average_loss(surface, surface.initial(0))


def test_compare_joins_results():
    surfaces = {"thin": Wedges(30, 10), "thick": Wedges(30, 20)}
    both = compare(surfaces, reachable_loss, plane_dimensions=[5, 25])
    assert both.dims[0] == "surface"
    for name, surface in surfaces.items():
        expected = reachable_loss(surface, [5, 25])
        np.testing.assert_array_equal(both.sel(surface=name), expected)
        np.testing.assert_array_equal(both["start"].sel(surface=name), expected["start"])
    uneven = compare(surfaces, lambda s: reachable_loss(s, [s.wedge_dimension]))
    assert uneven["plane_dimension"].values.tolist() == [10, 20]
    assert int(uneven.isnull().sum()) == 2
    with pytest.raises(ValueError, match="surfaces is empty"):
        compare({}, reachable_loss)
    with pytest.raises(ValueError, match="by parameter"):
        compare(surfaces, optima)
