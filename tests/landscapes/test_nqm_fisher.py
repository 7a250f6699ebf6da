"""The Fisher matrix along a training: against sums over examples and labels, and the Hessian of a linear model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lcakit.landscapes.nqm import fisher_course
from lcakit.landscapes.wedges import NetworkSurface, spectrum
from tests.support.networks import dense, examples


@pytest.fixture(scope="module")
def surface() -> NetworkSurface:
    return NetworkSurface(lambda seed: dense(seed=seed), *examples(12))


def test_eigenvalues_and_overlap_against_the_matrix_itself(surface):
    points = [surface.initial(seed) for seed in (0, 1)]
    found = fisher_course(surface, points, count=4, examples=7)
    spaces = []
    for snapshot, theta in enumerate(points):
        fisher = torch.zeros(surface.dimension, surface.dimension, dtype=torch.float64)
        at = theta.clone().requires_grad_()
        for x in surface.x[:7]:
            log_p = surface.output(at, x[None]).log_softmax(1)[0]
            for one in log_p:
                (g,) = torch.autograd.grad(one, at, retain_graph=True)
                fisher += one.exp().detach() * torch.outer(g, g) / 7
        values, vectors = torch.linalg.eigh(fisher)
        np.testing.assert_allclose(found["eigenvalue"][snapshot], values.flip(0)[:4], rtol=1e-8)
        assert float(found["trace"][snapshot]) == pytest.approx(float(fisher.trace()))
        spaces.append(vectors[:, -4:])
    overlap = [float((space.T @ spaces[-1]).square().sum() / 4) for space in spaces]
    np.testing.assert_allclose(found["overlap"], overlap, atol=1e-8)


def test_of_a_linear_model_it_is_the_hessian():
    x, y = examples(9)
    features = x.flatten(1).shape[1]
    linear = NetworkSurface(lambda seed: nn.Sequential(nn.Flatten(), nn.Linear(features, 3)), x, y % 3)
    theta = torch.randn(linear.dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = fisher_course(linear, theta[None], count=5, examples=9)["eigenvalue"][0]
    np.testing.assert_allclose(found, spectrum(linear, theta, None)[:5], rtol=1e-6)


def test_bad_counts_are_refused(surface):
    theta = surface.initial(0)[None]
    for options, says in (({"examples": 13}, "1 to 12.*got 13"), ({"count": 0}, "got 0"), ({"count": 99}, "got 99")):
        with pytest.raises(ValueError, match=says):
            fisher_course(surface, theta, **{"examples": 3} | options)
