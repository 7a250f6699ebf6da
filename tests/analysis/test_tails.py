from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

import lcakit as lk
from lcakit.analysis import histograms, tails
from lcakit.analysis.tails import excess_kurtosis, fit_tails, histogram, tail_share, trim
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import GROUPINGS, Labels, TensorSpec, group_ids
from lcakit.trajectory.schema import build_dataset
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 2.0, 1.4e-45, -1.4e-45, 2.0**-126, -(2.0**-127), 3.4028234663852886e38]
)
VALUES = hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 8)), elements=FLOATS)
SIZES = st.none() | st.tuples(st.integers(1, 12), st.integers(1, 8))


def dataset(values: np.ndarray) -> xr.Dataset:
    """A trajectory of one tensor with the given LCA (iteration, parameter)."""
    n, k = values.shape
    coords = Labels((TensorSpec("w", (k,), "bias", "w"),)).coords() | {"iteration": (("iteration",), np.arange(n))}
    return build_dataset(coords, {"lca": values})


def chunked(values: np.ndarray, sizes: tuple[int, int] | None) -> xr.Dataset:
    ds = dataset(values)
    return ds if sizes is None else ds.chunk(iteration=sizes[0], parameter=sizes[1])


def slow_counts(values: np.ndarray, per_octave: int) -> dict[tuple[str, float], int]:
    """Count by outcome and left edge of the bin, one value at a time."""
    out: dict[tuple[str, float], int] = {}
    for x in values.astype(np.float64).ravel().tolist():
        if x != 0:
            octave = 2.0 ** max(math.frexp(abs(x))[1] - 1, -126)
            step = math.floor(abs(x) / octave * per_octave)
            key = ("helping" if x < 0 else "hurting", octave * step / per_octave)
            out[key] = out.get(key, 0) + 1
    return out


def as_counts(h: xr.Dataset) -> dict[tuple[str, float], int]:
    count = h["count"].values
    return {
        (str(h["outcome"].values[o]), float(h["left"].values[b])): int(count[o, b]) for o, b in np.argwhere(count > 0)
    }


# ---- histogram ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(VALUES, SIZES, st.sampled_from([1, 2, 4, 32, 128]), st.sampled_from([3, 1 << 17]))
def test_histogram_against_a_loop(values, sizes, per_octave, slab):
    ds = chunked(values, sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histograms, "_SLAB", slab)
        with nothing_computed():
            h = histogram(ds, bins_per_octave=per_octave)
        assert is_lazy(h["count"]) == is_lazy(h["zero"]) == is_lazy(h["not_finite"]) == (sizes is not None)
        h = h.compute()
    assert as_counts(h) == slow_counts(values, per_octave)
    assert h["count"].dims == ("outcome", "bin")
    assert h["count"].shape == (2, 255 * per_octave)
    assert h["count"].dtype == h["zero"].dtype == h["not_finite"].dtype == np.int64
    assert int(h["zero"]) == sum(x == 0 for x in values.ravel())
    assert int(h["not_finite"]) == 0
    assert int(h["count"].sum() + h["zero"]) == values.size
    assert h.attrs["bins_per_octave"] == per_octave


@pytest.mark.parametrize("per_octave", [1, 4, 128])
def test_bins_join_and_cover_all_of_float32(per_octave):
    h = histogram(tiny_trajectory(2), bins_per_octave=per_octave)
    left, right = h["left"].values, h["right"].values
    assert left[0] == 0
    assert right[-1] == 2.0**128 > float(np.finfo(np.float32).max)
    np.testing.assert_array_equal(left[1:], right[:-1])
    for edge in (1.0, 2.0**-126, 2.0**127):
        assert edge in left
    one = np.searchsorted(left, 1.0)
    np.testing.assert_array_equal(left[one : one + per_octave + 1], 1 + np.arange(per_octave + 1) / per_octave)


def test_edges_belong_to_the_bin_they_begin():
    h = histogram(dataset(np.array([[1.0, 1.2499999, 1.25, -2.0, -1.9999999]], np.float32)))
    assert as_counts(h) == {
        ("hurting", 1.0): 2,
        ("hurting", 1.25): 1,
        ("helping", 2.0): 1,
        ("helping", 1.75): 1,
    }


@pytest.mark.parametrize("sizes", [None, (1, 2)])
def test_what_is_not_finite_is_in_no_bin(sizes):
    values = np.array([[np.nan, 1.0, np.inf], [-np.inf, 0.0, -np.nan]], np.float32)
    ds = chunked(values, sizes)
    h = histogram(ds).compute()
    assert int(h["not_finite"]) == 4
    assert int(h["zero"]) == 1
    assert as_counts(h) == {("hurting", 1.0): 1}
    fit = fit_tails(histogram(ds)) if sizes else None  # lazily all is well
    with pytest.raises(ValueError, match="4 values that are NaN or infinite"):
        fit_tails(h) if fit is None else fit.compute()


def test_float64_is_rounded_to_float32_first():
    ds = dataset(np.zeros((1, 4), np.float32))
    ds = ds.assign(lca=(("iteration", "parameter"), np.array([[1.9999999999, 1e-300, -1e300, 3.0]])))
    h = histogram(ds, bins_per_octave=1)
    assert as_counts(h) == {("hurting", 2.0): 2}
    assert (int(h["zero"]), int(h["not_finite"])) == (1, 1)


def test_any_byte_order_and_memory_order_counts_alike():
    values = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    expected = as_counts(histogram(dataset(values)))
    for same in (values.astype(">f4"), values.astype("<f4"), np.asfortranarray(values)):
        ds = dataset(values).assign(lca=(("iteration", "parameter"), same))
        assert as_counts(histogram(ds)) == expected
    turned = dataset(values).transpose("parameter", "iteration", ...)
    assert as_counts(histogram(turned)) == expected


@settings(deadline=None, max_examples=20)
@given(any_chunks(), st.sampled_from(GROUPINGS))
def test_histogram_by_group(chunks, by):
    ds = tiny_trajectory(7)
    ids, names = group_ids(ds, by)
    with nothing_computed():
        h = histogram(rechunked(ds, chunks), by)
    assert h["count"].dims == ("outcome", "bin", by)
    assert h["zero"].dims == h["not_finite"].dims == (by,)
    h = h.compute()
    assert h[by].values.tolist() == names.values.tolist()
    for g in range(names.size):
        part = ds["lca"].values[:, ids == g]
        assert as_counts(h.isel({by: g})) == slow_counts(part, 4)
        assert int(h["zero"][g]) == (part == 0).sum()


@settings(deadline=None, max_examples=6)
@given(any_chunks())
def test_histogram_of_runs_classes_and_units(chunks):
    runs = [tiny_trajectory(5, seed=seed, class_parameters=True) for seed in (0, 1)]
    ds = rechunked(two_runs(*runs), chunks)
    with nothing_computed():
        whole, by_class, by_unit = (
            histogram(ds, "layer"),
            histogram(ds, lca="lca_class"),
            histogram(ds, "layer", "lca_unit_class"),
        )
    assert whole["count"].dims == ("run", "outcome", "bin", "layer")
    assert by_class["count"].dims == ("run", "class", "outcome", "bin")
    assert by_unit["count"].dims == ("run", "class", "outcome", "bin", "layer")
    for r, run in enumerate(runs):
        parts = {"conv1": slice(0, 27), "norm1": slice(27, 33), "fc": slice(33, 61)}
        for layer, part in parts.items():
            assert as_counts(whole.isel(run=r).sel(layer=layer)) == slow_counts(run["lca"].values[:, part], 4)
        for c in range(3):
            got = as_counts(by_class.isel({"run": r, "class": c}))
            assert got == slow_counts(run["lca_class"].values[:, c], 4)
            units = run["lca_unit_class"].values[:, :3, c]
            assert as_counts(by_unit.isel({"run": r, "class": c, "layer": 0})) == slow_counts(units, 4)


@pytest.mark.parametrize("chunks", [None, 5])
def test_trim_cuts_both_ends_alike_for_all_groups(chunks):
    ds = tiny_trajectory(6, chunks=chunks)
    h = histogram(ds, "layer")
    cut = trim(h)
    assert not is_lazy(cut["count"])
    sums = cut["count"].sum(("outcome", "layer")).values
    assert sums[0] > 0
    assert sums[-1] > 0
    assert sums.sum() == h["count"].sum()
    nonzero = np.abs(ds["lca"].values[ds["lca"].values != 0])
    assert cut["left"][0] <= nonzero.min() < cut["right"][0]
    assert cut["left"][-1] <= nonzero.max() < cut["right"][-1]
    xr.testing.assert_identical(cut["zero"], h["zero"].compute())
    assert trim(histogram(ds.assign(lca=ds["lca"] * 0))).sizes["bin"] == 0


@pytest.mark.parametrize("bins", [0, 3, 256, 2.5, "4", -4])
def test_bins_are_a_power_of_two(bins):
    with pytest.raises(ValueError, match="1, 2, 4, 8, 16, 32, 64, 128; got"):
        histogram(tiny_trajectory(2), bins_per_octave=bins)


# ---- fits -----------------------------------------------------------------------------------------------------------


def fitted(sample: np.ndarray, per_octave: int = 64) -> xr.Dataset:
    return fit_tails(histogram(dataset(sample.reshape(10, -1).astype(np.float32)), bins_per_octave=per_octave))


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e-25, 1e20])
@pytest.mark.parametrize("k", [0.5, 1.0, 2.0])
def test_weibull_samples_are_recovered_and_agree_with_scipy(k, scale):
    size = 100_000
    sample = stats.weibull_min.rvs(k, scale=scale, size=size, random_state=0)
    signs = np.random.default_rng(1).choice([-1, 1], size)
    fit = fitted(sample * signs).sel(model="weibull")
    both = fit.sel(outcome="both")
    assert int(both["n"]) == size
    np.testing.assert_allclose(both["shape"], k, rtol=4 * 0.78 / math.sqrt(size))  # 4 standard errors
    np.testing.assert_allclose(both["scale"], scale, rtol=4 * 1.053 / k / math.sqrt(size))
    for outcome, part in (("both", sample), ("helping", sample[signs < 0]), ("hurting", sample[signs > 0])):
        shape, _, theirs = stats.weibull_min.fit(part / scale, floc=0)
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


# ---- kurtosis -------------------------------------------------------------------------------------------------------


def windows_of(n: int, window: int | str | None) -> list[slice]:
    size = {None: 1, "run": n}.get(window, window)
    return [slice(a, a + size) for a in range(0, n, size)]


@settings(deadline=None, max_examples=30)
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


# ---- share of the tail ----------------------------------------------------------------------------------------------


def slow_share(row: np.ndarray, sigmas: float) -> list[float]:
    row = row.astype(np.float64)
    sigma = math.sqrt(math.fsum((row - row.mean()) ** 2) / row.size)
    out = []
    for part in ([abs(x) for x in row], [-x for x in row if x < 0], [x for x in row if x > 0]):
        inside = [x for x in part if x > sigmas * sigma]
        out.append(math.fsum(inside) / math.fsum(part) if math.fsum(part) else math.nan)
    return out


@settings(deadline=None, max_examples=40)
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
    got = study(ds.assign(lca_val=2 * ds["lca"]), lca="lca_val")
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
