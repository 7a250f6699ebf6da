"""Sums over time: running sums, windows, root mean squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lcakit as lk
from lcakit.analysis.aggregate import cumulative_lca, rms_lca, sum_by, window_lca
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import GROUPINGS, group_ids
from tests.support.laziness import any_chunks, is_lazy, loop_sums, nothing_computed, rechunked, two_runs


def slow_windows(values: np.ndarray, size: int) -> list[np.ndarray]:
    return [values[a : a + size].astype(np.float64).sum(0) for a in range(0, len(values), size)]


def slow_groups(ds, by: str) -> np.ndarray:
    ids, names = group_ids(ds, by)
    sums = loop_sums(ds["lca"].values, [str(i) for i in ids])
    return np.stack([sums[str(i)] for i in range(names.size)], axis=-1)


@given(any_chunks(), st.integers(1, 23), st.sampled_from(["parameter", None, "kernel_layer", "unit"]))
def test_windows_against_slices(chunks, size, by):
    plain = tiny_trajectory(23)
    ds = rechunked(plain, chunks)
    with nothing_computed():
        got = window_lca(ds, size, by)
    assert is_lazy(got) == (chunks is not None)
    values = plain["lca"].values if by == "parameter" else slow_groups(plain, by or "tensor")
    expected = np.array(slow_windows(values.sum(-1) if by is None else values, size))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert got["window"].values.tolist() == list(range(0, 23, size))
    assert got["window_end"].values.tolist() == [min(a + size, 23) - 1 for a in range(0, 23, size)]


@pytest.mark.parametrize("size", [0, -1, 24, 2.5])
def test_a_window_that_is_no_number_of_iterations(size):
    with pytest.raises(ValueError, match="1 to 23"):
        window_lca(tiny_trajectory(23), size)


@given(any_chunks(), st.sampled_from([None, "parameter", "kernel_layer", "class"]), st.booleans())
def test_cumulative_against_cumsum(chunks, by, classes):
    plain = tiny_trajectory(9, class_parameters=True)
    ds = rechunked(plain, chunks)
    with nothing_computed():
        got = cumulative_lca(ds, by, classes=classes)
    assert is_lazy(got) == (chunks is not None)
    by_class = plain["lca_class"].values.astype(np.float64)
    if by == "class":
        values = by_class.sum(-1)
    elif by == "parameter":
        values = by_class if classes else plain["lca"].values
    elif by == "kernel_layer":
        ids, _ = group_ids(plain, by)
        values = np.stack([by_class[..., ids == g].sum(-1) for g in (0, 1)], axis=1)
        values = values if classes else values.sum(-1)
    else:
        values = by_class.sum(-1) if classes else by_class.sum((1, 2))
    np.testing.assert_allclose(got, np.cumsum(values, 0, dtype=np.float64), rtol=1e-4, atol=1e-4)
    assert got["iteration"].values.tolist() == list(range(9))


def test_the_running_sum_ends_at_the_loss_change():
    ds = tiny_trajectory()
    change = float(ds["loss"][-1] - ds["loss"][0])
    assert float(cumulative_lca(ds)[-1]) == pytest.approx(change, rel=1e-6)


@given(any_chunks(), st.none() | st.sampled_from([*GROUPINGS, "parameter"]))
def test_rms_against_numpy(chunks, by):
    plain = tiny_trajectory(6)
    plain["lca"][:, 3] = 1e-30  # its square is zero in float32
    ds = rechunked(plain, chunks)
    with nothing_computed():
        got = rms_lca(ds, by)
    squares = plain["lca"].values.astype(np.float64) ** 2
    if by == "parameter":
        expected = np.sqrt(squares.mean(0))
        assert got.values[3] == pytest.approx(1e-30, rel=1e-6, abs=0)
    elif by is None:
        expected = np.sqrt(squares.mean(1))
    else:
        ids, names = group_ids(plain, by)
        expected = np.stack([np.sqrt(squares[:, ids == g].mean(1)) for g in range(names.size)], -1)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_sums_by_class_and_runs():
    ds = two_runs(tiny_trajectory(5), tiny_trajectory(5, seed=1)).chunk(iteration=2, unit=3, run=1)
    by_class = sum_by(ds, "class", "lca_unit_class")
    assert by_class.dims == ("run", "iteration", "class")
    np.testing.assert_allclose(by_class.sum("class"), ds["lca"].sum("parameter"), rtol=1e-4, atol=1e-4)
    assert window_lca(ds, 2, by=None).dims == ("run", "window")
    with pytest.raises(lk.TrajectoryError, match="classes"):
        sum_by(ds, "class", "lca")
