"""Slow, obvious versions of what studies count where numbers are missing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.analysis.batch_sizes import critical_batch_size
from lcakit.errors import TrajectoryError
from lcakit.testing import chunked, tiny_trajectory
from tests.support.missing import LONG, SHORT, damaged, joined, run_of


@pytest.fixture(scope="module")
def short() -> xr.Dataset:
    return run_of(SHORT, seed=0)


@pytest.fixture(scope="module")
def padded(short) -> xr.Dataset:
    return joined(short, run_of(LONG, seed=1), run_of(LONG, seed=2))


# ---- slow twins --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[None, {"iteration": 3, "snapshot": 4, "parameter": 7, "unit": 2}])
def bad(request, short) -> xr.Dataset:
    bad = damaged(short, np.nan)
    return bad if request.param is None else chunked(bad, request.param)


def test_outcomes_are_of_the_numbers_that_are_there(bad):
    shares, counts = lk.noise.help_hurt_zero(bad), lk.noise.iterations_helped(bad)
    for t, row in enumerate(bad["lca"].values):
        there = [x for x in row if not np.isnan(x)]
        expected = [sum(x < 0 for x in there), sum(x > 0 for x in there), sum(x == 0 for x in there)]
        np.testing.assert_allclose(shares[t], np.array(expected) / len(there))
    for i, column in enumerate(bad["lca"].values.T):
        there = [x for x in column if not np.isnan(x)]
        assert counts[:, i].values.tolist() == [
            sum(x < 0 for x in there),
            sum(x > 0 for x in there),
            sum(x == 0 for x in there),
        ]


def _changes(values: list[float]) -> int:
    signs = [np.sign(x) for x in values if not np.isnan(x) and x != 0]
    return sum(a != b for a, b in pairwise(signs))


def test_iterations_per_turn_and_crossing_count_what_is_there(bad):
    moves = np.diff(bad["theta"].values.astype(float), axis=0).T
    turns = [_changes(list(column)) for column in moves]
    there = [np.count_nonzero(~np.isnan(column)) for column in moves]
    assert lk.oscillation.weight_turns(bad).values.tolist() == turns
    np.testing.assert_allclose(lk.oscillation.iterations_per_turn(bad), np.mean(there) / np.mean(turns))
    gradients = bad["gradient"].values.T
    crossings = [_changes(list(column)) for column in gradients]
    there = [np.count_nonzero(~np.isnan(column)) - 1 for column in gradients]
    np.testing.assert_allclose(lk.oscillation.iterations_per_crossing(bad), np.mean(there) / np.mean(crossings))


def test_units_with_a_missing_class_are_not_counted(bad):
    got = lk.noise.signs_per_class(bad)
    for t, units in enumerate(bad["lca_unit_class"].values):
        acting = [row for row in units if not np.isnan(row).any() and row.any()]
        expected = [sum((row < 0).sum() == n for row in acting) / len(acting) for n in range(4)]
        np.testing.assert_allclose(got[t], expected)


def test_extremes_of_what_is_known(bad):
    totals = bad["lca"].values.astype(float).sum(axis=0)
    known = np.flatnonzero(~np.isnan(totals))
    assert 10 < known.size < totals.size
    best = known[np.argsort(totals[known])]
    got = lk.ranking.extremes(bad, "parameter", k=3)
    assert got["index"].sel(outcome="helping").values.tolist() == best[:3].tolist()
    hurting = [i for i in best[::-1] if totals[i] > 0][:3]
    assert got["index"].sel(outcome="hurting").values.tolist() == hurting + [-1] * (3 - len(hurting))
    everything = lk.ranking.extremes(bad, "parameter", k=61)
    assert (everything["index"] >= 0).sum() == np.count_nonzero(totals[known])


def test_dead_units_are_seen_to_be_zero(short):
    ds = short.assign(lca=short["lca"].where((short["iteration"] < 4) | (short["unit_index"] != 2), 0))
    hidden = ds.assign(lca=ds["lca"].where((ds["iteration"] < 4) | (ds["unit_index"] != 3)))
    assert lk.ranking.dead_units(hidden, after=4).values.nonzero()[0].tolist() == [2]


def test_agreement_is_of_windows_that_are_there(bad):
    lca = bad["lca"].values.astype(float)
    whole = lca[:-1] + lca[1:]
    both = np.sign(lca[:-1]) * np.sign(whole)
    expected = (both > 0).sum() / ((both > 0) | (both < 0)).sum()
    np.testing.assert_allclose(lk.myopia.sign_agreement(bad, [2])["agreement"], [expected])


def test_the_account_says_what_is_missing(bad):
    got = lk.account(bad, quiet=True)
    assert got.missing_lca == int(np.isnan(bad["lca"].values).sum())
    assert (got.lca_sum, got.error_percent, got.worst_residual) == (None, None, None)
    for text in ("not known", f"{got.missing_lca} numbers"):
        assert text in got.to_text()
    assert lk.account(tiny_trajectory(), quiet=True).missing_lca is None


def test_candidates_for_freezing_agree_among_the_runs_that_are_known(padded):
    known = lk.layers.freeze_candidates(padded.isel(run=[1, 2]), least=0.0)
    with pytest.raises(TrajectoryError, match=r"lk\.runs\.align"):
        lk.layers.freeze_candidates(padded, least=0.0)
    lazy = lk.layers.freeze_candidates(chunked(padded, {"parameter": 7}), least=0.0)
    np.testing.assert_allclose(lazy["agreement"], known["agreement"])
    assert np.isnan(lazy["gain"].isel(run=0)).all()


def test_the_shortest_of_aligned_runs_have_everything(short):
    aligned = lk.runs.align({"a": short, "b": run_of(LONG, seed=1)}, align="shortest")
    assert lk.layers.argmin_iteration(aligned).notnull().all()
    assert int(lk.tails.histogram(aligned)["not_finite"].sum()) == 0


def test_a_curve_with_a_missing_point_is_that_of_the_others():
    sizes = 2.0 ** np.arange(12)
    steps = 10 * (1 + 64 / sizes)
    gap = steps.copy()
    gap[3] = np.nan
    whole, got = (
        critical_batch_size(xr.Dataset({"steps": ("batch_size", s)}, {"batch_size": sizes})) for s in (steps, gap)
    )
    assert float(got) == float(whole)
