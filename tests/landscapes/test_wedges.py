from __future__ import annotations

import doctest
import importlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lcakit.landscapes import wedges
from lcakit.landscapes.wedges import Wedges, geometry
from lcakit.landscapes.wedges.shapes import SHAPES
from lcakit.landscapes.wedges.surface import as_points

FEW = settings(deadline=None, max_examples=25)
ROOMS = [
    "averages",
    "connectors",
    "cuts",
    "descent",
    "geometry",
    "hessian",
    "paths",
    "planes",
    "radius",
    "sidebyside",
    "surface",
]


def brute_distance(point: np.ndarray, n: int) -> float:
    """Try every wedge: the distance to the span of some axes is the norm of the other coordinates."""
    wedges_ = itertools.combinations(range(len(point)), n)
    return min(np.linalg.norm(np.delete(point, axes)) for axes in wedges_)


@st.composite
def landscapes(draw):
    """Wedges of any size and shape, and a point among them."""
    dimension = draw(st.integers(2, 7))
    n = draw(st.integers(1, dimension - 1))
    surface = Wedges(dimension, n, draw(st.sampled_from(sorted(SHAPES))), draw(st.floats(0.3, 3.0)))
    return surface, surface.initial(draw(st.integers(0, 10_000))).numpy()


@FEW
@given(landscapes())
def test_distance_is_that_of_the_nearest_of_all_wedges(case):
    surface, point = case
    d, n = brute_distance(point, surface.wedge_dimension), surface.wedge_dimension
    assert geometry.distance(point, n) == pytest.approx(d, abs=1e-12)
    near = geometry.nearest(point, n)
    assert np.count_nonzero(near) == n
    assert np.linalg.norm(point - near) == pytest.approx(d, abs=1e-12)
    assert surface.square_distance(torch.tensor(point)).item() == pytest.approx(d**2, abs=1e-12)


PLAIN = {
    "quadratic": lambda d, s: d**2 / 2,
    "distance": lambda d, s: d,
    "softened": lambda d, s: s * np.sqrt(d**2 + s**2) - s**2,
    "saturating": lambda d, s: s**2 * (1 - np.exp(-(d**2) / (2 * s**2))),
}


@FEW
@given(landscapes())
def test_loss_gradient_and_hessian_agree_with_autograd(case):
    surface, point = case
    theta = torch.tensor(point, requires_grad=True)
    value = surface.loss(theta)
    expected = PLAIN[surface.shape](brute_distance(point, surface.wedge_dimension), surface.scale)
    assert value.item() == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(geometry.loss(point, **surface.form), expected, atol=1e-12)
    (slope,) = torch.autograd.grad(value, theta)
    np.testing.assert_allclose(geometry.gradient(point, **surface.form), slope, atol=1e-10)
    curvature = torch.autograd.functional.hessian(surface.loss, theta)
    np.testing.assert_allclose(geometry.hessian(point, **surface.form), curvature, atol=1e-10)
    eigenvalues = np.linalg.eigvalsh(curvature)[::-1]
    np.testing.assert_allclose(geometry.hessian_eigenvalues(point, **surface.form), eigenvalues, atol=1e-10)


@FEW
@given(landscapes())
def test_gradient_agrees_with_finite_differences(case):
    surface, point = case
    squares = np.sort(point**2)
    if squares[-surface.wedge_dimension] - squares[-surface.wedge_dimension - 1] < 1e-3:
        return  # a step would change which wedge is nearest
    h = 1e-6
    steps = h * np.eye(len(point))
    there, back = (geometry.loss(point + sign * steps, **surface.form) for sign in (1, -1))
    np.testing.assert_allclose((there - back) / (2 * h), geometry.gradient(point, **surface.form), atol=1e-6)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_on_a_wedge(shape):
    surface, point = Wedges(4, 2, shape, 0.7), np.array([2.0, 0, 0, -1.0])
    theta = torch.tensor(point, requires_grad=True)
    value = surface.loss(theta)
    (slope,) = torch.autograd.grad(value, theta)
    assert value.item() == 0
    assert not slope.any()
    assert not geometry.gradient(point, **surface.form).any()
    if shape == "distance":
        with pytest.raises(ValueError, match="no Hessian on a wedge"):
            geometry.hessian(point, **surface.form)
        return
    np.testing.assert_allclose(geometry.hessian(point, **surface.form), np.diag([0, 1, 1, 0.0]), atol=1e-12)
    np.testing.assert_allclose(geometry.hessian_eigenvalues(point, **surface.form), [1, 1, 0, 0], atol=1e-12)
    curvature = torch.autograd.functional.hessian(surface.loss, theta)
    np.testing.assert_allclose(curvature, np.diag([0, 1, 1, 0.0]), atol=1e-12)


def test_points_come_in_batches(rng):
    surface, points = Wedges(6, 2, "softened"), rng.normal(size=(3, 4, 6))
    for function in (geometry.distance, geometry.nearest, geometry.short_axes):
        whole = function(points, 2)
        np.testing.assert_array_equal(whole[1, 2], function(points[1, 2], 2))
    for closed in (geometry.gradient, geometry.hessian, geometry.hessian_eigenvalues):
        np.testing.assert_array_equal(closed(points, **surface.form)[2, 1], closed(points[2, 1], **surface.form))
    loss = surface.loss(torch.from_numpy(points))
    assert loss.shape == (3, 4)
    assert loss[0, 3] == surface.loss(torch.from_numpy(points[0, 3]))


@pytest.mark.sampled
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_expected_distance_of_a_random_point(share):
    dimension, radius = 20_000, 3.0
    surface = Wedges(dimension, int(share * dimension), radius=radius)
    points = np.stack([surface.initial(seed).numpy() for seed in range(30)])
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), radius)
    found = geometry.distance(points, surface.wedge_dimension).mean()
    assert found == pytest.approx(geometry.expected_distance(dimension, surface.wedge_dimension, radius), rel=0.01)


def test_expected_number_of_short_directions(rng):
    dimension, n = 400, 300
    chosen = [np.zeros(dimension, bool) for _ in range(3)]
    counts = []
    for _ in range(50):
        for wedge in chosen:
            wedge[:] = rng.permutation(dimension) < n
        counts.append(dimension - np.logical_and.reduce(chosen).sum())
    assert np.mean(counts) == pytest.approx(geometry.expected_short_directions(dimension, n, 3), rel=0.02)
    assert geometry.expected_short_directions(dimension, n, 1) == dimension - n


def test_starts_are_seeded():
    surface = Wedges(9, 3)
    torch.testing.assert_close(surface.initial(4), surface.initial(4), rtol=0, atol=0)
    assert not torch.equal(surface.initial(4), surface.initial(5))
    assert surface.initial(4).norm().item() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 5), r"wedge_dimension must be 1 to 4 \(n < D = 5\), got 5. With n ≥ D the wedge fills"),
        ((5, 7), "must be 1 to 4"),
        ((5, 0), "must be 1 to 4 .*got 0"),
        ((1, 1), "dimension must be at least 2, got 1"),
        ((5, 2.5), "wedge_dimension must be a whole number, got 2.5"),
        ((5, 2, "cubic"), "unknown shape of the loss 'cubic'.*quadratic"),
        ((5, 2, "softened", 0.0), "scale must be positive and finite, got 0.0"),
        ((5, 2, "softened", np.inf), "scale must be positive"),
        ((5, 2, "quadratic", 1.0, -1.0), "radius must be positive and finite"),
    ],
)
def test_landscapes_that_make_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        Wedges(*arguments)


def test_points_that_make_no_sense():
    surface = Wedges(3, 1)
    with pytest.raises(ValueError, match=r"3 coordinates \(…, 3\), got shape \(4,\)"):
        surface.loss(torch.zeros(4))
    with pytest.raises(ValueError, match=r"got shape \(4,\)"):
        as_points(surface, np.zeros(4))
    with pytest.raises(ValueError, match="got one number"):
        as_points(surface, 1.0)
    with pytest.raises(ValueError, match=r"must be finite, got nan \(coordinate 1\)"):
        as_points(surface, [0, np.nan, 1])
    with pytest.raises(ValueError, match=r"one point \(D,\)"):
        as_points(surface, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"several points \(N, D\)"):
        as_points(surface, np.zeros(3), ndim=2)
    with pytest.raises(ValueError, match="must be finite, got inf"):
        geometry.distance([1.0, np.inf], 1)
    with pytest.raises(ValueError, match="got one number"):
        geometry.distance(1.0, 1)
    with pytest.raises(ValueError, match="wedge_dimension must be 1 to 2"):
        geometry.distance([1.0, 2.0, 3.0], 3)


def test_the_names_of_the_package():
    for name in wedges.__all__:
        assert getattr(wedges, name) is not None
    assert set(dir(wedges)) == set(wedges.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        wedges.nothing  # noqa: B018


def test_closed_forms_need_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lcakit.landscapes.wedges import geometry\n"
        "print(geometry.distance([3.0, 4.0, 5.0], 1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "5.0"


@pytest.mark.parametrize("room", ROOMS)
def test_examples(room):
    assert doctest.testmod(importlib.import_module(f"lcakit.landscapes.wedges.{room}")).failed == 0
