from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lcakit.analysis.tails import excess_kurtosis
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import GROUPINGS, group_ids
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs
from tests.support.tail_data import chunked, dataset


def windows_of(n: int, window: int | str | None) -> list[slice]:
    size = {None: 1, "run": n}.get(window, window)
    return [slice(a, a + size) for a in range(0, n, size)]


@pytest.mark.slow
@given(
    any_chunks(),
    st.sampled_from([None, 1, 2, 5, 11, "run"]),
    st.none() | st.sampled_from(GROUPINGS),
    st.floats(-1e3, 1e3),
    st.sampled_from([1e-30, 1.0, 1e30]),
)
def test_kurtosis_against_scipy(chunks, window, by, shift, scale):
    ds = tiny_trajectory(11)
    values = (ds["lca"].values.astype(np.float64) + shift) * scale
    ds = rechunked(ds.assign(lca=(("iteration", "parameter"), values.astype(np.float32))), chunks)
    values = values.astype(np.float32).astype(np.float64)
    with nothing_computed():
        got = excess_kurtosis(ds, window, by)
    assert all(is_lazy(got[name]) == (chunks is not None) for name in got)
    dims = {None: ["iteration"], "run": []}.get(window, ["window"]) + ([by] if by else [])
    assert list(got["excess_kurtosis"].dims) == list(got["p"].dims) == dims
    got = got.compute()
    ids = group_ids(ds, by)[0] if by else np.zeros(61, int)
    for w, rows in enumerate(windows_of(11, window)):
        for g in range(ids.max() + 1):
            row = got.isel(dict(zip(dims, [*([w] if window != "run" else []), g], strict=False)))
            sample = values[rows][:, ids == g].ravel()
            assert int(row["n"]) == sample.size
            if np.ptp(sample) == 0:
                assert np.isnan([row["excess_kurtosis"], row["z"], row["p"]]).all()
                continue
            np.testing.assert_allclose(row["excess_kurtosis"], slow_kurtosis(sample), rtol=1e-8, atol=1e-8)
            if sample.size < 5:
                assert np.isnan([row["z"], row["p"]]).all()
                continue
            theirs = stats.kurtosistest((sample - sample.mean()) / sample.std())
            np.testing.assert_allclose(row["z"], theirs.statistic, rtol=1e-7, atol=1e-7)
            np.testing.assert_allclose(row["p"], theirs.pvalue, rtol=1e-6)


def slow_kurtosis(sample: np.ndarray) -> float:
    mean = math.fsum(sample) / sample.size
    m2, m4 = (math.fsum((x - mean) ** p for x in sample) / sample.size for p in (2, 4))
    return m4 / m2**2 - 3


@pytest.mark.parametrize("sizes", [None, (7, 3), (1, 1), (50, 4)])
def test_a_mean_far_from_zero_does_no_harm(sizes):
    noise = np.random.default_rng(0).laplace(size=(60, 10))
    values = (1000 + 0.01 * noise).astype(np.float32)
    got = excess_kurtosis(chunked(values, sizes), "run")["excess_kurtosis"]
    np.testing.assert_allclose(got, stats.kurtosis(values.astype(np.float64), None), rtol=1e-9)


def test_a_gaussian_passes_and_a_heavy_tail_does_not():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 50))
    z = excess_kurtosis(dataset(1e-25 * values), "run")["z"]
    assert abs(z) < 3
    heavy = excess_kurtosis(dataset(1e-25 * values * np.abs(values)), "run")
    assert heavy["p"] < 1e-10
    assert heavy["excess_kurtosis"] > 1


def test_five_values_are_enough_for_the_test():
    values = np.array([[1.0, 2.0, 4.0, 8.0, -3.0]], np.float32)
    z = excess_kurtosis(dataset(values))["z"]
    assert float(z[0]) == pytest.approx(stats.kurtosistest(values[0].astype(float)).statistic)


def test_equal_values_have_no_kurtosis():
    for value in (0.0, 0.1, 1e30):
        values = np.full((6, 7), value, np.float32)
        for window in (None, 4, "run"):
            got = excess_kurtosis(chunked(values, (4, 3)), window)
            assert np.isnan(got["excess_kurtosis"]).all()
            assert np.isnan(got["p"]).all()
    values[3, 2] = np.nextafter(np.float32(1e30), np.float32(2e30))
    np.testing.assert_allclose(excess_kurtosis(dataset(values), "run")["excess_kurtosis"], 41 + 1 / 41 - 4, rtol=1e-6)


@pytest.mark.parametrize("values", [np.full((6, 7), 0.1), np.linspace(1e-75, 2e-75, 42).reshape(6, 7)])
def test_rounding_is_not_taken_for_variance(values):
    """float64 data, whose mean rounds, or whose fourth powers leave float64."""
    ds = dataset(values).assign(lca=(("iteration", "parameter"), values))
    for data in (ds, ds.chunk(iteration=4, parameter=3)):
        assert np.isnan(excess_kurtosis(data, "run")["excess_kurtosis"])


def test_nan_stays_where_it_is():
    values = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    values[2, 3], values[5, 0] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        got = excess_kurtosis(dataset(values), 2)["excess_kurtosis"]
    assert np.isnan(got).values.tolist() == [False, True, True]


def test_windows_are_labelled_and_runs_treated_one_by_one():
    runs = [tiny_trajectory(7, seed=seed).assign_coords(iteration=np.arange(100, 107)) for seed in (0, 1)]
    got = excess_kurtosis(two_runs(*runs).chunk(iteration=2, run=1), 3, "layer")
    assert got["excess_kurtosis"].dims == ("run", "window", "layer")
    assert got["window"].values.tolist() == [100, 103, 106]
    assert got["window_end"].values.tolist() == [102, 105, 106]
    alone = excess_kurtosis(runs[1], 3, "layer")
    np.testing.assert_allclose(got["z"].sel(run="y"), alone["z"])


@pytest.mark.parametrize("window", [0, 8, -1, 2.5, "all"])
def test_a_window_is_of_iterations_of_the_run(window):
    with pytest.raises(ValueError, match='"run" or 1 to 7 iterations'):
        excess_kurtosis(tiny_trajectory(7), window)
