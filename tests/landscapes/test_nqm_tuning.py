"""Tuned curves, critical batch sizes and schedules of the noisy quadratic model."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from lcakit.errors import LcakitWarning
from lcakit.landscapes import nqm
from lcakit.landscapes.nqm import NoisyQuadratic, Optimizer, Schedule, paper_problem
from lcakit.landscapes.nqm.schedules import lengths_of
from lcakit.landscapes.nqm.scheduling import _Chain
from lcakit.landscapes.nqm.spectrum import Spectrum

from .test_nqm import OPTIMIZERS, problem, slow_loss

SIZES = [1, 30, 1000, 1e5]


@pytest.fixture(scope="module")
def curves() -> xr.Dataset:
    return nqm.compare_optimizers(paper_problem(300), SIZES, quiet=True)


def test_merged_spectra_have_nearly_the_same_loss():
    full = Spectrum.of(paper_problem(2000), 0.0)
    merged = full.merged()
    assert merged.k.size < 500
    assert merged.w.sum() == pytest.approx(full.w.sum(), rel=1e-12)
    small = NoisyQuadratic(merged.k, 2 * merged.v / merged.k, start_variance=2 * merged.w / merged.k)
    times = [1, 10, 100, 10_000]
    for o in (Optimizer(0.5), Optimizer(0.1, 0.9)):
        pair = [nqm.expected_loss(p, o, 10, times) for p in (paper_problem(2000), small)]
        np.testing.assert_allclose(*pair, rtol=2e-4)


@pytest.mark.slow
def test_tuned_learning_rates_against_a_dense_grid():
    p, sizes = paper_problem(60), [3, 100, 1e4]
    found = nqm.tuned_steps(p, sizes, quiet=True)
    rates = np.geomspace(1e-3, 1.99, 400)
    grid = nqm.steps_to_target(p, Optimizer(1.0), sizes, learning_rate=rates)
    best = grid.min("learning_rate")
    assert (found["steps"] <= 1.005 * best + 1).all()
    for n, size in enumerate(sizes):
        again = nqm.steps_to_target(p, Optimizer(found["learning_rate"].values[n]), size)
        assert again.item() == found["steps"].values[n]
    np.testing.assert_allclose(found["examples"], found["steps"] * found["batch_size"])
    again = nqm.tuned_steps(p, sizes, quiet=True)
    xr.testing.assert_identical(found, again)


@pytest.mark.slow
def test_tuned_momentum_against_a_grid():
    p, sizes = paper_problem(60), [100, 1e5]
    found = nqm.tuned_steps(p, sizes, momentum=None, quiet=True)
    best = np.full(2, np.inf)
    for beta in np.r_[0, 1 - np.geomspace(0.02, 0.9, 15)]:
        rates = np.geomspace(1e-3, 0.999 * 2 * (1 + beta), 40)
        grid = nqm.steps_to_target(p, Optimizer(1.0, beta), sizes, learning_rate=rates)
        best = np.minimum(best, grid.min("learning_rate"))
    assert (found["steps"] <= 1.02 * best + 1).all()


@pytest.mark.slow
def test_what_matters_at_which_batch_sizes(curves):
    """The statements of the paper."""
    assert curves["steps"].dims == ("optimizer", "batch_size")
    assert list(curves["optimizer"].values) == ["sgd", "momentum", "preconditioning", "averaging"]
    assert (curves["steps"].diff("batch_size") <= 0).all()
    faster = nqm.speed_up(curves)
    small, large = faster.isel(batch_size=0), faster.isel(batch_size=-1)
    assert small.sel(optimizer="momentum") == pytest.approx(1, abs=0.02)
    assert large.sel(optimizer="momentum") > 4
    assert small.sel(optimizer="preconditioning") > 1.5
    assert large.sel(optimizer="preconditioning") > 4
    assert small.sel(optimizer="averaging") > 4
    assert large.sel(optimizer="averaging") < 1.2
    critical = nqm.critical_batch_size(curves)
    assert critical.sel(optimizer="averaging") < critical.sel(optimizer="sgd") < critical.sel(optimizer="momentum")
    assert critical.sel(optimizer="sgd") < critical.sel(optimizer="preconditioning")


@pytest.mark.slow
def test_small_batches_scale_perfectly_and_large_ones_not():
    sizes = 2.0 ** np.arange(0, 20, 3)
    steps = nqm.tuned_steps(paper_problem(), sizes, quiet=True)["steps"].values
    assert steps[0] / steps[1] == pytest.approx(8, rel=0.01)
    assert steps[-2] / steps[-1] < 1.05


def test_momentum_is_a_learning_rate_at_small_batches():
    p = paper_problem(300)
    tuned = [nqm.tuned_steps(p, [1, 1e5], momentum=beta, quiet=True) for beta in (0.0, 0.9)]
    small = [one.isel(batch_size=0) for one in tuned]
    assert small[0]["steps"] == pytest.approx(small[1]["steps"].item(), rel=0.01)
    assert small[0]["learning_rate"] == pytest.approx(small[1]["effective_learning_rate"].item(), rel=0.02)
    assert tuned[1]["steps"].values[1] < tuned[0]["steps"].values[1] / 3

    times = [10, 1000, 10**5]
    for alpha, apart in ((1e-5, 1e-3), (1e-4, 1e-2)):
        found = nqm.momentum_equivalence(p, Optimizer(alpha, 0.9), [1, 100], times)
        assert found["loss"].dims == ("optimizer", "batch_size", "snapshot")
        assert float(abs(found["ratio"] - 1).isel(snapshot=slice(1, None)).max()) < apart
        np.testing.assert_array_equal(
            found["loss"].sel(optimizer="sgd"), nqm.expected_loss(p, Optimizer(alpha / (1 - 0.9)), [1, 100], times)
        )
    with pytest.warns(LcakitWarning):  # SGD could not take the steps of momentum at a large batch
        nqm.momentum_equivalence(p, Optimizer(1.0, 0.9), 1e6, times)
    with pytest.raises(ValueError, match="no momentum"):
        nqm.momentum_equivalence(p, Optimizer(1.0), 1, times)


def test_critical_batch_size_in_closed_form():
    sizes = 2.0 ** np.arange(-6, 16)
    curve = xr.Dataset({"steps": ("batch_size", 10 * (1 + 300 / sizes))}, {"batch_size": sizes})
    assert nqm.critical_batch_size(curve).item() == pytest.approx(300, rel=0.03)
    shuffled = curve.isel(batch_size=np.random.default_rng(0).permutation(sizes.size))
    assert nqm.critical_batch_size(shuffled).item() == nqm.critical_batch_size(curve).item()
    scaling = xr.Dataset({"steps": ("batch_size", 1e6 / sizes)}, {"batch_size": sizes})
    assert np.isinf(nqm.critical_batch_size(scaling))
    never = xr.Dataset({"steps": ("batch_size", np.full(sizes.size, np.inf))}, {"batch_size": sizes})
    assert np.isnan(nqm.critical_batch_size(never))
    with pytest.raises(ValueError, match="two or more batch sizes"):
        nqm.critical_batch_size(curve.isel(batch_size=0))


def test_order_and_repeats_of_batch_sizes():
    p = paper_problem(30)
    plain = nqm.tuned_steps(p, [1, 10, 100], quiet=True)
    mixed = nqm.tuned_steps(p, [100, 1, 10, 1], quiet=True)
    for name in plain:
        np.testing.assert_array_equal(mixed[name], plain[name].values[[2, 0, 1, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["momentum", "averaging"])
def test_limits_of_what_is_tuned(name):
    p = paper_problem(60)
    free = nqm.tuned_steps(p, 1e3, **{name: None}, quiet=True)
    bound = nqm.tuned_steps(p, 1e3, **{name: None, f"{name}_limit": 0.3}, quiet=True)
    none = nqm.tuned_steps(p, 1e3, quiet=True)
    assert free[name].item() > 0.3 >= bound[name].item() > 0
    assert free["steps"].item() < bound["steps"].item() < none["steps"].item()
    with pytest.raises(ValueError, match=f"{name} .*less than 1, got 1"):
        nqm.tuned_steps(p, 1e3, **{name: None, f"{name}_limit": 1.0}, quiet=True)


def test_targets_out_of_reach():
    p = paper_problem(30)
    late = nqm.tuned_steps(p, [1, 1e6], max_steps=100, quiet=True)
    assert np.isinf(late["steps"].values[0])
    assert np.isnan(late["learning_rate"].values[0])
    assert late["steps"].values[1] < 100
    with pytest.raises(ValueError, match="must be below the initial loss"):
        nqm.tuned_steps(p, 1, target=p.initial_loss)
    with pytest.raises(ValueError, match=r"momentum .* less than 1, got 1"):
        nqm.tuned_steps(p, 1, momentum=1.0)
    with pytest.raises(ValueError, match="preconditioning must be 0 to 1"):
        nqm.tuned_steps(p, 1, preconditioning=2.0)


def test_noise_free_tuning_is_that_of_gradient_descent():
    """One direction: α = 1/h is there after a single step."""
    p = NoisyQuadratic([0.3, 0.3], noise=0.0)
    found = nqm.tuned_steps(p, [1, np.inf], target=1e-3, quiet=True)
    assert found["steps"].values.tolist() == [1, 1]
    assert found["learning_rate"].values == pytest.approx(1 / 0.3, rel=0.1)


@pytest.mark.slow
def test_comparisons_that_are_none(curves):
    with pytest.raises(ValueError, match=r"unknown optimizer 'sdg'\. Did you mean 'sgd'"):
        nqm.compare_optimizers(paper_problem(10), 1, optimizers=["sdg"])
    with pytest.raises(ValueError, match="unknown optimizer 'adam'"):
        nqm.speed_up(curves, baseline="adam")
    with pytest.raises(ValueError, match="compare_optimizers"):
        nqm.speed_up(curves.sel(optimizer="sgd"))
    own = nqm.compare_optimizers(paper_problem(10), [1, 10], optimizers={"heavy": {"momentum": 0.5}}, quiet=True)
    assert own["momentum"].values.tolist() == [[0.5, 0.5]]


# ---- schedules


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_scheduled_loss_against_the_recursion(optimizer):
    p, schedule = problem([1.0, 0.0, -2.0, 0.3]), Schedule((0.3, 0.05, 0.2), 50)
    assert schedule.edges == (0, 16, 33, 50)
    rates = [schedule.rate_at(step) for step in range(50)]
    assert [rates.count(rate) for rate in schedule.rates] == schedule.lengths.tolist() == [16, 17, 17]
    got = nqm.scheduled_loss(p, optimizer, [2, 50], schedule)
    for size in (2, 50):
        expected = slow_loss(p, optimizer, size, list(schedule.edges), rates)
        np.testing.assert_allclose(got.sel(batch_size=size), expected, rtol=1e-10)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_gradient_of_the_final_loss(optimizer):
    p = NoisyQuadratic([1.0, 0.5, 0.1], [0.3, 0.2, 0.6])
    spectrum = Spectrum.of(p, optimizer.preconditioning)
    chain = _Chain(spectrum, optimizer, lengths_of(43, 4), 7.0)
    x = np.log([0.3, 0.5, 0.1, 0.02])
    value, gradient = chain.value_and_gradient(x)
    exact = nqm.scheduled_loss(p, optimizer, 7, Schedule(tuple(np.exp(x)), 43)).values[-1]
    assert value == pytest.approx(np.log(exact), rel=1e-10)
    for n, shift in enumerate(1e-5 * np.eye(4)):
        slope = (chain.value_and_gradient(x + shift)[0] - chain.value_and_gradient(x - shift)[0]) / 2e-5
        assert gradient[n] == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.slow
def test_best_schedule_against_a_grid():
    p, steps = paper_problem(40), 60
    best = nqm.best_schedule(p, Optimizer(0.5), 20, steps, pieces=2)
    got = nqm.scheduled_loss(p, Optimizer(0.5), 20, best).values[-1]
    rates = np.geomspace(1e-2, 1.99, 60)
    grid = [
        nqm.scheduled_loss(p, Optimizer(0.5), 20, Schedule((a, b), steps)).values[-1] for a in rates for b in rates[::3]
    ]
    assert got <= min(grid) * 1.001
    assert best.rates[0] > best.rates[1]
    assert len(nqm.best_schedule(p, Optimizer(0.5), 20, 3, pieces=50).rates) == 3


@pytest.mark.slow
def test_schedules_need_fewer_steps():
    curve = nqm.scheduled_steps(paper_problem(100), [1, 100, 1e5], pieces=10, quiet=True)
    gain = (curve["constant_steps"] / curve["steps"]).values
    assert gain[0] > 4
    assert (np.diff(gain) <= 0).all()
    assert gain[-1] >= 1
    assert (curve["loss"] <= 0.01).all()
    assert curve["learning_rate"].dims == ("batch_size", "piece")
    first = Schedule(tuple(curve["learning_rate"].values[0]), int(curve["steps"].values[0]))
    again = nqm.scheduled_loss(paper_problem(100), Optimizer(1.0), 1, first).values[-1]
    assert again == pytest.approx(curve["loss"].values[0], rel=1e-9)


def test_schedules_that_are_none():
    p, o = paper_problem(5), Optimizer(0.1)
    with pytest.raises(ValueError, match="one positive number per piece"):
        Schedule((0.1, -1.0), 10)
    with pytest.raises(ValueError, match="at least as many steps"):
        Schedule((0.1, 0.1), 1)
    with pytest.raises(ValueError, match="steps 0 to 9, got 10"):
        Schedule((0.1, 0.1), 10).rate_at(10)
    with pytest.raises(ValueError, match="at least one step and one piece"):
        nqm.best_schedule(p, o, 1, 0)
    with pytest.warns(LcakitWarning, match="unstable"):
        nqm.scheduled_loss(p, o, 1, Schedule((0.1, 3.0), 10))
