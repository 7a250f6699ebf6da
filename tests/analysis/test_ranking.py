from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lcakit as lk
from lcakit.analysis.ranking import dead_units, extremes, last_active_iteration
from lcakit.errors import TrajectoryError
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import group_ids, parameter_index, parameter_name
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs


@given(any_chunks(), st.sampled_from(["parameter", "unit", "tensor", "kernel_layer"]), st.integers(1, 2), st.booleans())
def test_extremes_against_sorting(chunks, by, k, part):
    plain = tiny_trajectory(10)
    ds = rechunked(plain, chunks)
    with nothing_computed():
        got = extremes(ds, by, k, iterations=slice(3, 6) if part else None)
    assert is_lazy(got["lca"]) == is_lazy(got["label"]) == (chunks is not None)
    values = plain["lca"].values[3:7] if part else plain["lca"].values
    totals = values.astype(np.float64).sum(0)
    if by != "parameter":
        ids, names = group_ids(plain, by)
        totals = np.array([totals[ids == g].sum() for g in range(names.size)])
    helping = sorted(x for x in totals if x < 0)[:k]
    hurting = sorted((x for x in totals if x > 0), reverse=True)[:k]
    for side, expected in (("helping", helping), ("hurting", hurting)):
        row = got.sel(outcome=side).compute()
        np.testing.assert_allclose(row["lca"].values[: len(expected)], expected, rtol=1e-4)
        assert np.isnan(row["lca"].values[len(expected) :]).all()
        assert (row["index"].values[len(expected) :] == -1).all()
        assert (row["label"].values[len(expected) :] == "").all()


def test_names_of_members():
    ds = tiny_trajectory(10)
    top = extremes(ds, "parameter", 3)
    for index, label in zip(top["index"].values.ravel(), top["label"].values.ravel(), strict=True):
        assert parameter_index(ds, label) == index
    assert extremes(ds.lk.sel(layer="fc"), "parameter", 1)["label"].values[0, 0].startswith("fc.")
    assert extremes(ds, "unit", 1)["label"].values[0, 0] in {
        f"{layer}[{n}]" for layer in ("conv1", "fc") for n in range(4)
    }


def test_parameter_names_round_trip():
    ds = tiny_trajectory(1)
    assert parameter_name(ds, 0) == "conv1.weight[0, 0, 0, 0]"
    assert parameter_name(ds, 60) == "fc.bias[3]"
    assert [parameter_index(ds, parameter_name(ds, k)) for k in range(61)] == list(range(61))
    with pytest.raises(ValueError, match="0 to 60"):
        parameter_name(ds, 61)
    with pytest.raises(ValueError, match=r"shape \(4, 6\)"):
        parameter_index(ds, "fc.weight[4, 0]")
    with pytest.raises(ValueError, match=r"fc\.weight"):
        parameter_index(ds, "fc.wieght[0, 0]")


@pytest.mark.parametrize("k", [0, 11])
def test_k_beyond_the_members(k):
    with pytest.raises(ValueError, match="1 to 10"):
        extremes(tiny_trajectory(3), "unit", k)


def test_iterations_outside_the_run_are_refused():
    with pytest.raises(ValueError, match="0 to 2"):
        extremes(tiny_trajectory(3), iterations=slice(0, 3))
    with pytest.raises(ValueError, match="grouping"):
        extremes(tiny_trajectory(3), "units")


@pytest.mark.slow
@given(any_chunks())
def test_dead_units(chunks):
    plain = tiny_trajectory(8)
    unit = plain["unit_index"].values
    plain["lca"][5:, unit == 2] = 0
    plain["lca"][:, unit == 7] = 0
    ds = rechunked(plain, chunks)
    with nothing_computed():
        last, dead = last_active_iteration(ds), dead_units(ds, 5)
    assert last.values[2] == 4
    assert np.isnan(last.values[7])
    assert np.flatnonzero(dead.values).tolist() == [2, 7]
    assert np.flatnonzero(dead_units(ds, 4).values).tolist() == [7]


def test_dead_units_of_runs_and_bad_iterations():
    ds = two_runs(tiny_trajectory(4), tiny_trajectory(4, seed=1))
    assert dead_units(ds, 1).dims == ("run", "unit")
    assert extremes(ds, "unit", 2)["lca"].dims == ("run", "outcome", "rank")
    with pytest.raises(ValueError, match="0 to 3"):
        dead_units(ds, 4)


@pytest.mark.parametrize(
    "study",
    [
        lambda ds: lk.aggregate.window_lca(ds, 1),
        lambda ds: lk.noise.helping_by_window(ds),
        lk.ranking.last_active_iteration,
        lambda ds: lk.ranking.dead_units(ds, 0),
        lk.synchronization.peak_iterations,
        lambda ds: lk.correlation.mean_correlation(ds, "fc"),
        lambda ds: lk.myopia.sign_agreement(ds, (2,)),
    ],
)
def test_without_an_iteration_studies_along_time_say_so(study):
    ds = tiny_trajectory().isel(iteration=slice(0, 0), snapshot=slice(0, 1))
    with pytest.raises(TrajectoryError, match="no iteration to look at"):
        study(ds)
