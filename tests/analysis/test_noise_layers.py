from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import lcakit as lk
from lcakit.analysis.kernels import groups
from lcakit.analysis.layerwise import layer_lca
from lcakit.analysis.noise import fraction_helping, help_hurt_zero
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import GROUPINGS, group_ids
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs


def slow_fraction_helping(lca: np.ndarray) -> float:
    rows = []
    for row in lca:
        helping, hurting = sum(x < 0 for x in row), sum(x > 0 for x in row)
        if helping + hurting:
            rows.append(helping / (helping + hurting))
    return float(np.mean(rows)) if rows else float("nan")


@given(any_chunks(), st.integers(0, 3), st.sampled_from([1, 2048]))
def test_help_hurt_zero_against_a_loop(chunks, seed, long_run):
    ds = rechunked(tiny_trajectory(5, seed=seed), chunks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "LONG_RUN", long_run)  # both ways of counting
        with nothing_computed():
            got = help_hurt_zero(ds)
        assert is_lazy(got) == (chunks is not None)
        got = got.compute()
        expected = [
            [np.mean([f(x) for x in row]) for f in (lambda x: x < 0, lambda x: x > 0, lambda x: x == 0)]
            for row in ds["lca"].values
        ]
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert got.dims == ("iteration", "outcome")
    assert got["outcome"].values.tolist() == ["helping", "hurting", "zero"]
    assert np.all(got.sel(outcome="zero") >= 12 / 61)


@given(any_chunks(), st.none() | st.sampled_from(GROUPINGS), st.sampled_from([1, 2048]))
def test_fraction_helping_against_a_loop(chunks, by, long_run):
    ds = tiny_trajectory(5)
    ds["lca"][2] = 0  # an iteration in which nothing moves does not count
    ds["lca"][:, 57:61] = 0  # nor does a tensor that never moves
    ds = rechunked(ds, chunks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "LONG_RUN", long_run)
        with nothing_computed():
            got = fraction_helping(ds, by)
        got = got.compute()
    if by is None:
        assert got.dims == ()
        np.testing.assert_allclose(got, slow_fraction_helping(ds["lca"].values), rtol=1e-12)
        return
    ids, names = group_ids(ds, by)
    assert got[by].values.tolist() == names.values.tolist()
    expected = [slow_fraction_helping(ds["lca"].values[:, ids == g]) for g in range(names.size)]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert by != "tensor" or np.isnan(got[-1])


@settings(deadline=None, max_examples=10)
@given(any_chunks())
def test_runs_are_treated_one_by_one(chunks):
    runs = [tiny_trajectory(5, seed=seed) for seed in (0, 1)]
    ds = rechunked(two_runs(*runs), chunks)
    assert fraction_helping(ds).dims == ("run",)
    assert help_hurt_zero(ds).dims == ("run", "iteration", "outcome")
    np.testing.assert_allclose(fraction_helping(ds), [slow_fraction_helping(r["lca"].values) for r in runs])


def test_a_run_that_moves_nothing_is_nan():
    ds = tiny_trajectory(3)
    assert np.isnan(fraction_helping(ds.assign(lca=ds["lca"] * 0)))


@pytest.mark.slow
@given(any_chunks(), st.sampled_from(["layer", "kernel_layer"]))
def test_layer_lca(chunks, by):
    whole = tiny_trajectory(5, class_parameters=True)
    ds = rechunked(whole, chunks)
    with nothing_computed():
        plain, split = layer_lca(ds, by), layer_lca(ds, by, classes=True)
        fallback = layer_lca(ds.drop_vars("lca_unit_class"), by, classes=True)
        summed = layer_lca(ds.drop_vars("lca"), by)
    assert plain.dims == ("iteration", "layer")
    assert split.dims == fallback.dims == ("iteration", "layer", "class")
    expected = ["conv1", "norm1", "fc"] if by == "layer" else ["conv1", "fc"]
    assert plain["layer"].values.tolist() == split["layer"].values.tolist() == expected
    ends = [0, 27, 33, 61] if by == "layer" else [0, 33, 61]
    plain, split, fallback, summed = (got.compute() for got in (plain, split, fallback, summed))
    for n in range(len(expected)):
        part = whole["lca_class"].values.astype(float)[..., ends[n] : ends[n + 1]]
        for got in (split, fallback):
            np.testing.assert_allclose(got.isel(layer=n), part.sum(-1), rtol=1e-5, atol=1e-6)
        for got in (plain, summed):
            np.testing.assert_allclose(got.isel(layer=n), part.sum((1, 2)), rtol=1e-5, atol=1e-5)


def test_layer_lca_of_another_objective():
    ds = tiny_trajectory(4)
    ds = ds.assign(lca_val=2 * ds["lca"], lca_unit_class_val=2 * ds["lca_unit_class"])
    for classes in (False, True):
        got, once = layer_lca(ds, lca="lca_val", classes=classes), layer_lca(ds, classes=classes)
        np.testing.assert_array_equal(got, 2 * once)
        assert got.name == "lca_val"


def test_layer_lca_errors():
    ds = tiny_trajectory(3)
    with pytest.raises(ValueError, match="kernel_layer"):
        layer_lca(ds, "tensor")
    with pytest.raises(lk.TrajectoryError, match='classes="unit"'):
        layer_lca(ds.drop_vars("lca_unit_class"), classes=True)


def test_public_names_reach_the_rooms():
    ds = tiny_trajectory(3)
    xr.testing.assert_identical(lk.layers.layer_lca(ds), layer_lca(ds))
    xr.testing.assert_identical(lk.noise.help_hurt_zero(ds), help_hurt_zero(ds))
