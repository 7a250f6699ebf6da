from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import lcakit as lk
from lcakit.analysis import tails
from lcakit.analysis.tails import excess_kurtosis, fit_tails, histogram, tail_share, trim
from lcakit.testing import tiny_trajectory
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs
from tests.support.tail_data import as_counts, dataset

# ---- fits -----------------------------------------------------------------------------------------------------------


def fitted(sample: np.ndarray, per_octave: int = 64) -> xr.Dataset:
    return fit_tails(histogram(dataset(sample.reshape(10, -1).astype(np.float32)), bins_per_octave=per_octave))


@functools.cache
def fits_of_scipy(k: float, size: int) -> tuple[np.ndarray, np.ndarray, dict[str, tuple[float, float]]]:
    """A sample of scale 1, its signs, and shape and scale of its parts: the fits take long, and any scale has these."""
    sample = stats.weibull_min.rvs(k, size=size, random_state=0)
    signs = np.random.default_rng(1).choice([-1, 1], size)
    parts = {"both": sample, "helping": sample[signs < 0], "hurting": sample[signs > 0]}
    return sample, signs, {name: stats.weibull_min.fit(part, floc=0)[::2] for name, part in parts.items()}


@pytest.mark.sampled
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e-25, 1e20])
@pytest.mark.parametrize("k", [0.5, 1.0, 2.0])
def test_weibull_samples_are_recovered_and_agree_with_scipy(k, scale):
    size = 100_000
    sample, signs, expected = fits_of_scipy(k, size)
    sample = sample * scale
    fit = fitted(sample * signs).sel(model="weibull")
    both = fit.sel(outcome="both")
    assert int(both["n"]) == size
    np.testing.assert_allclose(both["shape"], k, rtol=4 * 0.78 / math.sqrt(size))  # 4 standard errors
    np.testing.assert_allclose(both["scale"], scale, rtol=4 * 1.053 / k / math.sqrt(size))
    for outcome, (shape, theirs) in expected.items():
        np.testing.assert_allclose(fit["shape"].sel(outcome=outcome), shape, rtol=1e-3)
        np.testing.assert_allclose(fit["scale"].sel(outcome=outcome), theirs * scale, rtol=2e-3)


@pytest.mark.parametrize("per_octave", [1, 4])
def test_wide_bins_cause_no_bias(per_octave):
    size = 200_000
    sample = stats.weibull_min.rvs(0.6, scale=1e-7, size=size, random_state=3)
    fit = fitted(sample, per_octave).sel(outcome="hurting", model="weibull")
    np.testing.assert_allclose(fit["shape"], 0.6, rtol=6 / math.sqrt(size))
    np.testing.assert_allclose(fit["scale"], 1e-7, rtol=10 / math.sqrt(size))


@pytest.mark.parametrize(
    ("distribution", "best", "shape"),
    [(stats.norm, "half_normal", np.nan), (stats.laplace, "exponential", 1.0), (stats.dweibull(0.5), "weibull", 0.5)],
    ids=["gaussian", "laplace", "double weibull"],
)
def test_the_right_model_is_best(distribution, best, shape):
    sample = 1e-6 * distribution.rvs(size=50_000, random_state=2)
    fit = fitted(sample)
    assert fit["best"].sel(outcome="both") == best
    both = fit.sel(outcome="both", model=best)
    if best == "half_normal":
        np.testing.assert_allclose(both["scale"], np.sqrt(np.mean(sample**2)), rtol=1e-3)
    if best == "exponential":
        np.testing.assert_allclose(both["scale"], np.abs(sample).mean(), rtol=1e-3)
    np.testing.assert_allclose(both["shape"], shape, rtol=0.02)


SCIPY_MODELS = {"weibull": stats.weibull_min, "half_normal": stats.halfnorm, "exponential": stats.expon}


def test_likelihood_is_that_of_the_bins_and_cannot_be_beaten():
    sample = stats.weibull_min.rvs(0.7, scale=2.0, size=3000, random_state=0)
    h = histogram(dataset(sample.reshape(3, -1).astype(np.float32)))
    fit = fit_tails(h).sel(outcome="both")
    n, left, right = (h[name].values for name in ("count", "left", "right"))
    n = n.sum(0)

    def likelihood(distribution, *args):
        body = distribution.cdf(right, *args) - distribution.cdf(left, *args)
        tail = distribution.sf(left, *args) - distribution.sf(right, *args)
        return float(n[n > 0] @ np.log(np.where(left < 1, body, tail)[n > 0]))

    for model, distribution in SCIPY_MODELS.items():
        row = fit.sel(model=model)
        shape = [float(row["shape"])] if model == "weibull" else []
        scale = float(row["scale"])
        found = likelihood(distribution, *shape, 0, scale)
        np.testing.assert_allclose(row["log_likelihood"], found, rtol=1e-9)
        np.testing.assert_allclose(row["aic"], 2 * (len(shape) + 1) - 2 * found, rtol=1e-9)
        for factor in (0.999, 1.001):
            assert likelihood(distribution, *shape, 0, factor * scale) < found
            if shape:
                assert likelihood(distribution, factor * shape[0], 0, scale) < found


@settings(deadline=None, max_examples=100)
@given(st.floats(-30, 30), st.floats(-3, 3), st.floats(-60, 60))
def test_bin_probabilities_are_stable_far_out(log_ratio, log_shape, log_scale):
    """Against 60 digits: any bin, tiny or far in the tail, has a probability with a finite logarithm."""
    mpmath = pytest.importorskip("mpmath")
    left, right = (np.array([x * math.exp(log_scale)]) for x in (math.exp(log_ratio), 1.25 * math.exp(log_ratio)))
    with mpmath.workdps(60):
        a, b = (mpmath.mpf(float(x[0])) / mpmath.exp(mpmath.mpf(log_scale)) for x in (left, right))
        k = mpmath.exp(mpmath.mpf(log_shape))
        weibull = -(a**k) + mpmath.log(-mpmath.expm1(a**k - b**k)) if a**k < 1e250 else None
        normal = mpmath.log(mpmath.erfc(a / mpmath.sqrt(2)) - mpmath.erfc(b / mpmath.sqrt(2))) if a < 1e4 else None
        if a**k < 1e-40:
            weibull = mpmath.log(b**k - a**k)
        if a < 1e-30:
            normal = mpmath.log((b - a) * mpmath.sqrt(2 / mpmath.pi))
    got = tails._weibull(left, right, log_scale, log_shape)
    if weibull is not None:
        np.testing.assert_allclose(got, float(weibull), rtol=1e-9)
    assert np.isfinite(got)
    if normal is not None:
        np.testing.assert_allclose(tails._half_normal(left, right, log_scale), float(normal), rtol=1e-9)


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(any_chunks())
def test_fits_are_lazy_and_go_group_by_group(chunks):
    ds = tiny_trajectory(8)
    with nothing_computed():
        lazy = fit_tails(histogram(rechunked(ds, chunks), "layer"))
    assert is_lazy(lazy["shape"]) == is_lazy(lazy["best"]) == (chunks is not None)
    assert lazy["shape"].dims == ("outcome", "model", "layer")
    assert lazy["best"].dims == lazy["n"].dims == ("outcome", "layer")
    alone = fit_tails(histogram(ds.lk.sel(layer="fc")))
    got = lazy.sel(layer="fc").compute()
    for name in ("shape", "scale", "log_likelihood", "aic"):
        np.testing.assert_allclose(got[name], alone[name], rtol=1e-6)
    assert got["best"].values.tolist() == alone["best"].values.tolist()


def test_fits_of_runs_and_of_trimmed_histograms():
    runs = two_runs(tiny_trajectory(8), tiny_trajectory(8, seed=1)).chunk(run=1, iteration=3)
    fit = fit_tails(histogram(runs))
    assert fit["scale"].dims == ("run", "outcome", "model")
    alone = fit_tails(trim(histogram(tiny_trajectory(8, seed=1))))
    np.testing.assert_allclose(fit["scale"].sel(run="y"), alone["scale"], rtol=1e-6)


def test_too_few_bins_have_no_fit():
    fit = fit_tails(histogram(dataset(np.array([[1.0, 2.0, 0.0, -1.0]], np.float32))))
    assert fit["best"].values.tolist() == ["none"] * 3
    assert np.isnan(fit["scale"]).all()
    assert fit["n"].values.tolist() == [1, 2, 3]
    three = fit_tails(histogram(dataset(np.array([[1.0, 2.0, 4.0]], np.float32))))
    assert three["best"].sel(outcome="hurting") != "none"
    empty = fit_tails(trim(histogram(dataset(np.zeros((2, 2), np.float32)))))
    assert empty["best"].values.tolist() == ["none"] * 3


@pytest.mark.parametrize("bad", [xr.Dataset(), tiny_trajectory(2), tiny_trajectory(2)["lca"]])
@pytest.mark.parametrize("study", [fit_tails, trim])
def test_what_is_no_histogram_is_refused(study, bad):
    with pytest.raises(ValueError, match=r"tails\.histogram\(ds\)"):
        study(bad)


# ---- share of the tail ----------------------------------------------------------------------------------------------


def slow_share(row: np.ndarray, sigmas: float) -> list[float]:
    row = row.astype(np.float64)
    sigma = math.sqrt(math.fsum((row - row.mean()) ** 2) / row.size)
    out = []
    for part in ([abs(x) for x in row], [-x for x in row if x < 0], [x for x in row if x > 0]):
        inside = [x for x in part if x > sigmas * sigma]
        out.append(math.fsum(inside) / math.fsum(part) if math.fsum(part) else math.nan)
    return out


@given(any_chunks(), st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0]), st.sampled_from([1e-30, 1.0]))
def test_tail_share_against_a_loop(chunks, sigmas, scale):
    ds = tiny_trajectory(6)
    ds["lca"][1] = 0
    ds["lca"][2] = np.abs(ds["lca"][2])
    ds = ds.assign(lca=ds["lca"] * np.float32(scale))
    expected = [slow_share(row, sigmas) for row in ds["lca"].values]
    with nothing_computed():
        got = tail_share(rechunked(ds, chunks), sigmas)
    assert is_lazy(got) == (chunks is not None)
    assert got.dims == ("iteration", "part")
    assert got["part"].values.tolist() == ["all", "helping", "hurting"]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert np.isnan(got[1]).all()
    assert np.isnan(got[2, 1])


def test_tail_share_of_a_gaussian_and_of_runs():
    values = np.random.default_rng(0).normal(size=(20, 50_000)).astype(np.float32)
    for sigmas in (1.0, 2.0, 3.0):
        got = tail_share(dataset(values), sigmas)
        np.testing.assert_allclose(got["gaussian"], math.exp(-(sigmas**2) / 2))
        np.testing.assert_allclose(got.mean("iteration"), [float(got["gaussian"])] * 3, atol=2e-3)
    runs = two_runs(tiny_trajectory(4), tiny_trajectory(4, seed=1)).chunk(run=1, parameter=7)
    both = tail_share(runs, 1.0)
    assert both.dims == ("run", "iteration", "part")
    np.testing.assert_array_equal(both.sel(run="y"), tail_share(tiny_trajectory(4, seed=1), 1.0))


def test_the_limit_itself_is_not_beyond_it():
    ds = dataset(np.array([[1, -1, 1, -1]], np.float32))
    assert tail_share(ds, 1.0).values.tolist() == [[0, 0, 0]]
    assert tail_share(ds, 0.999).values.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_has_no_share(bad):
    values = np.random.default_rng(0).normal(size=(2, 9)).astype(np.float32)
    values[1, 3] = bad
    got = tail_share(dataset(values), 1.0)
    assert np.isfinite(got[0]).all()
    assert np.isnan(got[1]).all()


@pytest.mark.parametrize("sigmas", [-1, np.nan, np.inf])
def test_sigmas_are_a_finite_number(sigmas):
    with pytest.raises(ValueError, match="sigmas must be a finite number"):
        tail_share(tiny_trajectory(2), sigmas)


# ---- all of them ----------------------------------------------------------------------------------------------------

STUDIES = [histogram, excess_kurtosis, tail_share]


@pytest.mark.parametrize("study", STUDIES)
def test_what_is_missing_is_named(study):
    ds = tiny_trajectory(3)
    with pytest.raises(lk.TrajectoryError, match='keep=\\("lca"'):
        study(ds.drop_vars("lca"))
    with pytest.raises(lk.TrajectoryError, match="'iteration' and 'parameter'"):
        study(ds, lca="theta")
    with pytest.raises(lk.TrajectoryError, match="'iteration' and 'parameter'"):
        study(ds, lca="residual")
    with pytest.raises(ValueError, match="unknown variable"):
        study(ds, lca="lcaa")


@pytest.mark.parametrize("study", STUDIES[:2])
def test_groupings_are_checked(study):
    with pytest.raises(ValueError, match="kernel_layer"):
        study(tiny_trajectory(3), by="kernel_layers")
    with pytest.raises(ValueError, match="grouping of units"):
        study(tiny_trajectory(3), by="tensor", lca="lca_unit_class")
    with pytest.raises(lk.TrajectoryError, match="lost its table"):
        study(tiny_trajectory(3)[["lca"]], by="layer")


@pytest.mark.parametrize("study", STUDIES)
def test_another_objective_and_attributes(study):
    ds = tiny_trajectory(4)
    got = study(ds.assign(lca_val=(2 * ds["lca"]).assign_attrs(ds["lca"].attrs)), lca="lca_val")
    once = study(ds)
    variables = got.data_vars.values() if isinstance(got, xr.Dataset) else [got]
    for variable in variables:
        assert variable.attrs["long_name"]
        assert variable.attrs["units"] == "1"
    if study is histogram:
        assert as_counts(got) == {(o, 2 * left): n for (o, left), n in as_counts(once).items()}
        assert got["left"].attrs["units"] == got["right"].attrs["units"] == "nats"
        assert fit_tails(got)["scale"].attrs["units"] == "nats"
    else:
        xr.testing.assert_allclose(got, once)
