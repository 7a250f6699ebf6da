from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import lcakit as lk
from lcakit.analysis import corrections, runs
from lcakit.errors import LcakitWarning
from lcakit.testing import tiny_trajectory
from tests.support.laziness import is_lazy, nothing_computed

FEW = "ignore:a bootstrap of:lcakit.errors.LcakitWarning"


@pytest.fixture(params=[False, True], ids=["numpy", "dask"])
def sample(request, rng) -> xr.DataArray:
    array = xr.DataArray(rng.normal(size=(6, 4)), dims=("run", "layer"), attrs={"units": "nats"})
    return array.chunk(run=2, layer=3) if request.param else array


def test_summary_is_students_interval(sample):
    with nothing_computed():
        got = runs.summary(sample, confidence=0.9)
    assert is_lazy(got["low"]) == is_lazy(sample)
    expected = stats.ttest_1samp(sample.values, 0).confidence_interval(0.9)
    np.testing.assert_allclose(got["low"], expected.low)
    np.testing.assert_allclose(got["high"], expected.high)
    assert got["mean"].attrs["units"] == "nats"


def test_summary_leaves_nan_out_and_knows_one_run(sample):
    holed = sample.where(sample != sample[0, 0].values)
    got = runs.summary(holed).isel(layer=0)
    assert int(got["n"]) == 5
    assert float(got["mean"]) == pytest.approx(sample.values[1:, 0].mean())
    single = runs.summary(sample.isel(run=0))
    np.testing.assert_allclose(single["mean"], sample[0])
    assert np.isnan(single["sd"]).all()


@pytest.mark.filterwarnings(FEW)
def test_bootstrap_is_seeded_and_covers(sample):
    with nothing_computed():
        got = runs.bootstrap(sample, resamples=2000)
    np.testing.assert_allclose(got["estimate"], sample.mean("run"))
    np.testing.assert_array_equal(got["low"], runs.bootstrap(sample, resamples=2000)["low"])
    assert (got["low"] < got["estimate"]).all()
    assert (got["estimate"] < got["high"]).all()
    width = (got["high"] - got["low"]).values
    normal = 2 * 1.96 * sample.values.std(0) / np.sqrt(6)  # what the bootstrap of a mean tends to
    np.testing.assert_allclose(width, normal, rtol=0.15)
    median = runs.bootstrap(sample, "median", resamples=500)
    np.testing.assert_allclose(median["estimate"], np.median(sample.values, axis=0))


@pytest.mark.filterwarnings(FEW)
def test_bootstrap_takes_its_options(sample):
    usual = runs.bootstrap(sample, resamples=500)
    narrow = runs.bootstrap(sample, resamples=500, confidence=0.5)
    assert (narrow["high"] - narrow["low"] < usual["high"] - usual["low"]).all()
    basic = runs.bootstrap(sample, resamples=500, method="basic")
    np.testing.assert_allclose(basic["low"], 2 * usual["estimate"] - usual["high"])
    assert (runs.bootstrap(sample, resamples=500, seed=1)["low"] != usual["low"]).any()


@pytest.mark.parametrize(("n", "warned"), [(2, True), (3, True), (7, True), (8, False), (20, False)])
def test_a_bootstrap_of_few_runs_says_that_it_is_too_narrow(rng, n, warned):
    few = xr.DataArray(rng.normal(size=n), dims="run")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs.bootstrap(few, resamples=20)
    said = [str(one.message) for one in caught if issubclass(one.category, LcakitWarning)]
    assert bool(said) == warned
    assert all(f"a bootstrap of {n} runs is too narrow for its 95%" in text for text in said)


@pytest.mark.filterwarnings(FEW)
def test_t_intervals_hold_what_they_say_where_a_bootstrap_does_not(rng):
    """Three Gaussian runs, many times: about 95 % of t intervals hold the mean, and three quarters of the others."""
    many = xr.DataArray(rng.normal(size=(3, 2000)), dims=("run", "case"))
    with nothing_computed():
        exact = runs.bootstrap(many.chunk(case=500), method="t")
    narrow = runs.bootstrap(many, resamples=400)
    held = {name: float(((one["low"] < 0) & (one["high"] > 0)).mean()) for name, one in (("t", exact), ("b", narrow))}
    assert held["t"] == pytest.approx(0.95, abs=0.02)
    assert held["b"] == pytest.approx(0.75, abs=0.04)
    mean = many.mean("run")
    half = stats.t.ppf(0.975, 2) * many.std("run", ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(exact["estimate"], mean, atol=1e-12)
    np.testing.assert_allclose(exact["high"], mean + half)


@pytest.mark.parametrize("method", ["t", "rank"])
@pytest.mark.parametrize("paired", [False, True])
def test_compare_is_scipys_test(sample, method, paired, rng):
    other = xr.DataArray(rng.normal(1, 1, size=(6 if paired else 5, 4)), dims=("run", "layer"))
    with nothing_computed():
        got = runs.compare(sample, other, paired=paired, method=method)
    x, y = sample.values, other.values
    expected = {
        ("t", False): lambda: stats.ttest_ind(y, x, equal_var=False),
        ("t", True): lambda: stats.ttest_rel(y, x),
        ("rank", False): lambda: stats.mannwhitneyu(y, x),
        ("rank", True): lambda: stats.wilcoxon(y - x),
    }[method, paired]()
    np.testing.assert_allclose(got["p"], expected.pvalue)
    np.testing.assert_allclose(got["difference"], y.mean(0) - x.mean(0))
    np.testing.assert_allclose(got["statistic"], expected.statistic)


def test_one_sample_against_another_value(sample):
    got, expected = runs.one_sample(sample, 0.7), stats.ttest_1samp(sample.values, 0.7)
    np.testing.assert_allclose(got["t"], expected.statistic)
    np.testing.assert_allclose(got["p"], expected.pvalue)


def test_holm_by_hand_and_bh_by_scipy():
    p = xr.DataArray([0.01, 0.04, 0.03, np.nan, 0.5], dims="layer")
    np.testing.assert_allclose(corrections.corrected(p, "layer"), [0.04, 0.09, 0.09, np.nan, 0.5])
    known = [0.01, 0.04, 0.03, 0.5]
    got = corrections.corrected(p.chunk(layer=2), "layer", "bh").values
    np.testing.assert_allclose(got[[0, 1, 2, 4]], stats.false_discovery_control(known))
    assert corrections.corrected(p, "layer", "none") is p


def test_corrected_p_values_end_at_one():
    p = xr.DataArray([0.6, 0.9, 0.5], dims="layer")
    assert corrections.corrected(p, "layer").values.tolist() == [1.0, 1.0, 1.0]


def test_wrong_use_is_said(sample):
    with pytest.raises(ValueError, match=r"holm.*bh.*none"):
        corrections.corrected(sample, "layer", "bonferoni")
    with pytest.raises(ValueError, match="over="):
        runs.one_sample(sample, correction="holm")
    with pytest.raises(ValueError, match="confidence"):
        runs.summary(sample, confidence=95)
    with pytest.raises(ValueError, match="statistic"):
        runs.bootstrap(sample, "mode")
    with pytest.raises(ValueError, match="BCa"):
        runs.bootstrap(sample, method="bca")
    with pytest.raises(ValueError, match="a t interval is of the mean"):
        runs.bootstrap(sample, "median", method="t")
    with pytest.raises(ValueError, match="method"):
        runs.compare(sample, sample, method="z")
    with pytest.raises(lk.TrajectoryError, match="at least 2 runs, got 1"):
        runs.one_sample(sample.isel(run=[0]))


def test_align():
    a, b = tiny_trajectory(5), tiny_trajectory(7, seed=1)
    with pytest.raises(lk.TrajectoryError, match="shortest"):
        runs.align({"a": a, "b": b})
    joined = runs.align({"a": a, "b": b}, "shortest")
    assert joined.sizes["iteration"] == 5
    assert joined["run"].values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(joined["lca"].sel(run="b"), b["lca"][:5])
    with pytest.raises(lk.TrajectoryError, match="bits"):
        runs.align({"a": a, "b": a.assign_attrs(loss_unit="bits")})
    with pytest.raises(lk.TrajectoryError, match="other parameters"):
        runs.align({"a": a, "b": tiny_trajectory(5, layers=lk.testing.LAYERS[:2])})
    with pytest.raises(lk.TrajectoryError, match="empty"):
        runs.align({})


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ({"cls": "a"}, {"cls": "b"}, "y has other classes than x"),
        ({"cls": ["a", "b"]}, {"cls": ["b", "c"]}, "y has other classes than x"),
        ({"layer": "fc"}, {"layer": "conv1"}, "y has other units than x"),
    ],
)
def test_runs_of_other_selections_are_not_joined(one, other, says):
    ds = tiny_trajectory(4)
    with pytest.raises(lk.TrajectoryError, match=says):
        lk.runs.align({"x": ds.lk.sel(**one), "y": ds.lk.sel(**other)})


@pytest.mark.parametrize("align", ["exact", "shortest"])
def test_runs_of_older_files_without_iterations(align):
    alone = tiny_trajectory(4).isel(snapshot=[0]).drop_dims("iteration")
    assert lk.runs.align({"a": alone, "b": alone}, align).sizes["run"] == 2
    if align == "exact":
        with pytest.raises(lk.TrajectoryError, match="b has 0 iterations, a has 4"):
            lk.runs.align({"a": tiny_trajectory(4), "b": alone})


def test_runs_that_end_at_other_steps_are_named():
    a = tiny_trajectory(4)
    b = a.assign_coords(snapshot=[0, 1, 2, 3, 9])
    with pytest.raises(lk.TrajectoryError, match=r"b has 4 iterations.*at other steps.*shortest"):
        runs.align({"a": a, "b": b})


@pytest.mark.parametrize("turned", [False, True])
def test_joined_runs_keep_what_all_have(turned):
    a, b = tiny_trajectory(4), tiny_trajectory(4, seed=1)
    pair = [a.assign(lca_val=a["lca"]), b.drop_vars("accuracy")]
    joined = runs.align(dict(zip("ab", reversed(pair) if turned else pair, strict=True)))
    assert set(joined.data_vars) == set(a.data_vars) - {"accuracy"}
