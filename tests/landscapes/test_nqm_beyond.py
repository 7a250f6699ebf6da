"""Rotated curvature and other noise: losses have a closed form all the same, LCA adds up, and who helps changes."""

from __future__ import annotations

import numpy as np
import pytest

from lcakit.landscapes.nqm import Optimizer, expected_helping, expected_loss, paper_problem
from lcakit.landscapes.nqm.beyond import NOISES, random_rotation, simulate_helping

PROBLEM, OPTIMIZER = paper_problem(30), Optimizer(0.4, 0.5)


@pytest.mark.parametrize("noise", NOISES)
def test_noise_has_mean_zero_and_variance_one(noise):
    values = NOISES[noise](np.random.default_rng(0), (200_000,))
    assert abs(values.mean()) < 0.01
    assert values.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("noise", NOISES)
def test_the_mean_loss_is_that_of_the_closed_form_for_every_noise(noise):
    found = simulate_helping(PROBLEM, OPTIMIZER, 2, 12, 4000, noise=noise)["loss"]
    expected = expected_loss(PROBLEM, OPTIMIZER, 2, range(13))
    error = found.std("run") / np.sqrt(found.sizes["run"])
    assert (abs(found.mean("run") - expected.values) < 5 * error + 1e-12).all()


def test_a_rotation_changes_who_helps_and_not_the_loss():
    straight, rotated = (
        simulate_helping(PROBLEM, OPTIMIZER, 5, 40, 200, rotation=q) for q in (None, random_rotation(30, seed=1))
    )
    np.testing.assert_allclose(rotated["loss"], straight["loss"], rtol=1e-10)
    closed = expected_helping(PROBLEM, OPTIMIZER, 5, range(40))["helping"].mean("direction")
    np.testing.assert_allclose(straight["helping"].mean("run"), closed.values, atol=0.03)
    assert float(abs(rotated["helping"].mean("run") - closed.values).max()) > 0.05


def test_lca_of_rotated_parameters_against_the_quadratic_form():
    q = random_rotation(4, seed=2)
    problem = paper_problem(4)
    found = simulate_helping(problem, Optimizer(0.5), 1, 3, 1, rotation=q, seed=5)
    rng = np.random.default_rng(5)
    theta, hessian = problem.start(rng, 1)[0], q @ np.diag(problem.curvature) @ q.T
    for step in range(3):
        there = theta - 0.5 * (problem.curvature * theta + np.sqrt(problem.noise) * rng.standard_normal(4))
        a, b = q @ theta, q @ there
        lca = (hessian @ (a + b) / 2) * (b - a)
        assert lca.sum() == pytest.approx(float(found["loss"][0, step + 1] - found["loss"][0, step]))
        assert float(found["helping"][0, step]) == (lca < 0).mean()
        theta = there


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"noise": "gausian"}, "Did you mean 'gaussian'"),
        ({"rotation": np.eye(3)}, r"shape \(30, 30\), got \(3, 3\)"),
        ({"rotation": 2 * np.eye(30)}, "not orthogonal"),
        ({"runs": 0}, "runs must be at least 1, got 0"),
    ],
)
def test_bad_input(options, says):
    with pytest.raises(ValueError, match=says):
        simulate_helping(PROBLEM, OPTIMIZER, 5, 10, **{"runs": 2} | options)
