from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lcakit.analysis import histograms
from lcakit.analysis.tails import fit_tails, histogram, trim
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import GROUPINGS, group_ids
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs
from tests.support.tail_data import SIZES, VALUES, as_counts, chunked, dataset


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


@given(VALUES, SIZES, st.sampled_from([1, 2, 4, 32, 128]), st.sampled_from([3, 1 << 17]))
def test_histogram_against_a_loop(values, sizes, per_octave, slab):
    ds = chunked(values, sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histograms, "SLAB", slab)
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


@pytest.mark.slow
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


@pytest.mark.slow
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
