from __future__ import annotations

import itertools

import numpy as np
import pytest

from lcakit.landscapes.wedges import (
    Wedges,
    geometry,
    plane_cut,
    polar_cut,
    radius_effect,
    reachable_loss,
)


@pytest.mark.parametrize(("shape", "power"), [("quadratic", 2), ("distance", 1)])
def test_loss_grows_with_the_radius(shape, power):
    radii = np.array([0.5, 1.0, 3.0])
    effect = radius_effect(Wedges(50, 25, shape), radii, plane_dimension=10, repeats=2)
    for repeat in range(2):
        loss = effect["loss"].isel(repeat=repeat).values
        np.testing.assert_allclose(loss, loss[1] * radii**power)
        slope = effect["gradient_norm"].isel(repeat=repeat).values
        np.testing.assert_allclose(slope, slope[1] * radii ** (power - 1))
    assert (effect["reached"] < effect["loss"]).all()
    assert "threshold" not in effect
    same = reachable_loss(Wedges(50, 25, shape), [10], repeats=2, radius=1.0)
    np.testing.assert_array_equal(effect["reached"].sel(radius=1.0), same.squeeze())
    np.testing.assert_array_equal(effect["loss"].sel(radius=1.0), same["start"])


def test_a_fixed_target_needs_larger_planes_farther_out():
    effect = radius_effect(Wedges(50, 25), [1, 4, 16, 64], plane_dimension=5, target=0.05)
    dimensions = effect["threshold"].squeeze().values
    assert dimensions[0] == 1  # the start is below it
    assert (np.diff(dimensions) >= 0).all()
    assert dimensions[-1] == pytest.approx(25, abs=2)


def test_wedges_look_like_radial_tunnels(surface, found):
    cut = polar_cut(surface, found[0], found[1], angles=72, radii=5)
    assert cut.shape == (5, 72)
    shares = cut / cut["radius"] ** 2  # the same at every radius
    np.testing.assert_allclose(shares, np.broadcast_to(shares[0], shares.shape), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(cut.sel(angle=0), 0, atol=1e-12)
    second = float(cut["second_angle"])
    a, b = found[0].values, found[1].values
    assert np.cos(second) == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    between = cut.sel(angle=second / 2, method="nearest")
    assert between[-1] > 0.1


def test_plane_cut_is_the_loss_at_its_places(surface, found):
    origin = surface.initial(9)
    cut = plane_cut(surface, found[0], found[1], origin, resolution=5)
    points = np.stack([origin.numpy(), found[0].values, found[1].values])
    x, y = cut["point_x"].values, cut["point_y"].values
    for i, j in itertools.combinations(range(3), 2):  # distances are those of parameter space
        assert np.hypot(x[i] - x[j], y[i] - y[j]) == pytest.approx(np.linalg.norm(points[i] - points[j]))
    # solve for the place in space of each grid point from the three known ones
    across = np.linalg.solve(np.stack([x[1:], y[1:]], 1), points[1:] - points[0])
    for row, column in itertools.product(range(5), repeat=2):
        place = points[0] + cut["x"].values[column] * across[0] + cut["y"].values[row] * across[1]
        assert cut["loss"][row, column] == pytest.approx(geometry.loss(place, 30), abs=1e-10)


def test_cut_errors(surface, found):
    with pytest.raises(ValueError, match="one line with the origin"):
        plane_cut(surface, found[0], -2 * found[0])
    with pytest.raises(ValueError, match="one line with the origin"):
        polar_cut(surface, np.zeros(60), found[0])
    with pytest.raises(ValueError, match="resolution must be at least 2"):
        plane_cut(surface, found[0], found[1], resolution=1)
    with pytest.raises(ValueError, match="angles and radii must be at least 1"):
        polar_cut(surface, found[0], found[1], angles=0)
    with pytest.raises(ValueError, match="radius must be positive"):
        polar_cut(surface, found[0], found[1], radius=0.0)
