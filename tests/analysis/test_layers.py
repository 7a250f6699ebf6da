"""Layers over several runs: who hurts, what an intervention changes, where a layer stops helping."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import lcakit as lk
from lcakit.analysis.freezing import argmin_iteration, freeze_candidates
from lcakit.analysis.layers import compare_runs, hurting_layers, layer_trend
from lcakit.analysis.layerwise import layer_lca
from lcakit.testing import tiny_trajectory
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked


def runs(seeds: range, chunks=None, iterations: int = 9) -> xr.Dataset:
    joined = lk.runs.align({f"seed{s}": tiny_trajectory(iterations, seed=s) for s in seeds})
    return rechunked(joined, chunks)


def totals(ds: xr.Dataset) -> np.ndarray:
    return layer_lca(ds).sum("iteration").transpose("run", "layer").values


def runs_of_sums(conv1: list[float], fc: list[float]) -> xr.Dataset:
    """Runs of one iteration whose layers have these LCA."""
    found = {}
    for seed, (a, b) in enumerate(zip(conv1, fc, strict=True)):
        ds = tiny_trajectory(1, seed=seed)
        ds["lca"][:] = 0
        ds["lca"][0, 0], ds["lca"][0, 60] = a, b
        found[f"seed{seed}"] = ds
    return lk.runs.align(found)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(any_chunks())
def test_hurting_layers_is_a_t_test(chunks):
    ds = runs(range(4), chunks)
    with nothing_computed():
        got = hurting_layers(ds)
    assert is_lazy(got["p"]) == is_lazy(got["verdict"]) == (chunks is not None)
    got = got.compute()
    values = totals(ds)
    expected = stats.ttest_1samp(values, 0)
    np.testing.assert_allclose(got["t"], expected.statistic)
    np.testing.assert_allclose(got["p"], expected.pvalue)
    np.testing.assert_allclose(got["sd"], values.std(0, ddof=1))
    low, high = expected.confidence_interval(0.95)
    np.testing.assert_allclose(got["low"], low)
    np.testing.assert_allclose(got["high"], high)


def test_verdicts_follow_sign_and_corrected_p():
    ds = runs(range(6))
    layer = ds["layer"].values[ds["layer_index"].values]
    ds["lca"][:, :, layer == "fc"] = np.abs(ds["lca"][:, :, layer == "fc"]) + 1
    assert hurting_layers(ds)["verdict"].values.tolist() == ["helps", "hurts"]
    ds["lca"][:3] *= -1
    assert hurting_layers(ds)["verdict"].values.tolist() == ["unclear", "unclear"]


def test_a_verdict_needs_the_corrected_p():
    values = [-1.0, -2.0, -3.0, 0.5, -2.0, -1.0]  # p = 0.034, twice that corrected for two layers
    ds = runs_of_sums(values, values)
    got, alone = hurting_layers(ds), hurting_layers(ds, correction="none")
    assert (alone["p"] < 0.05).all()
    assert (got["p_corrected"] > 0.05).all()
    assert got["verdict"].values.tolist() == ["unclear", "unclear"]
    assert alone["verdict"].values.tolist() == ["helps", "helps"]


def test_one_run_is_not_enough():
    with pytest.raises(lk.TrajectoryError, match=r"lk\.open_runs"):
        hurting_layers(tiny_trajectory(3))
    with pytest.raises(lk.TrajectoryError, match="at least 2 runs, got 1"):
        compare_runs(runs(range(2)), tiny_trajectory(3))
    with pytest.raises(lk.TrajectoryError, match="at least 3"):
        layer_trend(runs(range(2)), [0, 1])


@pytest.mark.parametrize("paired", [False, True])
def test_compare_runs(paired):
    a, b = runs(range(4)), runs(range(4, 8))
    got = compare_runs(a, b, paired=paired, correction="none")
    test = stats.ttest_rel if paired else lambda y, x: stats.ttest_ind(y, x, equal_var=False)
    np.testing.assert_allclose(got["p"], test(totals(b), totals(a)).pvalue)
    np.testing.assert_allclose(got["difference"], totals(b).mean(0) - totals(a).mean(0))
    last = [ds["loss"].values[:, -1] for ds in (a, b)]
    assert float(got["final_loss_difference"]) == pytest.approx(last[1].mean() - last[0].mean())
    assert float(got["final_loss_p"]) == pytest.approx(test(last[1], last[0]).pvalue)
    for name, ds, loss in zip("ab", (a, b), last, strict=True):
        np.testing.assert_allclose(got[f"lca_{name}"], totals(ds).mean(0))
        assert float(got[f"final_loss_{name}"]) == pytest.approx(loss.mean())


def test_compare_runs_of_other_networks():
    small = lk.runs.align({k: tiny_trajectory(9, seed=s, layers=lk.testing.LAYERS[:4]) for s, k in enumerate("ab")})
    with pytest.raises(ValueError, match="different layers"):
        compare_runs(runs(range(2)), small)
    with pytest.raises(ValueError, match="as many"):
        compare_runs(runs(range(2)), runs(range(3)), paired=True)


def test_trend_against_a_number_per_run():
    ds = runs(range(5))
    delay = [0, 1, 2, 3, 5]
    got = layer_trend(ds.assign_coords(delay=("run", delay)), "delay")
    for k, column in enumerate(totals(ds).T):
        line = stats.linregress(delay, column)
        assert got["slope"].values[k] == pytest.approx(line.slope)
        assert got["p"].values[k] == pytest.approx(line.pvalue)
    np.testing.assert_allclose(layer_trend(ds, delay)["slope"], got["slope"])
    with pytest.raises(ValueError, match="coordinate of the runs"):
        layer_trend(ds, "delays")
    for bad in ([1, 2], [1] * 5):
        with pytest.raises(ValueError, match="one number for each of the 5 runs"):
            layer_trend(ds, bad)


@pytest.mark.parametrize("blocks", [["a", "a", "b", "b", "b", "c", "c"], [3, 1, 3, 1, 2, 2, 3]])
def test_trend_with_an_intercept_for_each_block(blocks):
    """Twin: ordinary least squares with a column of ones for each block."""
    ds, delay = runs(range(7)), [0, 1, 2, 3, 5, 4, 9]
    got = layer_trend(ds.assign_coords(seed=("run", blocks)), delay, blocks="seed")
    design = np.column_stack([delay, *(np.array(blocks) == name for name in sorted(set(blocks)))]).astype(float)
    freedom = len(delay) - design.shape[1]
    for k, column in enumerate(totals(ds).T):
        fitted, squares, *_ = np.linalg.lstsq(design, column, rcond=None)
        error = np.sqrt(squares[0] / freedom * np.linalg.inv(design.T @ design)[0, 0])
        for name, value in (("slope", fitted[0]), ("stderr", error)):
            assert got[name].values[k] == pytest.approx(value)
        assert got["p"].values[k] == pytest.approx(2 * stats.t.sf(abs(fitted[0] / error), freedom))


def test_blocks_take_out_what_seeds_differ_by():
    """Three seeds far apart, each with the slope 2: with a single intercept the trend drowns."""
    delay, seed = [0, 1, 2] * 3, [0, 0, 0, 1, 1, 1, 2, 2, 2]
    sums = [2.0 * d + 100 * (-1) ** s + 0.01 * (d == 1) for d, s in zip(delay, seed, strict=True)]
    ds = runs_of_sums(sums, [0.0] * 9)
    got = layer_trend(ds, delay, blocks=seed).isel(layer=0)
    assert float(got["slope"]) == pytest.approx(2)
    assert float(got["p"]) < 1e-6
    assert float(layer_trend(ds, delay)["p"][0]) > 0.5


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ([0, 1], "one label for each of the 4 runs"),
        ([0, 1, 2, 3], "leave too few to fit a line"),
        ([0, 0, 1, 1], "in each block all runs have the same number"),
        ("seeds", "coordinate of the runs"),
    ],
)
def test_blocks_that_leave_nothing_to_fit_are_refused(blocks, says):
    with pytest.raises(ValueError, match=says):
        layer_trend(runs(range(4)), [0, 0, 1, 1], blocks=blocks)


@given(any_chunks(), st.integers(1, 30), st.integers(0, 999), st.integers(0, 2))
def test_argmin_against_a_loop(chunks, iterations, seed, most):
    plain = tiny_trajectory(iterations)
    # small integers: ties, zeros, minima at both ends and across blocks
    values = np.random.default_rng(seed).integers(-most, most, (iterations, 61), endpoint=True).astype(np.float32)
    plain["lca"][:] = values
    ds = rechunked(plain, chunks)
    with nothing_computed():
        got, layers = argmin_iteration(ds, "parameter"), argmin_iteration(ds)
    assert is_lazy(got) == is_lazy(layers) == (chunks is not None)
    assert got.dtype == np.int64

    def slow(series: np.ndarray) -> int:
        sums = [0.0, *itertools.accumulate(series.tolist())]
        return sums.index(min(sums))

    assert got.values.tolist() == [slow(column) for column in values.T]
    by_layer = layer_lca(plain).values
    assert layers.values.tolist() == [slow(column) for column in by_layer.T]


def test_argmin_speaks_in_labels():
    ds = tiny_trajectory(12).lk.sel(iteration=slice(4, 9))
    assert set(argmin_iteration(ds).values) <= set(range(4, 11))


def test_freeze_candidates():
    ds = tiny_trajectory(10)
    layer = ds["layer"].values[ds["layer_index"].values]
    ds["lca"][:] = 0
    ds["lca"][:, layer == "conv1"] = -1  # 24 kernels and 3 biases: helps to the end
    fc = np.flatnonzero(layer == "fc")[0]
    ds["lca"][:6, fc], ds["lca"][6:, fc] = -10, 12  # stops after six iterations
    got = freeze_candidates(ds, level=None)
    assert got["snapshot"].values.tolist() == [10, 6]
    assert got["gain"].values.tolist() == [0, 48]
    np.testing.assert_allclose(got["relative_gain"], [0, 48 / (270 + 12)])
    assert got["candidate"].values.tolist() == [False, True]
    assert not freeze_candidates(ds, least=0.2, level=None)["candidate"].any()
    both = freeze_candidates(lk.runs.align({"a": ds, "b": tiny_trajectory(10)}), level=None)
    assert both["agreement"].values.tolist() == [0, 0.5]
    with pytest.raises(ValueError, match="least"):
        freeze_candidates(ds, least=-1)
    with pytest.raises(ValueError, match="unknown grouping into layers 'parameter'"):
        freeze_candidates(ds, by="parameter")


def test_a_layer_that_gains_nothing_is_no_candidate():
    ds = tiny_trajectory(4)
    ds["lca"][:] = 0
    ds["lca"][:, 0], ds["lca"][:, 60] = -1, [-1, 1, 1, -1]
    assert freeze_candidates(ds, least=0, level=None)["candidate"].values.tolist() == [False, True]


def steps_of(*series: list[float]) -> xr.Dataset:
    """A trajectory of two layers, conv1 and fc, with these steps."""
    ds = tiny_trajectory(len(series[0]))
    ds["lca"][:] = 0
    ds["lca"][:, 0], ds["lca"][:, 60] = series
    return ds


@pytest.mark.parametrize("chunks", [None, {"iteration": 3, "parameter": 20}])
def test_the_p_value_of_a_gain_against_all_random_walks(chunks):
    """Twin: all 2^n signs of n steps, instead of a sample of them."""
    first, second = [-3.0, 1, -2, 0.5, 4, 1, -1, 2, 1], [-1.0] * 6 + [0.5, 0.25, 0.25]
    ds = rechunked(steps_of(first, second), chunks)
    with nothing_computed():
        got = freeze_candidates(ds, trials=4000)
    assert is_lazy(got["p"]) == (chunks is not None)
    for layer, steps in enumerate((first, second)):
        signs = np.array(np.meshgrid(*[[-1, 1]] * 9)).reshape(9, -1).T
        walks = np.concatenate([np.zeros((512, 1)), np.cumsum(signs * steps, axis=1)], axis=1)
        back = walks[:, -1] - walks.min(axis=1)
        expected = np.mean(back >= float(got["gain"][layer]) - 1e-9)
        assert float(got["p"][layer]) == pytest.approx(expected, abs=0.03)


def test_noise_is_no_candidate_and_a_layer_that_turns_is_one(rng):
    noise = rng.normal(size=100)
    turns = np.r_[np.full(50, -1.0), np.full(50, 0.8)] + 0.5 * rng.normal(size=100)
    got = freeze_candidates(steps_of(noise.tolist(), turns.tolist()), least=0)
    assert got["candidate"].values.tolist() == [False, True]
    assert freeze_candidates(steps_of(noise.tolist(), turns.tolist()), least=0, level=None)["candidate"].all()
    assert float(got["p_corrected"].sel(layer="fc")) < 0.01
    hurts = freeze_candidates(steps_of([0.0] * 40, [0.1] * 40), least=0)
    assert hurts["candidate"].values.tolist() == [False, True]
    assert hurts["snapshot"].values.tolist() == [0, 0]


def test_many_runs_tell_what_each_cannot(rng):
    """Twin: SciPy's combination of the p-values of the runs, times the number of layers."""
    found = {}
    for name in "abcdef":
        drift, noise = rng.normal(0.2, 1, 60), rng.normal(size=60)
        found[name] = steps_of(noise.tolist(), drift.tolist())
    got = freeze_candidates(lk.runs.align(found), least=0)
    both = [stats.combine_pvalues(got["p"].sel(layer=layer).values).pvalue for layer in ("conv1", "fc")]
    order = np.argsort(both)
    expected = np.empty(2)
    expected[order] = np.minimum(np.maximum.accumulate(np.array(both)[order] * [2, 1]), 1)
    np.testing.assert_allclose(got["p_runs"], expected)
    assert got["p_runs"].sel(layer="fc") < 0.05 < got["p_runs"].sel(layer="conv1")
    alone = freeze_candidates(found["a"], least=0)
    np.testing.assert_array_equal(alone["p_runs"], alone["p_corrected"])


def test_options_of_the_random_walks_are_checked():
    for option in ({"level": 0}, {"level": 1.5}, {"trials": 0}, {"trials": 1.5}):
        with pytest.raises(ValueError, match=next(iter(option))):
            freeze_candidates(tiny_trajectory(4), **option)
