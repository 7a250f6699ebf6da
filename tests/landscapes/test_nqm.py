"""The noisy quadratic model: closed forms against slow recursions and simulations."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcakit import landscapes
from lcakit.errors import LcakitWarning
from lcakit.landscapes import nqm
from lcakit.landscapes.nqm import NoisyQuadratic, Optimizer, paper_problem

H, C = [1.0, 0.5, 0.1, 1e-3], [0.3, 0.2, 0.6, 0.0]
OPTIMIZERS = [
    Optimizer(0.4),
    Optimizer(1.7),
    Optimizer(0.4, momentum=0.9),
    Optimizer(3.5, momentum=0.95),
    Optimizer(0.3, preconditioning=0.5),
    Optimizer(0.2, averaging=0.99),
    Optimizer(1.9, averaging=0.3),
    Optimizer(0.1, momentum=0.5, preconditioning=1.0, averaging=0.8),
]


def problem(mean=0.0) -> NoisyQuadratic:
    return NoisyQuadratic(H, C, start_mean=mean, start_variance=0.7)


def slow_loss(p: NoisyQuadratic, o: Optimizer, batch_size: float, snapshots, rates=None) -> np.ndarray:
    """Slow twin: the six second moments of (θ, m, average), one step at a time."""
    h, power = p.curvature, p.curvature**o.preconditioning
    k, s = h / power, p.noise / power**2 / batch_size
    beta, gamma = o.momentum, o.averaging
    v = p.start_mean**2 + p.start_variance  # E θ²
    tm, mm, am = np.zeros((3, h.size))  # E θm, E m², E avg·m
    at, aa = v.copy(), v.copy()  # E avg·θ, E avg²
    out = []
    for t in range(max(snapshots) + 1):
        if t in snapshots:
            out.append(0.5 * (h * (aa if gamma else v)).sum())
        alpha = o.learning_rate if rates is None or t >= len(rates) else rates[t]
        t_new, a_new = beta * tm + k * v, beta * am + k * at  # E θm′, E avg·m′
        mm = beta**2 * mm + 2 * beta * k * tm + k**2 * v + s
        a_theta = at - alpha * a_new
        v = v - 2 * alpha * t_new + alpha**2 * mm
        tm = t_new - alpha * mm
        aa = gamma**2 * aa + 2 * gamma * (1 - gamma) * a_theta + (1 - gamma) ** 2 * v
        at = gamma * a_theta + (1 - gamma) * v
        am = gamma * a_new + (1 - gamma) * tm
    return np.array(out)


@given(
    st.sampled_from(OPTIMIZERS),
    st.sampled_from([0.5, 8, 1e4, np.inf]),
    st.lists(st.integers(0, 600), min_size=1, max_size=6, unique=True).map(sorted),
    st.sampled_from([0.0, [1.0, 0.0, -2.0, 0.3]]),
)
def test_expected_loss_against_the_recursion(optimizer, batch_size, snapshots, mean):
    p = problem(mean)
    got = nqm.expected_loss(p, optimizer, batch_size, snapshots)
    assert got.dims == ("snapshot",)
    assert got["batch_size"].item() == batch_size
    np.testing.assert_allclose(got, slow_loss(p, optimizer, batch_size, snapshots), rtol=1e-10, atol=1e-300)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [Optimizer(0.01), Optimizer(1e-3, 0.9), Optimizer(0.01, 0.5, averaging=0.999)])
def test_many_steps_against_the_recursion(optimizer):
    p = NoisyQuadratic(1 / np.arange(1.0, 2001, 50))
    got = nqm.expected_loss(p, optimizer, 3, [100, 40_000])
    np.testing.assert_allclose(got, slow_loss(p, optimizer, 3, [100, 40_000]), rtol=1e-10)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
@pytest.mark.parametrize("curvature", [1e-3, 1e-5, 1e-7])
def test_a_million_steps_keep_their_digits(momentum, curvature):
    alpha, t = 0.05 * (1 - momentum), 10**6
    got = nqm.expected_loss(NoisyQuadratic([curvature], noise=0.0), Optimizer(alpha, momentum), 1, t).item()
    # the larger eigenvalue is 1 − x, without cancellation; the smaller one is gone after so many steps
    step = alpha * curvature
    root = math.sqrt((1 - momentum + step) ** 2 - 4 * step)
    x = 2 * step / (1 - momentum + step + root)
    share = (1 - momentum - x) / root if momentum else 1.0
    expected = 0.5 * curvature * math.exp(2 * (t * math.log1p(-x) + math.log(share)))
    assert got == pytest.approx(expected, rel=1e-11)


def test_dimensions_of_settings():
    p = problem()
    both = nqm.expected_loss(p, Optimizer(1.0), [1, 10], [0, 5], learning_rate=[0.1, 0.2, 0.3])
    assert both.dims == ("learning_rate", "batch_size", "snapshot")
    assert both.attrs["long_name"] == "expected loss"
    for a, b in product([0.1, 0.3], [1, 10]):
        one = nqm.expected_loss(p, Optimizer(a), b, [0, 5])
        np.testing.assert_array_equal(both.sel(learning_rate=a, batch_size=b), one)
    assert both.isel(snapshot=0).values == pytest.approx(p.initial_loss)


def test_moments_of_each_direction():
    p = problem([1.0, 0.0, -2.0, 0.3])
    for o in OPTIMIZERS:
        found = nqm.moments(p, o, [1, 10], [0, 7])
        second = (found["mean"] ** 2 + found["variance"]).transpose("batch_size", "snapshot", "direction")
        loss = 0.5 * (second * found["curvature"]).sum("direction")
        np.testing.assert_allclose(loss, nqm.expected_loss(p, o, [1, 10], [0, 7]), rtol=1e-12)
        np.testing.assert_array_equal(found["mean"].isel(snapshot=0), p.start_mean)
    assert found["direction"].values.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_simulation_agrees_within_five_sigma(optimizer):
    p, runs, times = problem([1.0, 0.0, -2.0, 0.3]), 3000, [0, 1, 2, 5, 20]
    rates = [0.3 * optimizer.learning_rate, optimizer.learning_rate]
    simulated = nqm.simulate(p, optimizer, [1, 30], times, runs=runs, learning_rate=rates, seed=1)["loss"]
    assert simulated.dims == ("learning_rate", "batch_size", "run", "snapshot")
    expected = nqm.expected_loss(p, optimizer, [1, 30], times, learning_rate=rates)
    z = (simulated.mean("run") - expected) / (simulated.std("run") / math.sqrt(runs))
    assert float(abs(z).max()) < 5


def test_simulated_iterates():
    p, o = problem([1.0, 0.0, -2.0, 0.3]), Optimizer(0.4, 0.9, averaging=0.5)
    found = nqm.simulate(p, o, 4, [0, 3, 10], runs=2000, seed=2, theta=True)
    np.testing.assert_allclose(p.loss(found["theta"].values), found["loss"])
    exact = nqm.moments(p, o, 4, [0, 3, 10])
    z = (found["theta"].mean("run") - exact["mean"]) / np.sqrt(exact["variance"] / 2000)
    assert float(abs(z).max()) < 5
    np.testing.assert_allclose(found["theta"].var("run"), exact["variance"], rtol=5 * math.sqrt(2 / 2000))
    again = nqm.simulate(p, o, 4, [0, 3, 10], runs=2000, seed=2)["loss"]
    np.testing.assert_array_equal(again, found["loss"])
    assert not np.array_equal(nqm.simulate(p, o, 4, [0, 3, 10], runs=2000, seed=3)["loss"], again)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_asymptotic_risk_is_where_it_ends(optimizer):
    p = NoisyQuadratic([1.0, 0.5, 0.1], [0.3, 0.2, 0.6])
    risk = nqm.asymptotic_risk(p, optimizer, [1, 10])
    assert risk.dims == ("batch_size",)
    np.testing.assert_allclose(nqm.expected_loss(p, optimizer, [1, 10], 10**6), risk, rtol=1e-12)
    assert nqm.asymptotic_risk(p, optimizer, np.inf).item() == 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_convergence_rate_is_that_of_the_excess_loss(optimizer):
    p = NoisyQuadratic([0.8], 0.0, start_mean=1.0)
    rate = nqm.convergence_rate(p, optimizer).item()
    times = np.arange(math.log(1e-20) // math.log(rate), math.log(1e-200) // math.log(rate))
    late = nqm.expected_loss(p, optimizer, 1, times).values
    assert np.polyfit(times, np.log(late), 1)[0] == pytest.approx(math.log(rate), rel=0.02)


def test_directions_without_curvature_or_noise():
    p = NoisyQuadratic([1.0, 0.0], [1.0, 1.0])
    for o in (Optimizer(0.1, 0.9), Optimizer(0.1, averaging=0.9)):
        one = NoisyQuadratic([1.0], [1.0])
        times = [0, 10, 10**6]
        np.testing.assert_allclose(nqm.expected_loss(p, o, 1, times), nqm.expected_loss(one, o, 1, times), rtol=1e-12)
        np.testing.assert_allclose(nqm.asymptotic_risk(p, o, 1), nqm.asymptotic_risk(one, o, 1))
    assert nqm.convergence_rate(p, o).values[1] == 1
    with pytest.raises(ValueError, match="preconditioning divides by the curvature"):
        nqm.expected_loss(p, Optimizer(0.1, preconditioning=0.5), 1, [1])


@pytest.mark.parametrize("seed", range(12))
def test_first_passage_against_looking_at_every_step(seed):
    rng = np.random.default_rng(seed)
    d = rng.integers(1, 12)
    p = NoisyQuadratic(rng.uniform(0.01, 1, d), rng.uniform(0, 1, d))
    for beta, gamma in product([0, 0.5, 0.9, 0.99], [0, 0.9]):
        o = Optimizer(1.0, beta, float(rng.choice([0, 0.5])), gamma)
        o = o.at(o.stability_limit(p) * rng.choice([0.01, 0.3, 0.6, 0.9]))
        target, sizes = p.initial_loss * float(rng.choice([0.01, 0.05, 0.3])), [0.5, 3, 1e5]
        below = nqm.expected_loss(p, o, sizes, range(1000)).values <= target
        expected = [np.flatnonzero(row)[0] if row.any() else np.inf for row in below]
        got = nqm.steps_to_target(p, o, sizes, target, max_steps=999)
        assert got.values.tolist() == expected


def test_first_passage_finds_a_dip():
    """A loss that goes below the target and comes back: the stiff direction is fast, the flat one gathers noise."""
    p = NoisyQuadratic([1.0, 1e-3], [0.0, 1e3], start_variance=[1.0, 0.0])
    loss = nqm.expected_loss(p, Optimizer(0.5), 1e3, range(200)).values
    assert loss[0] > 0.01 < loss[-1]
    first = int(np.flatnonzero(loss <= 0.01)[0])
    assert nqm.steps_to_target(p, Optimizer(0.5), 1e3, 0.01).item() == first
    assert nqm.steps_to_target(p, Optimizer(0.5), 1e3, 10.0).item() == 0
    assert np.isinf(nqm.steps_to_target(p, Optimizer(0.5), 1, 1e-3))


def test_unstable_learning_rates_are_warned_of():
    p, o = paper_problem(20), Optimizer(3.9, momentum=0.9)
    limit = o.stability_limit(p)
    assert limit == pytest.approx(2 * 1.9)
    assert Optimizer(3.7, 0.9).is_stable(p)
    for call in (
        lambda: nqm.expected_loss(p, o, 1, [10**6]),
        lambda: nqm.asymptotic_risk(p, o, [1, np.inf]),
        lambda: nqm.steps_to_target(p, o, 1),
        lambda: nqm.simulate(p, o, 1, [30_000])["loss"],
    ):
        with pytest.warns(LcakitWarning, match=r"learning rate 3\.9 is unstable.*below 3\.8"):
            assert np.isinf(call()).all()
    with pytest.warns(LcakitWarning):
        assert nqm.convergence_rate(p, o).max() > 1
    with pytest.warns(LcakitWarning, match=r"learning rate 5, 6 is"):
        losses = nqm.expected_loss(p, Optimizer(1.0), 1, [100], learning_rate=[0.5, 5, 6])
    assert losses.values[0] < 1e2 < losses.values[1]
    with pytest.warns(LcakitWarning):  # the preconditioner moves the limit
        nqm.expected_loss(NoisyQuadratic([4.0]), Optimizer(1.5, preconditioning=0.5), 1, [1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"curvature": [1.0, -0.1]}, r"curvature must not be negative, got -0.1 at index 1.*no lower bound"),
        ({"curvature": [1.0, 1.0], "noise": [1.0, -1.0]}, "noise must not be negative, got -1.0 at index 1"),
        ({"curvature": [1.0], "noise": -2}, "noise must not be negative, got -2.0"),
        ({"curvature": [1.0], "start_mean": np.nan}, "start_mean must be finite, got nan"),
        ({"curvature": [1.0, 1.0], "start_mean": [0.0, np.inf]}, "start_mean must be finite, got inf at index 1"),
        ({"curvature": [1.0], "start_variance": -1.0}, "start_variance must not be negative"),
        ({"curvature": [np.nan]}, "curvature must be finite"),
        ({"curvature": 1.0}, "one entry per direction"),
        ({"curvature": []}, "one entry per direction"),
        ({"curvature": [1.0, 1.0], "noise": [1.0, 1.0, 1.0]}, r"shape \(2,\), got shape \(3,\)"),
        ({"curvature": ["a"]}, "curvature must be numbers"),
    ],
)
def test_problems_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoisyQuadratic(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0}, "learning_rate must be a positive number, got 0"),
        ({"learning_rate": np.inf}, "learning_rate must be a positive number"),
        ({"learning_rate": 1, "momentum": 1}, "momentum must be at least 0 and less than 1, got 1"),
        ({"learning_rate": 1, "averaging": -0.1}, "averaging must be at least 0 and less than 1"),
        ({"learning_rate": 1, "preconditioning": 1.1}, "preconditioning must be 0 to 1, got 1.1"),
    ],
)
def test_optimizers_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        Optimizer(**arguments)


def test_other_bad_arguments():
    p, o = problem(), Optimizer(0.1)
    with pytest.raises(ValueError, match="batch sizes must be positive"):
        nqm.expected_loss(p, o, [1, 0], [1])
    with pytest.raises(ValueError, match="snapshots must be ascending whole numbers from 0 on"):
        nqm.expected_loss(p, o, 1, [3, 2])
    with pytest.raises(ValueError, match="snapshots must be ascending"):
        nqm.simulate(p, o, 1, [0.5])
    with pytest.raises(ValueError, match="learning_rate must be one number or several"):
        nqm.expected_loss(p, o, 1, [1], learning_rate=[[0.1]])
    with pytest.raises(ValueError, match="runs must be at least 1"):
        nqm.simulate(p, o, 1, [1], runs=0)
    with pytest.raises(ValueError, match="target loss must be a positive number, got 0"):
        nqm.steps_to_target(p, o, 1, target=0)
    with pytest.raises(ValueError, match="directions must be at least 1"):
        paper_problem(0)


def test_the_problem_of_the_paper():
    p = paper_problem()
    assert p.n_directions == 10_000
    np.testing.assert_array_equal(p.curvature, p.noise)
    assert p.curvature[99] == 0.01
    assert p.initial_loss == pytest.approx(0.5 * sum(1 / i for i in range(1, 10_001)))
    with pytest.raises(ValueError, match="read-only"):
        p.curvature[0] = 2


@pytest.mark.slow
def test_torch_is_not_needed_for_closed_forms():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lcakit.landscapes import nqm\n"
        "print(nqm.expected_loss(nqm.paper_problem(3), nqm.Optimizer(0.1), 1, 5).item() > 0)\n"
        "nqm.trajectory(nqm.paper_problem(3), nqm.Optimizer(0.1), 1, 5)\n"
        "try: nqm.record\n"
        "except ImportError: print('no torch')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["True", "no torch"], done.stderr


def test_public_names():
    for name in nqm.__all__:
        assert getattr(nqm, name) is not None
    for package in (nqm, landscapes):
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            package.nonsense  # noqa: B018
