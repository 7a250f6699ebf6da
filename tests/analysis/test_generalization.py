from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lcakit as lk
from lcakit.analysis.generalization import STATES, overfitting_map, train_validation
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import group_ids
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked


def with_validation(iterations: int):
    ds = tiny_trajectory(iterations)
    ds["lca_val"] = ds["lca"].dims, tiny_trajectory(iterations, seed=3)["lca"].values
    ds["lca_val"][:2] = 0
    return ds


def groups(ds, values: np.ndarray, by: str | None) -> np.ndarray:
    if by == "parameter":
        return values
    if by is None:
        return values.sum(-1)
    ids, names = group_ids(ds, by)
    return np.stack([values[:, ids == g].sum(-1) for g in range(names.size)], -1)


@pytest.mark.slow
@given(any_chunks(), st.sampled_from(["kernel_layer", "unit", "parameter", None]), st.integers(1, 11))
def test_against_loops(chunks, by, window):
    plain = with_validation(11)
    ds = rechunked(plain, chunks)
    with nothing_computed():
        sums, overfit = train_validation(ds, by), overfitting_map(ds, by, window)
    assert is_lazy(sums["gap"]) == is_lazy(overfit["state"]) == (chunks is not None)
    sums, overfit = sums.compute(), overfit.compute()
    train, val = (groups(plain, plain[name].values.astype(np.float64), by) for name in ("lca", "lca_val"))
    np.testing.assert_allclose(sums["train"], train.sum(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sums["gap"], val.sum(0) - train.sum(0), rtol=1e-5, atol=1e-5)
    for w, start in enumerate(range(0, 11, window)):
        a, b = (x[start : start + window].sum(0).ravel() for x in (train, val))
        got = overfit["state"].values[w].ravel()
        for x, y, state in zip(a, b, got, strict=True):
            if x == 0 or y == 0:
                assert STATES[state] == "nothing"
            else:
                words = {(True, True): "helps_both", (False, False): "hurts_both"}
                words |= {(True, False): "helps_train_hurts_validation", (False, True): "hurts_train_helps_validation"}
                assert STATES[state] == words[x < 0, y < 0]


def test_a_window_is_a_twentieth_of_the_run():
    assert overfitting_map(with_validation(40))["window"].values.tolist() == list(range(0, 40, 2))
    assert overfitting_map(with_validation(7)).sizes["window"] == 7


def test_the_meanings_are_those_of_the_numbers():
    state = overfitting_map(with_validation(3))["state"]
    assert state.attrs["flag_values"].tolist() == [0, 1, 2, 3, 4]
    assert state.attrs["flag_meanings"].split() == list(STATES)


@pytest.mark.parametrize("chunks", [None, {"parameter": 7, "iteration": 2}])
@pytest.mark.parametrize("name", ["lca", "lca_val"])
def test_what_is_not_known_is_in_no_state(name, chunks):
    whole, ds = with_validation(6), with_validation(6)
    ds[name][3, 0] = np.nan
    got, expected = (overfitting_map(rechunked(data, chunks), "parameter", 1)["state"] for data in (ds, whole))
    assert STATES[int(got[3, 0])] == "nothing"
    assert STATES[int(expected[3, 0])] != "nothing"
    assert int((got != expected).sum()) == 1


def test_without_a_validation_objective():
    with pytest.raises(lk.TrajectoryError, match=r"lk\.allocate"):
        train_validation(tiny_trajectory(3))
    with pytest.raises(ValueError, match="suffix"):
        overfitting_map(tiny_trajectory(3), val="")
