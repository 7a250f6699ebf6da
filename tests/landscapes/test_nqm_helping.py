"""LCA, helping and oscillation of the noisy quadratic model in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from lcakit.errors import LcakitWarning
from lcakit.landscapes import nqm
from lcakit.landscapes.nqm import NoisyQuadratic, Optimizer, paper_problem
from lcakit.landscapes.nqm.gaussian import opposite_signs
from tests.support.laziness import is_lazy, nothing_computed

from .test_nqm import OPTIMIZERS, problem

RUNS, TIMES = 8000, [0, 1, 4, 9]


def slow_opposite(mx: float, my: float, cov: np.ndarray) -> float:
    """P(xy < 0) by integrating over x."""
    spread = math.sqrt(cov[1, 1] - cov[0, 1] ** 2 / cov[0, 0])

    def density(x: float) -> float:
        below = stats.norm.cdf(0, my + cov[0, 1] / cov[0, 0] * (x - mx), spread)
        return float(stats.norm.pdf(x, mx, math.sqrt(cov[0, 0])) * (below if x > 0 else 1 - below))

    parts = ([-40.0, 0.0], [0.0, 40.0])
    return sum(integrate.quad(density, *ends, points=[m for m in (mx,) if ends[0] < m < ends[1]])[0] for ends in parts)


@pytest.mark.slow
@given(st.integers(0, 10**6), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0]))
def test_opposite_signs_against_an_integral(seed, with_x, with_y):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2, 2)) + 0.1 * np.eye(2)
    cov, mean = root @ root.T, rng.normal(size=2) * [with_x, with_y]
    if np.linalg.det(cov) < 1e-3:
        return
    got = opposite_signs(cov[0, 0], cov[1, 1], cov[0, 1], *mean)
    assert got == pytest.approx(slow_opposite(*mean, cov), abs=1e-7)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1, 1, 0), 0.5),
        ((1, 1, 1), 0.0),
        ((1, 4, -2), 1.0),
        ((1, 1, -1, 0.5, -0.5), 1.0),
        ((1, 0, 0, 0.5, 1), stats.norm.cdf(-0.5)),
        ((0, 1, 0, -2, 0.5), stats.norm.cdf(0.5)),
        ((0, 0, 0, -1, 1), 1.0),
        ((0, 0, 0, 1, 1), 0.0),
        ((0, 1, 0, 0, 1), 0.0),
        ((1, 1, 0, 0.0, 3.0), 0.5),
        ((1, 1, 1, -0.5, 3.0), stats.norm.cdf(0.5) - stats.norm.cdf(-3.0)),
        ((1, 4, 2, -0.5, 1.0), stats.norm.cdf(0.5) - stats.norm.cdf(-0.5)),
        ((1, 1, -1, 2.0, 2.0), 1 - (stats.norm.cdf(2.0) - stats.norm.cdf(-2.0))),
    ],
)
def test_opposite_signs_at_the_edges(arguments, expected):
    assert opposite_signs(*arguments) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@given(st.none() | st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from(["direction", "parameter"]))
def test_lca_against_a_loop(chunks, dim):
    p = problem()
    theta = nqm.simulate(p, OPTIMIZERS[2], 3, range(0, 16, 2), runs=3, theta=True)["theta"].rename(direction=dim)
    lazy = theta if chunks is None else theta.chunk(dict(zip(("run", "snapshot", dim), chunks, strict=True)))
    with nothing_computed():
        got = nqm.lca(p, lazy)
    assert is_lazy(got) == (chunks is not None)
    assert got.dims == ("run", "iteration", dim)
    assert got["iteration"].values.tolist() == list(range(0, 14, 2))
    values = got.values
    for run in range(3):
        for t in range(7):
            for i, h in enumerate(p.curvature):
                a, b = theta.values[run, t, i], theta.values[run, t + 1, i]
                assert abs(values[run, t, i] - (0.5 * h * b**2 - 0.5 * h * a**2)) < 1e-12


@given(st.integers(0, 10**6), st.sampled_from([1.0, -1.0]))
def test_opposite_signs_of_numbers_that_move_together(seed, sign):
    """Twin: x and y are both lines in one normal number, whose quantiles are tried one by one."""
    rng = np.random.default_rng(seed)
    (mx, my), (sx, sy) = rng.normal(size=2), rng.uniform(0.2, 2, 2)
    z = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    expected = np.mean((mx + sx * z) * (my + sign * sy * z) < 0)
    assert opposite_signs(sx**2, sy**2, sign * sx * sy, mx, my) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("optimizer", [o for o in OPTIMIZERS if not o.averaging], ids=str)
def test_helping_from_a_start_that_does_not_vary(optimizer):
    """At iteration 0 the only chance is the noise of the step: what probability_helping says for this one place."""
    mean = np.array([1.0, 0.2, -2.0, 0.3])
    p = NoisyQuadratic([1.0, 0.5, 0.1, 0.8], start_mean=mean, start_variance=0.0)
    exact = nqm.expected_helping(p, optimizer, 3, [0, 1])["helping"]
    first = nqm.probability_helping(p, optimizer, xr.DataArray(mean, dims="direction"), 3)
    np.testing.assert_allclose(exact.sel(iteration=0), first, atol=1e-9)
    assert first.max() > 0.5
    theta = nqm.simulate(p, optimizer, 3, range(6), runs=RUNS, seed=3, theta=True)["theta"]
    one = nqm.lca(p, theta)
    for window in (1, 4):
        summed = one.isel(iteration=slice(0, window)).sum("iteration")
        assert_probability((summed < 0).mean("run"), nqm.expected_helping(p, optimizer, 3, 0, window)["helping"])


@pytest.mark.parametrize("mean", [0.0, [1.0, 0.0, -2.0, 0.3]])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_helping_and_oscillation_against_simulation(optimizer, mean):
    p = problem(mean)
    theta = nqm.simulate(p, optimizer, [1, 30], range(14), runs=RUNS, seed=5, theta=True)["theta"]
    one = nqm.lca(p, theta)
    for window in (1, 4):
        summed = sum(one.shift(iteration=-n) for n in range(window)).sel(iteration=TIMES)
        exact = nqm.expected_helping(p, optimizer, [1, 30], TIMES, window=window)
        assert exact["helping"].dims == ("batch_size", "iteration", "direction")
        assert_probability((summed < 0).mean("run"), exact["helping"])
        z = (summed.mean("run") - exact["lca"]) / (summed.std("run") / math.sqrt(RUNS) + 1e-12)
        assert float(abs(z).max()) < 5
    exact = nqm.expected_oscillation(p, optimizer, [1, 30], TIMES)
    moves = theta.diff("snapshot").values
    turns = (moves[..., 1:, :] * moves[..., :-1, :] < 0).mean(1)
    crossings = (theta.values[..., 1:, :] * theta.values[..., :-1, :] < 0).mean(1)
    assert_probability(turns[:, TIMES], exact["turn"])
    assert_probability(crossings[:, TIMES], exact["crossing"])


def assert_probability(share, exact: xr.DataArray) -> None:
    sigma = np.sqrt(exact * (1 - exact) / RUNS)
    assert float(abs(share - exact).max()) > 0  # the simulation is no copy of the formula
    assert (abs(share - exact) < 5 * sigma + 1e-9).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_expected_lca_adds_up_to_the_expected_loss(optimizer):
    p = problem([1.0, 0.0, -2.0, 0.3])
    lca = nqm.expected_helping(p, optimizer, [1, 30], range(20))["lca"]
    change = np.diff(nqm.expected_loss(p, optimizer, [1, 30], range(21)).values)
    np.testing.assert_allclose(lca.sum("direction"), change, rtol=1e-9, atol=1e-12)
    whole = nqm.expected_helping(p, optimizer, [1, 30], 0, window=20)["lca"]
    np.testing.assert_allclose(whole, lca.sum("iteration"), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("batch_size", [1, 1000])
def test_half_of_the_iterations_help_once_learning_is_over(optimizer, batch_size):
    p = NoisyQuadratic([1.0, 0.5, 0.1], [0.3, 0.2, 0.6])
    found = nqm.expected_helping(p, optimizer, batch_size, 10**5)
    np.testing.assert_allclose(found["helping"], 0.5, atol=1e-6)
    np.testing.assert_allclose(found["lca"], 0, atol=1e-12)


def test_momentum_and_batch_size_while_learning():
    """Barely over one half at small batches, more at large ones; momentum turns less often."""
    p, times = paper_problem(200), range(0, 300, 10)
    found = nqm.expected_helping(p, Optimizer(0.3), [1, 100, 10_000], times)
    shares = found["helping"].mean(["direction", "iteration"])
    assert 0.5 < shares.values[0] < 0.52
    assert (shares.diff("batch_size") > 0.01).all()
    still = nqm.expected_helping(p, Optimizer(0.3), np.inf, times)["helping"]
    np.testing.assert_array_equal(still, 1)
    turns = [nqm.expected_oscillation(p, o, 1, times)["turn"].mean() for o in (Optimizer(0.3), Optimizer(0.03, 0.9))]
    assert turns[1] < 0.5 * turns[0]


@pytest.mark.parametrize("optimizer", [OPTIMIZERS[n] for n in (0, 1, 2, 4)], ids=str)
def test_probability_given_where_a_direction_is(optimizer):
    p, n = problem(), 20_000
    rng = np.random.default_rng(0)
    theta = xr.DataArray([[1.0, -1.0, 0.5, 2.0], [-0.1, 0.0, 3.0, -1.0]], dims=("case", "direction"))
    buffer = xr.DataArray(rng.normal(size=(2, 4)) * (optimizer.momentum > 0), dims=("case", "direction"))
    with nothing_computed():
        lazy = nqm.probability_helping(p, optimizer, theta.chunk(direction=3), 2, buffer)
    got = nqm.probability_helping(p, optimizer, theta, 2, buffer)
    xr.testing.assert_allclose(lazy.compute(), got)
    noise = rng.standard_normal((n, 1, 4)) * np.sqrt(p.noise / 2)
    step = (p.curvature * theta.values + noise) / p.curvature**optimizer.preconditioning
    after = theta.values - optimizer.learning_rate * (optimizer.momentum * buffer.values + step)
    share = (np.abs(after) < np.abs(theta.values)).mean(0)
    assert (abs(share - got) < 5 * np.sqrt(got * (1 - got) / n) + 1e-12).all()


def test_directions_that_cannot_help():
    p = NoisyQuadratic([1.0, 0.0, 1.0], [1.0, 1.0, 0.0], start_variance=[1.0, 1.0, 0.0])
    found = nqm.expected_helping(p, Optimizer(0.1), 1, [3])
    assert np.isnan(found["helping"].values).tolist() == [[False, True, True]]
    np.testing.assert_array_equal(found["lca"].values[0, 1:], 0)
    given = nqm.probability_helping(p, Optimizer(0.1), xr.DataArray(np.ones((2, 3)), dims=("run", "direction")), 1)
    assert np.isnan(given.values).tolist() == [[False, True, False]] * 2
    np.testing.assert_array_equal(given.isel(direction=2), 1)


def test_bad_arguments():
    p, o = problem(), Optimizer(0.1)
    with pytest.raises(ValueError, match="window must be at least 1"):
        nqm.expected_helping(p, o, 1, [0], window=0)
    with pytest.raises(ValueError, match="iterations must be ascending"):
        nqm.expected_oscillation(p, o, 1, [1, 1])
    with pytest.raises(ValueError, match="4 entries along 'direction' or 'parameter'"):
        nqm.lca(p, xr.DataArray(np.zeros((2, 3)), dims=("snapshot", "direction")))
    with pytest.raises(ValueError, match="LCA needs 'snapshot'"):
        nqm.lca(p, xr.DataArray(np.zeros(4), dims="direction"))
    with pytest.raises(ValueError, match="averaging=0"):
        nqm.probability_helping(p, Optimizer(0.1, averaging=0.5), xr.DataArray(np.zeros(4), dims="direction"), 1)
    with pytest.warns(LcakitWarning, match="unstable"):
        nqm.expected_helping(p, Optimizer(3.0), 1, [0])
