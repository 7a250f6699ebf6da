"""Synchronization as the paper defines it: shifts in each class, two tiers, peaks of the effective gradient."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import lcakit as lk
from lcakit.analysis.peaks import peak_iterations
from lcakit.analysis.synchronization import _shifts, synchronization_test, synchronized, tiers
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import group_ids
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked

from .test_synchronization import padded, slow_count, slow_peaks, whole_numbers


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(any_chunks(), st.integers(0, 9), st.integers(1, 3))
def test_layers_shifted_in_each_class_against_a_loop(chunks, seed, max_shift):
    ds = rechunked(whole_numbers(25, seed), chunks)
    options = {"max_shift": max_shift, "trials": 20, "seed": seed, "k": 8, "by": "layer", "shift": "layer_and_class"}
    with nothing_computed():
        got = synchronization_test(ds, **options)
    assert is_lazy(got["p"]) == (chunks is not None)
    peaks = peak_iterations(ds, 8, by="layer").transpose("class", "layer", "rank").values
    baseline = []
    for shift in _shifts("layer_and_class", seed, (20, 3, 3), max_shift):
        moved = peaks.copy()
        for c in range(3):
            for layer in range(3):
                moved[c, layer] += shift[c, layer]
        moved[(moved < 0) | (moved >= 25)] = np.nan
        baseline.append(np.mean([slow_count(table, 3) for table in moved]))
    np.testing.assert_array_equal(got["baseline"], baseline)
    by_layer = synchronization_test(ds, **options | {"shift": "layer"})
    xr.testing.assert_identical(got["observed"], by_layer["observed"])


def test_each_layer_in_each_class_has_a_shift_of_its_own():
    shifts = _shifts("layer_and_class", 0, (20_000, 2, 2), 2)
    assert set(np.unique(shifts)) == {-2, -1, 0, 1, 2}
    flat = shifts.reshape(len(shifts), -1).astype(float)
    assert np.abs(np.corrcoef(flat.T) - np.eye(4)).max() < 0.03
    alike = (shifts[:, 0, 0] == shifts[:, 0, 1]).mean()
    assert alike == pytest.approx(1 / 5, abs=0.02)  # draws that leave a class in step count


def test_an_unknown_way_to_shift_is_refused():
    with pytest.raises(ValueError, match="layer_and_class"):
        synchronization_test(tiny_trajectory(30), k=5, shift="class")


@given(st.integers(0, 99), st.booleans(), st.sampled_from([(0.25, 0.5), (0.5,), (0.2, 0.6, 1.0)]))
def test_tiers_against_sets(seed, lazy, fractions):
    rng = np.random.default_rng(seed)
    n_layers, k = int(rng.integers(2, 9)), 4
    places = np.stack([rng.choice(12, k, replace=False) for _ in range(2 * n_layers)]).astype(float)
    peaks = xr.DataArray(places.reshape(2, n_layers, k), dims=("class", "layer", "rank"))
    got = tiers(peaks.chunk({"layer": 1}) if lazy else peaks, fractions)
    assert is_lazy(got["count"]) == lazy
    least = [max(2, int(np.ceil(f * n_layers - 1e-9))) for f in fractions]
    for c in range(2):
        layers_at = {t: sum(t in row for row in peaks.values[c]) for t in np.unique(peaks.values[c])}
        tier_of = {t: sum(n >= need for need in least) for t, n in layers_at.items()}
        expected = np.vectorize(tier_of.get)(peaks.values[c])
        np.testing.assert_array_equal(got["in_tier"][c], expected)
        counts = [sum(tier == n for tier in tier_of.values()) for n in range(1, len(fractions) + 1)]
        np.testing.assert_array_equal(got["count"][c], counts)
    assert got["tier"].values.tolist() == list(fractions)
    np.testing.assert_array_equal(got["count"].sum("tier"), synchronized(peaks, fractions[0])["count"])


@pytest.mark.parametrize("fractions", [(), (0.5, 0.25), (0.5, 0.5), (0.0, 0.5), (0.5, 1.5)])
def test_tiers_that_cannot_be_are_refused(fractions):
    with pytest.raises(ValueError, match=r"ascend|min_fraction"):
        tiers(peak_iterations(tiny_trajectory(30), 5), fractions)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(any_chunks(), st.integers(1, 30), st.integers(0, 9), st.booleans())
def test_peaks_of_the_effective_gradient_against_a_loop(chunks, iterations, seed, classes):
    ds = rechunked(whole_numbers(iterations, seed), chunks)
    with nothing_computed():
        got = peak_iterations(ds, iterations, "effective_gradient", classes=classes)
    assert is_lazy(got) == (chunks is not None)
    assert got.dims == (("layer", "class", "rank") if classes else ("layer", "rank"))
    ids, _ = group_ids(ds, "kernel_layer")
    lca = ds["lca_class"].values.astype(float) if classes else ds["lca"].values[:, None].astype(float)
    moved = np.diff(ds["theta"].values.astype(float), axis=0)[:, None]
    slope = np.divide(lca, moved, out=np.zeros_like(lca), where=moved != 0)
    for layer in range(got.sizes["layer"]):
        for c in range(lca.shape[1]):
            norms = np.sqrt((slope[:, c, ids == layer] ** 2).sum(-1))
            expected = slow_peaks(norms.tolist(), iterations)
            part = got.isel({"layer": layer} | ({"class": c} if classes else {}))
            np.testing.assert_array_equal(part, padded(expected, iterations))


def test_the_effective_gradient_of_a_quadratic_is_its_gradient_halfway():
    ds = tiny_trajectory(12)
    found = peak_iterations(ds, 2, "effective_gradient", classes=False)
    halfway = (ds["gradient"].values[1:] + ds["gradient"].values[:-1]).astype(float) / 2
    moved = np.diff(ds["theta"].values.astype(float), axis=0)
    still = moved == 0
    ids, _ = group_ids(ds, "kernel_layer")
    norms = np.sqrt(np.where(still, 0, halfway)[:, ids == 0] ** 2 @ np.ones((ids == 0).sum()))
    for rank, t in enumerate(found[0].values):
        if not np.isnan(t):
            assert float(found["value"][0, rank]) == pytest.approx(norms[int(t)], rel=1e-3)


def test_the_effective_gradient_is_never_silently_without_classes():
    ds = tiny_trajectory(12)
    with pytest.raises(lk.TrajectoryError, match=r'lca_class.*Record with classes="parameter", or pass classes=False'):
        peak_iterations(ds, 2, "effective_gradient")
    assert peak_iterations(ds, 2, "effective_gradient", classes=False).dims == ("layer", "rank")
