from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lcakit as lk
from lcakit.analysis.phase import phase_lag
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import group_ids
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs


def slow_correlation(ds, members: np.ndarray, lag: int) -> float:
    """Pooled correlation of movement with the negative gradient, one parameter and one iteration at a time."""
    theta, gradient = (ds[name].values[:, members].astype(np.float64) for name in ("theta", "gradient"))
    moves, down = np.diff(theta, axis=0), -gradient[:-1]
    moves, down = moves - moves.mean(0), down - down.mean(0)
    n = len(moves)
    total = 0.0
    for m, d in zip(moves.T, down.T, strict=True):
        total += sum(m[t + lag] * d[t] for t in range(n) if 0 <= t + lag < n)
    return total / np.sqrt((moves**2).sum() * (down**2).sum())


@cache  # the same for all chunks
def slow_correlations(max_lag: int, by: str) -> list[list[float]]:
    """Twin: a row for each group of a tiny trajectory, a column for each lag."""
    ds = tiny_trajectory(15)
    ids, names = group_ids(ds, by)
    return [[slow_correlation(ds, ids == g, lag) for lag in range(-max_lag, max_lag + 1)] for g in range(names.size)]


@pytest.mark.slow
@given(any_chunks(), st.integers(0, 5), st.sampled_from(["kernel_layer", "unit"]))
def test_against_loops(chunks, max_lag, by):
    ds = rechunked(tiny_trajectory(15), chunks)
    with nothing_computed():
        got = phase_lag(ds, by, max_lag)
    assert is_lazy(got["gradient_correlation"]) == is_lazy(got["lag_of_peak"]) == (chunks is not None)
    got, expected = got.compute(), slow_correlations(max_lag, by)
    np.testing.assert_allclose(got["gradient_correlation"], expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(got["lag_of_peak"], got["lag"].values[np.argmax(expected, axis=1)])


def delayed(iterations: int, delay: int):
    """Every weight moves against the gradient of ``delay`` iterations ago."""
    ds = tiny_trajectory(iterations)
    gradient = np.random.default_rng(0).normal(size=(iterations + 1, 61)).astype(np.float32)
    moves = np.zeros((iterations, 61), np.float32)
    moves[delay:] = -gradient[: iterations - delay]
    ds["gradient"][:] = gradient
    ds["theta"][1:] = ds["theta"].values[:1] + np.cumsum(moves, axis=0)
    return ds


@pytest.mark.sampled
@pytest.mark.parametrize("delay", [0, 1, 4])
def test_a_known_delay_is_found(delay):
    got = phase_lag(delayed(120, delay).chunk(snapshot=17, iteration=17, parameter=20), max_lag=6)
    assert got["lag_of_peak"].values.tolist() == [delay, delay]
    assert (got["gradient_correlation"].sel(lag=delay) > 0.95).all()


def test_layers_against_each_other():
    ds = tiny_trajectory(60)
    layer = ds["layer"].values[ds["layer_index"].values]
    rng = np.random.default_rng(1)
    lead = rng.normal(size=60)
    ds["lca"][:] = 0
    ds["lca"][:, np.flatnonzero(layer == "conv1")[0]] = lead
    ds["lca"][3:, np.flatnonzero(layer == "fc")[0]] = lead[:-3]
    got = phase_lag(ds, max_lag=5)["layer_correlation"]
    assert int(got.sel(layer="fc", other_layer="conv1").idxmax("lag")) == 3
    np.testing.assert_allclose(
        got.sel(layer="conv1", other_layer="fc", lag=-3), got.sel(layer="fc", other_layer="conv1", lag=3)
    )
    np.testing.assert_allclose(got.sel(layer="fc", other_layer="fc", lag=0), 1)


def test_runs_standstill_and_bad_lags():
    runs = two_runs(tiny_trajectory(12), tiny_trajectory(12, seed=1)).chunk(run=1, snapshot=5, iteration=4)
    got = phase_lag(runs, max_lag=2)
    assert got["gradient_correlation"].dims == ("run", "layer", "lag")
    alone = phase_lag(tiny_trajectory(12, seed=1), max_lag=2)
    np.testing.assert_allclose(got["gradient_correlation"].sel(run="y"), alone["gradient_correlation"])
    still = tiny_trajectory(12)
    still["theta"][:] = still["theta"].values[0]
    assert np.isnan(phase_lag(still, max_lag=2)["lag_of_peak"]).all()
    for bad in (-1, 6):
        with pytest.raises(ValueError, match="half of the 12"):
            phase_lag(tiny_trajectory(12), max_lag=bad)
    with pytest.raises(lk.TrajectoryError, match="gradient"):
        phase_lag(tiny_trajectory(12).drop_vars("gradient"))


@pytest.mark.parametrize(("iterations", "most"), [(1, 0), (2, 0), (12, 5), (20, 9), (40, 10)])
def test_the_default_lags_are_those_the_run_is_long_enough_for(iterations, most):
    assert phase_lag(tiny_trajectory(iterations))["lag"].values[-1] == most


def test_lags_of_several_steps_are_called_recorded_iterations():
    every = phase_lag(tiny_trajectory(12).assign_attrs(every=10))
    assert every["lag"].attrs["units"] == "recorded iterations (each of 10 steps)"
    assert every["lag_of_peak"].attrs["units"] == "recorded iterations (each of 10 steps)"
    plain = phase_lag(tiny_trajectory(12))
    assert plain["lag"].attrs["units"] == plain["lag_of_peak"].attrs["units"] == "iterations"
    with pytest.raises(ValueError, match="half of the 12"):
        phase_lag(tiny_trajectory(12), max_lag=10)
