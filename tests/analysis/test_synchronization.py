from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import lcakit as lk
from lcakit.analysis.peaks import peak_iterations
from lcakit.analysis.synchronization import _draw_shifts, synchronization_test, synchronized
from lcakit.testing import LAYERS, chunked, tiny_trajectory
from lcakit.trajectory.labels import Labels, TensorSpec, group_ids
from lcakit.trajectory.schema import build_dataset
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs

GROUPINGS = ["kernel_layer", "layer", "tensor", "unit"]


def slow_peaks(strength: list[float], k: int) -> list[int]:
    """The k strongest local maxima above zero, one step at a time; a plateau is its first place."""
    found = []
    for t in range(1, len(strength) - 1):
        after = next((x for x in strength[t + 1 :] if x != strength[t]), math.inf)
        if strength[t] > 0 and strength[t - 1] < strength[t] > after:
            found.append(t)
    return sorted(found, key=lambda t: (-strength[t], t))[:k]


def slow_count(peaks: np.ndarray, need: int) -> int:
    """Moments of (layer, rank) that at least ``need`` layers have."""
    times = Counter(t for layer in peaks for t in set(layer[~np.isnan(layer)]))
    return sum(n >= need for n in times.values())


def padded(places: list[int], k: int) -> list[float]:
    return [*map(float, places), *[np.nan] * (k - len(places))]


def whole_numbers(iterations: int, seed: int) -> xr.Dataset:
    """A trajectory of small whole numbers: sums are exact in any order, ties and plateaus are common."""
    ds = tiny_trajectory(iterations, class_parameters=True)
    rng = np.random.default_rng(seed)
    for name in ("theta", "gradient"):
        ds[name].values[:] = rng.integers(-1, 2, ds[name].shape)
    ds["lca_class"].values[:] = rng.integers(-1, 2, ds["lca_class"].shape)
    ds["lca"].values[:] = ds["lca_class"].sum("class")
    for unit in ds["unit"].values:
        members = ds["lca_class"].values[:, :, ds["unit_index"].values == unit]
        ds["lca_unit_class"].values[:, unit] = members.sum(-1)
    return ds


def one_series(values: list[float]) -> xr.Dataset:
    steps = {"iteration": (("iteration",), np.arange(len(values)))}
    coords = Labels((TensorSpec("w", (1,), "bias", "w"),)).coords() | steps
    return build_dataset(coords, {"lca": np.array(values)[:, None]})


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([0, -1, 0], [1]),
        ([-1, 0, -1], []),  # ends have one neighbour
        ([0, -2, -2, 0], [1]),  # a plateau is one peak, at its first iteration
        ([0, -1, -1], []),  # one that lasts to the end is none
        ([0, -1, -1, -2, 0], [3]),
        ([2, 1, 2], []),  # hurts less than its neighbours, but hurts
        ([0, 0, 0], []),
        ([0, -1, 0, -1, 0, -3, 0], [5, 1, 3]),  # strongest first, then the earlier
        ([0, -1, np.nan, -5, 0], []),  # a gap is no neighbour
        ([0, -1], []),
        ([-1], []),
    ],
)
def test_what_is_a_peak(series, expected):
    n = len(series)
    got = peak_iterations(one_series(series), k=n)
    assert got.dims == ("layer", "rank")
    np.testing.assert_array_equal(got[0], padded(expected, n))
    np.testing.assert_array_equal(got["value"][0], [*[series[t] for t in expected], *[np.nan] * (n - len(expected))])


@given(any_chunks(), st.integers(1, 40), st.integers(0, 9), st.data())
def test_peaks_of_lca_against_a_loop(chunks, iterations, seed, data):
    k = data.draw(st.integers(1, iterations))
    by, classes = data.draw(st.sampled_from(GROUPINGS)), data.draw(st.booleans())
    ds = rechunked(whole_numbers(iterations, seed), chunks)
    drop = "lca_unit_class" if by == "tensor" else data.draw(st.sampled_from(["lca_unit_class", "lca_class"]))
    with nothing_computed():
        got = peak_iterations(ds.drop_vars(drop), k, by=by, classes=classes)
    assert is_lazy(got) == (chunks is not None)
    dim = "layer" if by == "kernel_layer" else by
    assert got.dims == ((dim, "class", "rank") if classes else (dim, "rank"))
    got = got.compute()
    values = ds["lca_class"].values.astype(float)
    values = values if classes else values.sum(1, keepdims=True)
    ids, names = group_ids(ds, by)
    assert got[dim].values.tolist() == names.values.tolist()
    for group in range(names.size):
        for c in range(values.shape[1]):
            series = values[:, c, ids == group].sum(-1)
            part = got.isel({dim: group, "class": c} if classes else {dim: group})
            expected = slow_peaks((-series).tolist(), k)
            np.testing.assert_array_equal(part, padded(expected, k))
            np.testing.assert_array_equal(part["value"][: len(expected)], series[expected])
            assert np.isnan(part["value"][len(expected) :]).all()


@pytest.mark.slow
@given(any_chunks(), st.integers(1, 40), st.integers(0, 9), st.sampled_from(GROUPINGS))
def test_peaks_of_norms_against_a_loop(chunks, iterations, seed, by):
    ds = rechunked(whole_numbers(iterations, seed), chunks)
    with nothing_computed():
        gradient, movement = (peak_iterations(ds, iterations, of, by) for of in ("gradient", "movement"))
    assert is_lazy(gradient) == is_lazy(movement) == (chunks is not None)
    dim = "layer" if by == "kernel_layer" else by
    ids, names = group_ids(ds, by)
    steps = np.diff(ds["theta"].values.astype(float), axis=0)
    for got, values in ((gradient, ds["gradient"].values[:-1]), (movement, steps)):
        assert got.dims == (dim, "rank")
        got = got.compute()
        for group in range(names.size):
            norms = np.sqrt((values[:, ids == group].astype(float) ** 2).sum(-1))
            expected = slow_peaks(norms.tolist(), iterations)
            np.testing.assert_array_equal(got[group], padded(expected, iterations))
            np.testing.assert_allclose(got["value"][group, : len(expected)], norms[expected], rtol=1e-15)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, (5, 1, 6, 1), (12, 1)])
def test_movement_across_blocks_of_any_length(rows):
    ds = whole_numbers(12, 0)
    whole = peak_iterations(ds, 12, "movement")
    assert whole.notnull().any()
    xr.testing.assert_identical(peak_iterations(ds.chunk(snapshot=rows), 12, "movement").compute(), whole)


@pytest.mark.parametrize("chunks", [None, {"snapshot": 5, "parameter": 9}])
def test_movement_is_the_difference_in_float64(chunks):
    ds = tiny_trajectory(30)
    got = peak_iterations(rechunked(ds, chunks), 5, "movement").sel(layer="fc")
    norms = np.sqrt((np.diff(ds["theta"].values[:, 33:].astype(float), axis=0) ** 2).sum(-1))
    expected = slow_peaks(norms.tolist(), 5)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_allclose(got["value"], norms[expected], rtol=1e-14)


def test_iterations_are_told_by_their_labels():
    ds = whole_numbers(30, 0)
    late = ds.assign_coords(iteration=ds["iteration"] * 10 + 5, snapshot=ds["snapshot"] * 10 + 5)
    for of in ("lca", "gradient", "movement"):
        once = peak_iterations(ds, 5, of)
        assert once.notnull().any()
        np.testing.assert_array_equal(peak_iterations(late, 5, of), once * 10 + 5)


def test_a_file_without_classes_has_peaks_without_classes():
    ds = whole_numbers(20, 0)
    bare = ds.drop_vars(["lca_unit_class", "lca_class"])
    assert peak_iterations(bare).dims == ("layer", "rank")
    xr.testing.assert_identical(peak_iterations(bare), peak_iterations(ds, classes=False))


def test_another_objective():
    ds = whole_numbers(20, 0)
    other = whole_numbers(20, 1)
    ds = ds.assign({f"{name}_val": other[name] for name in ("lca", "lca_unit_class", "gradient")})
    for of in ("lca", "gradient"):
        np.testing.assert_array_equal(peak_iterations(ds, 9, of, lca="lca_val"), peak_iterations(other, 9, of))
    np.testing.assert_array_equal(peak_iterations(ds, 9, "movement", lca="lca_val"), peak_iterations(ds, 9, "movement"))


@given(st.data(), st.integers(2, 7), st.integers(1, 6), st.floats(0.01, 1), st.booleans())
def test_synchronized_against_sets(data, n_layers, k, fraction, lazy):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = rng.permuted(np.tile(np.arange(9.0), (2, n_layers, 3, 1)), axis=-1)[..., :k]  # (run, layer, class, rank)
    values[rng.random(values.shape) < 0.2] = np.nan
    peaks = xr.DataArray(values, dims=("run", "layer", "class", "rank"))
    if lazy:
        peaks = peaks.chunk(dict(zip(peaks.dims, data.draw(st.tuples(*[st.integers(1, 7)] * 4)), strict=True)))
    with nothing_computed():
        got = synchronized(peaks, fraction)
    assert is_lazy(got["synchronized"]) == is_lazy(got["count"]) == lazy
    assert got["synchronized"].dims == peaks.dims
    assert got["count"].dims == ("run", "class")
    needed = max(2, min(n for n in range(1, n_layers + 1) if n / n_layers >= fraction * (1 - 1e-12)))
    got = got.load()
    for run in range(2):
        for c in range(3):
            table = values[run, :, c]
            assert got["count"].values[run, c] == slow_count(table, needed)
            for layer in range(n_layers):
                for rank in range(k):
                    shared = sum(table[layer, rank] in other for other in table.tolist())
                    assert got["synchronized"].values[run, layer, c, rank] == (shared >= needed)


def test_a_share_of_layers_is_not_lost_to_rounding():
    peaks = xr.DataArray(np.r_[np.zeros(7), np.arange(1, 19)][:, None], dims=("layer", "rank"))
    assert 0.28 * 25 > 7
    assert synchronized(peaks, 0.28)["count"] == 1
    assert synchronized(peaks, 0.29)["count"] == 0


def spikes(places: list[list[int]], iterations: int) -> xr.Dataset:
    """Layers that learn at the given iterations only."""
    specs = tuple(TensorSpec(f"{n}.weight", (1, 1), "kernel", str(n)) for n in range(len(places)))
    lca = np.zeros((iterations, len(places)))
    for layer, when in enumerate(places):
        lca[when, layer] = -1
    steps = {"iteration": (("iteration",), np.arange(iterations))}
    return build_dataset(Labels(specs).coords() | steps, {"lca": lca})


def test_layers_in_step_and_far_apart_peaks():
    when = [10, 20, 30, 40]
    test = synchronization_test(spikes([when, when, when], 50), max_shift=2, trials=99, k=4)
    assert test["observed"] == test["observed_mean"] == 4
    assert (test["baseline"] == 0).all()  # peaks 10 apart never meet again
    assert test["p"] == 1 / 100


def test_layers_that_share_nothing():
    test = synchronization_test(spikes([[5], [30]], 50), trials=50, k=1)
    assert test["observed"] == 0
    assert test["p"] == 1


def test_shifted_layers_meet_and_fall_off_the_run():
    """Peaks at 3 and 4 meet where the first is shifted by one more; at 1 and 2 as well, but not below 0."""
    middle, edge = spikes([[3], [4]], 8), spikes([[1], [2]], 8)
    shifts = _draw_shifts(np.random.default_rng(0), 400, 2, 2)
    one_more = shifts[:, 0] - shifts[:, 1] == 1
    inside = one_more & (2 + shifts[:, 1] >= 0)
    for ds, expected in ((middle, one_more), (edge, inside)):
        test = synchronization_test(ds, trials=400, k=1)
        np.testing.assert_array_equal(test["baseline"], expected)
        assert test["baseline_mean"] == pytest.approx(expected.mean())
    leaves = synchronization_test(edge, max_shift=5, trials=400, k=1)["baseline"]
    wide = _draw_shifts(np.random.default_rng(0), 400, 2, 5)
    expected = (wide[:, 0] - wide[:, 1] == 1) & (wide[:, 1] >= -2)
    assert expected.sum() < (wide[:, 0] - wide[:, 1] == 1).sum()
    np.testing.assert_array_equal(leaves, expected)


@pytest.mark.slow
@given(any_chunks(), st.integers(0, 9), st.integers(1, 3), st.sampled_from([0.3, 0.5, 1.0]), st.booleans())
def test_the_test_against_a_loop(chunks, seed, max_shift, fraction, classes):
    ds = rechunked(whole_numbers(25, seed), chunks)
    options = {"max_shift": max_shift, "trials": 20, "seed": seed, "k": 8, "min_fraction": fraction, "by": "layer"}
    with nothing_computed():
        got = synchronization_test(ds, classes=classes, **options)
    assert all(is_lazy(got[name]) == (chunks is not None) for name in got)
    got = got.load()
    peaks = peak_iterations(ds, 8, by="layer", classes=classes)
    peaks = (peaks if classes else peaks.expand_dims("class")).transpose("class", "layer", "rank").values
    needed = 3 if fraction == 1 else 2
    observed = [slow_count(table, needed) for table in peaks]
    assert got["observed"].values.reshape(-1).tolist() == observed
    assert got["observed_mean"] == np.mean(observed)
    baseline = []
    for shift in _draw_shifts(np.random.default_rng(seed), 20, 3, max_shift):
        moved = peaks + shift[:, None]
        moved[(moved < 0) | (moved >= 25)] = np.nan
        baseline.append(np.mean([slow_count(table, needed) for table in moved]))
    np.testing.assert_array_equal(got["baseline"], baseline)
    assert got["baseline_mean"].values == pytest.approx(np.mean(baseline))
    assert got["p"].values == pytest.approx((1 + sum(b >= np.mean(observed) for b in baseline)) / 21)


def test_norms_and_labels_far_apart_are_shifted_by_recorded_iterations():
    ds = whole_numbers(40, 0)
    late = ds.assign_coords(iteration=ds["iteration"] * 10 + 5, snapshot=ds["snapshot"] * 10 + 5)
    for of in ("lca", "gradient", "movement"):
        test = synchronization_test(ds, of=of, trials=30)
        assert test["baseline"].max() > 0
        xr.testing.assert_identical(synchronization_test(late, of=of, trials=30), test)


def test_the_seed_decides():
    ds = whole_numbers(40, 0)
    first, again, other = (synchronization_test(ds, trials=50, seed=seed)["baseline"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_runs_are_tested_one_by_one():
    runs = [whole_numbers(30, seed) for seed in (0, 1)]
    both = chunked(two_runs(*runs), {"iteration": 7, "snapshot": 7, "run": 1})
    with nothing_computed():
        peaks, test = peak_iterations(both), synchronization_test(both, trials=20)
    assert peaks.dims == ("run", "layer", "class", "rank")
    assert peak_iterations(both, of="movement").dims == ("run", "layer", "rank")
    assert test["p"].dims == ("run",)
    for n, run in enumerate(runs):
        np.testing.assert_array_equal(peaks[n], peak_iterations(run))
        alone = synchronization_test(run, trials=20)
        for name in alone:
            np.testing.assert_allclose(test[name].isel(run=n), alone[name])


@pytest.mark.parametrize(("n_layers", "max_shift"), [(2, 1), (3, 1), (2, 2)])
def test_shifts_are_uniform_over_those_that_change_something(n_layers, max_shift):
    shifts = _draw_shifts(np.random.default_rng(0), 20_000, n_layers, max_shift)
    counts = Counter(map(tuple, shifts.tolist()))
    width = 2 * max_shift + 1
    assert len(counts) == width**n_layers - width
    assert all(len(set(shift)) > 1 and max(map(abs, shift)) <= max_shift for shift in counts)
    expected = 20_000 / len(counts)
    assert all(abs(n - expected) < 5 * math.sqrt(expected) for n in counts.values())


def test_errors():
    ds = tiny_trajectory(6)
    for k in (0, 7, 2.5):
        with pytest.raises(ValueError, match="k must be a whole number, got 2.5" if k == 2.5 else "k must be 1 to 6"):
            peak_iterations(ds, k)
    for study in (peak_iterations, synchronization_test):
        with pytest.raises(ValueError, match="got k=20; pass fewer peaks, such as k=1"):
            study(ds)
    with pytest.raises(ValueError, match="movement"):
        peak_iterations(ds, 2, of="movements")
    with pytest.raises(ValueError, match="kernel_layer"):
        peak_iterations(ds, 2, by="class")
    with pytest.raises(lk.TrajectoryError, match='keep=\\("gradient"'):
        peak_iterations(ds.drop_vars("gradient"), 2, of="gradient")
    with pytest.raises(lk.TrajectoryError, match='keep=\\("theta"'):
        peak_iterations(ds.drop_vars("theta"), 2, of="movement")
    peaks = peak_iterations(ds, 2)
    for fraction in (0, 1.5, np.nan):
        with pytest.raises(ValueError, match="min_fraction"):
            synchronized(peaks, fraction)
    for wrong in (peaks.isel(rank=0), peaks.isel(layer=0), peaks.expand_dims("seed")):
        with pytest.raises(ValueError, match="peak_iterations"):
            synchronized(wrong)
    with pytest.raises(ValueError, match=r"must be a DataArray, got a Dataset.*peak_iterations\(ds\)") as caught:
        synchronized(ds)
    assert "Frozen" not in str(caught.value)
    for option in ({"max_shift": 0}, {"trials": 0}, {"max_shift": 1.5}):
        with pytest.raises(ValueError, match=next(iter(option))):
            synchronization_test(ds, k=2, **option)
    alone = tiny_trajectory(6, layers=LAYERS[-2:])
    with pytest.raises(ValueError, match=r'two layers or more.*got 1.*by="unit"'):
        synchronization_test(alone, k=2)
    assert synchronization_test(alone, k=2, by="unit", trials=3)["baseline"].size == 3
