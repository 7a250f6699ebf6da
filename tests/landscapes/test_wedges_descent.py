from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from lcakit.landscapes.wedges import (
    geometry,
    minimize,
    noisy_descent,
    optima,
)


def test_optima_are_the_nearest_points_on_wedges(surface, found):
    assert found.dims == ("optimum", "parameter")
    starts = np.stack([surface.initial(seed).numpy() for seed in range(4)])
    np.testing.assert_allclose(found, geometry.nearest(starts, 30), atol=1e-8)
    np.testing.assert_allclose(found["loss"], 0, atol=1e-15)
    xr.testing.assert_identical(optima(surface, [2])[0], found[2])


def test_minimize_finds_a_known_minimum():
    centre = torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=torch.float64)
    where, value = minimize(lambda x: ((x - centre) ** 4).sum() + ((x - centre) ** 2).sum() + 1, torch.zeros(2, 2))
    torch.testing.assert_close(where, centre, atol=1e-8, rtol=0)
    assert value == pytest.approx(1.0)


def test_minimize_stops_at_the_target_and_says_what_is_wrong():
    where, value = minimize(lambda x: (x**2).sum(), torch.tensor([3.0]), target=9.0)
    assert (where.item(), value) == (3.0, 9.0)
    evaluations = []

    def slow(x: torch.Tensor) -> torch.Tensor:
        evaluations.append(x.detach().clone())
        return (x**4 * torch.arange(1, 6)).sum()

    _, early = minimize(slow, torch.ones(5), target=1.0)
    n_early = len(evaluations)
    minimize(slow, torch.ones(5))
    assert early <= 1.0
    assert len(evaluations) - n_early > n_early
    with pytest.raises(ValueError, match="the loss is nan at the start"):
        minimize(lambda x: (x * float("nan")).sum(), torch.ones(2))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        minimize(lambda x: x.sum(), torch.ones(2), steps=0)


def test_descent_errors(surface, found):
    with pytest.raises(ValueError, match="seeds is empty"):
        optima(surface, [])
    with pytest.raises(ValueError, match="spacing must be at least 1"):
        noisy_descent(surface, found[0], spacing=0)
    with pytest.raises(ValueError, match="learning_rate must be positive"):
        noisy_descent(surface, found[0], learning_rate=0)
    with pytest.raises(ValueError, match="the walk diverged"):
        noisy_descent(surface, surface.initial(0), 1, 2000, learning_rate=10.0)
    with pytest.raises(ValueError, match="must be finite"):
        noisy_descent(surface, np.full(60, np.nan))


def test_noiseless_descent_is_the_plain_recursion(surface):
    walk = noisy_descent(surface, surface.initial(1), checkpoints=3, spacing=2, learning_rate=0.25)
    start = surface.initial(1).numpy()
    short = geometry.short_axes(start, 30)
    for checkpoint, theta in zip(walk["checkpoint"].values, walk.values, strict=True):
        np.testing.assert_allclose(theta, np.where(short, 0.75**checkpoint * start, start))
    np.testing.assert_allclose(walk["loss"], geometry.loss(walk, 30))
