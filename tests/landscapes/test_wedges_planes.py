from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import xarray as xr

from lcakit.landscapes.wedges import (
    Wedges,
    find_threshold,
    radius_effect,
    random_plane,
    reachable_loss,
    threshold,
)


@pytest.mark.parametrize(("dimension", "n"), [(40, 20), (60, 45), (80, 16), (50, 5), (100, 50), (120, 100)])
def test_threshold_is_the_number_of_short_directions(dimension, n):
    surface = Wedges(dimension, n)
    found = []
    for seed in range(2):
        target = 1e-6 * float(surface.loss(surface.initial(seed)))
        found.append(find_threshold(surface, target, seed=seed))
    assert np.abs(np.array(found) - (dimension - n)).max() <= 0.1 * (dimension - n)


def test_threshold_does_not_depend_on_the_shape():
    for shape in ("distance", "softened", "saturating"):
        surface = Wedges(40, 20, shape)
        assert find_threshold(surface, 1e-4 * float(surface.loss(surface.initial(0)))) == pytest.approx(20, abs=2)


def test_reached_loss_is_that_of_a_wedge_seen_from_the_plane():
    surface = Wedges(7, 3)
    for seed in range(5):
        reached = reachable_loss(surface, [2], seed=seed).item()
        start, basis = surface.initial(seed).numpy(), random_plane(7, 2, seed).numpy()
        losses = []
        for axes in itertools.combinations(range(7), 4):  # the short axes of each wedge: linear least squares
            rest = np.linalg.lstsq(basis[list(axes)], -start[list(axes)])[1]
            losses.append(rest[0] / 2)
        assert np.abs(np.array(losses) - reached).min() < 1e-9
        assert reached < float(surface.loss(torch.from_numpy(start)))


def test_reachable_loss_falls_with_the_dimension_and_repeats():
    surface = Wedges(40, 20)
    low = reachable_loss(surface, [5, 10, 15, 20, 30], repeats=3, seed=4)
    assert low.dims == ("plane_dimension", "repeat")
    assert (low < low["start"]).all()
    assert (low.mean("repeat").diff("plane_dimension") < 1e-12).all()
    np.testing.assert_array_equal(threshold(low, 1e-8), 20)
    xr.testing.assert_identical(low, reachable_loss(surface, [5, 10, 15, 20, 30], repeats=3, seed=4))
    assert threshold(low.isel(plane_dimension=slice(2)), 1e-8).isnull().all()
    assert np.isnan(find_threshold(surface, 1e-8, largest=10))
    assert find_threshold(surface, 1e9) == 1


def test_planes_are_orthonormal_and_even():
    basis = random_plane(50, 7, seed=1)
    torch.testing.assert_close(basis.T @ basis, torch.eye(7, dtype=torch.float64))
    assert not torch.equal(basis, random_plane(50, 7, seed=2))


@pytest.mark.parametrize("k", [0, 61, -1, 2.5])
def test_plane_dimensions_outside_the_space(surface, k):
    with pytest.raises(ValueError, match=r"D = 60 dimensions has a whole dimension of 1 to 60"):
        random_plane(60, k)
    with pytest.raises(ValueError, match="1 to 60"):
        reachable_loss(surface, [5, k])
    with pytest.raises(ValueError, match="1 to 60"):
        find_threshold(surface, 1e-6, largest=k)
    with pytest.raises(ValueError, match="1 to 60"):
        radius_effect(surface, [1.0], plane_dimension=k)


def test_plane_errors(surface):
    with pytest.raises(ValueError, match="plane dimensions and repeats are needed"):
        reachable_loss(surface, [])
    with pytest.raises(ValueError, match="radius must be positive"):
        reachable_loss(surface, [2], radius=-1.0)
    with pytest.raises(ValueError, match="radii and repeats are needed"):
        radius_effect(surface, [], 3)
