from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr

from lcakit.landscapes.wedges import (
    Wedges,
    barrier,
    connect,
    geometry,
    optima,
    straight_path,
)
from tests.support.points import support


def test_straight_path_is_the_loss_point_by_point(surface, found):
    path = straight_path(surface, found[0], found[1], positions=7)
    slow = [geometry.loss((1 - t) * found[0].values + t * found[1].values, 30) for t in np.linspace(0, 1, 7)]
    np.testing.assert_allclose(path, slow, atol=1e-12)
    np.testing.assert_allclose(path["position"], np.linspace(0, 1, 7))
    assert barrier(path) == pytest.approx(max(slow))
    assert barrier(path) > 0.1


def test_barrier_is_measured_from_the_line_between_the_ends():
    path = xr.DataArray([0.0, 1.5, 2.0, 2.0], dims="position", coords={"position": [0, 0.25, 0.5, 1]})
    assert barrier(path) == pytest.approx(1.0)
    assert barrier(path.copy(data=[3.0, 0, 0, 3.0])) == 0


@pytest.mark.parametrize("bends", [1, 2, 3])
def test_bent_paths_have_no_barrier(surface, found, bends):
    path = connect(surface, found[0], found[1], bends)
    assert path["straight_barrier"] > 0.1
    assert path["barrier"] < 1e-10
    assert path["theta"].shape == (bends + 2, 60)
    np.testing.assert_array_equal(path["theta"][0], found[0])
    np.testing.assert_array_equal(path["theta"][-1], found[1])
    # nothing between the points it was optimized at either: look at random places of the polyline
    vertices = path["theta"].values
    t = np.random.default_rng(0).uniform(size=(200, 1))
    for a, b in itertools.pairwise(vertices):
        assert geometry.loss((1 - t) * a + t * b, 30).max() < 1e-10
    xr.testing.assert_allclose(path["straight"].rename("loss"), straight_path(surface, found[0], found[1]))
    np.testing.assert_allclose(path["radius"][[0, -1]], np.linalg.norm(found[:2], axis=1))


def test_one_bend_lies_where_the_wedges_meet(surface, found):
    middle = support(connect(surface, found[0], found[1])["theta"][1])
    both = support(found[0]) & support(found[1])
    assert not (middle & ~both).any()
    assert middle.sum() >= both.sum() - 2


def test_wedges_that_do_not_meet_are_joined_through_the_origin():
    path = connect(Wedges(4, 2), [1.0, 2.0, 0, 0], [0, 0, 1.5, -1.0])
    np.testing.assert_allclose(path["theta"][1], 0, atol=1e-8)
    assert path["barrier"] < 1e-12
    assert path["radius"].min() < 1e-7


@pytest.mark.parametrize("shape", ["softened", "saturating", "distance"])
def test_every_shape_is_connected(shape):
    surface = Wedges(40, 20, shape, scale=0.5)
    a, b = optima(surface, 2)
    path = connect(surface, a, b)
    assert path["straight_barrier"] > 0.2
    assert path["barrier"] < 1e-6


def test_path_errors(surface, found):
    with pytest.raises(ValueError, match="60 coordinates"):
        connect(surface, found[0], np.zeros(59))
    with pytest.raises(ValueError, match="must be finite, got inf"):
        straight_path(surface, found[0], np.full(60, np.inf))
    with pytest.raises(ValueError, match="bends must be at least 1, got 0"):
        connect(surface, found[0], found[1], bends=0)
    with pytest.raises(ValueError, match="points must be at least 1"):
        connect(surface, found[0], found[1], points=0)
    with pytest.raises(ValueError, match="positions must be at least 2"):
        straight_path(surface, found[0], found[1], positions=1)
