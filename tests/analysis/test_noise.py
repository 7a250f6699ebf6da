"""Counts per parameter, per class and per window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lcakit as lk
from lcakit.analysis.noise import fraction_helping, help_hurt_zero, helped_histogram, iterations_helped, signs_per_class
from lcakit.analysis.windows import helping_by_window
from lcakit.testing import tiny_trajectory
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs


@pytest.mark.slow
@given(any_chunks(), st.integers(0, 99))
def test_iterations_helped_against_counting(chunks, seed):
    values = np.random.default_rng(seed).integers(-1, 2, (40, 61)).astype(np.float32)
    ds = tiny_trajectory(40)
    ds["lca"][:] = values
    ds = rechunked(ds, chunks)
    with nothing_computed():
        got = iterations_helped(ds)
        shares = helped_histogram(ds, bins=4, zeros="ignored")
        of_all = helped_histogram(ds, bins=4)
    assert is_lazy(got) == is_lazy(shares) == is_lazy(of_all) == (chunks is not None)
    assert got.dtype == np.int64
    counted = got.transpose("parameter", "outcome").values.tolist()
    for k, column in enumerate(values.T.tolist()):
        expected = [sum(x < 0 for x in column), sum(x > 0 for x in column), sum(x == 0 for x in column)]
        assert counted[k] == expected
    counts = np.zeros(4, int)
    for column in values.T.tolist():
        moves = [x for x in column if x]
        if moves:
            counts[min(int(4 * sum(x < 0 for x in moves) / len(moves)), 3)] += 1
    assert shares.values.tolist() == counts.tolist()
    paper = np.zeros(4, int)  # all iterations, all parameters
    for column in values.T.tolist():
        paper[min(int(4 * sum(x < 0 for x in column) / len(column)), 3)] += 1
    assert of_all.values.tolist() == paper.tolist()


def test_parameters_that_never_move_are_the_spike_at_zero():
    ds = tiny_trajectory(10)
    ds["lca"][:, :7] = 0
    ds["lca"][:, 7:] = -1
    assert helped_histogram(ds, bins=5).values.tolist() == [7, 0, 0, 0, 54]
    assert helped_histogram(ds, bins=5, zeros="ignored").values.tolist() == [0, 0, 0, 0, 54]
    with pytest.raises(ValueError, match="counted"):
        helped_histogram(ds, zeros="dropped")


def test_more_rows_than_a_byte_counts():
    ds = tiny_trajectory(600)
    ds["lca"][:] = -1
    assert (iterations_helped(ds).sel(outcome="helping") == 600).all()


@pytest.mark.slow
@given(any_chunks())
def test_helping_by_window(chunks):
    plain = tiny_trajectory(30)
    ds = rechunked(plain, chunks)
    with nothing_computed():
        got = helping_by_window(ds, [1, 4, 30])
    assert is_lazy(got) == (chunks is not None)
    got = got.compute()
    for size, share in zip((1, 4, 30), got.values, strict=True):
        sums = [plain["lca"].values[a : a + size].astype(float).sum(0) for a in range(0, 30 - size + 1, size)]
        assert share == pytest.approx(np.mean([(s < 0).sum() / (s != 0).sum() for s in sums]))
    assert got.values[0] == pytest.approx(float(fraction_helping(plain)))
    with pytest.raises(ValueError, match="empty"):
        helping_by_window(ds, [])


def test_an_incomplete_window_does_not_count():
    ds = tiny_trajectory(30)
    ds["lca"][20:] = abs(ds["lca"][20:])  # the ten iterations after the window hurt
    sums = ds["lca"].values[:20].astype(float).sum(0)
    assert float(helping_by_window(ds, [20])[0]) == pytest.approx((sums < 0).sum() / (sums != 0).sum())


@pytest.mark.parametrize(("iterations", "sizes"), [(1, [1]), (30, [1, 10]), (100, [1, 10, 100])])
def test_default_windows_are_those_the_run_is_long_enough_for(iterations, sizes):
    ds = tiny_trajectory(iterations)
    assert helping_by_window(ds)["window_size"].values.tolist() == sizes
    with pytest.raises(ValueError, match=f"1 to {iterations} iterations.*got 1000"):
        helping_by_window(ds, [1000])


def test_iterations_of_several_steps_are_called_recorded():
    ds = tiny_trajectory(12)
    every = ds.assign_attrs(every=np.int64(10))
    text = " (each of 10 steps)"
    assert iterations_helped(every).attrs["long_name"] == "recorded iterations by outcome" + text
    assert helping_by_window(every)["window_size"].attrs["long_name"] == "recorded iterations of a window" + text
    for plain in (ds, ds.assign_attrs(every=1), ds.assign_attrs(every="ten")):
        assert iterations_helped(plain).attrs["long_name"] == "iterations by outcome"


@pytest.mark.slow
@given(any_chunks(), st.sampled_from(["unit", "parameter"]))
def test_signs_per_class_against_loops(chunks, of):
    plain = tiny_trajectory(6, class_parameters=True)
    plain["lca_class"][:, :, 3] = 0
    ds = rechunked(plain, chunks)
    with nothing_computed():
        got = signs_per_class(ds, of)
    assert is_lazy(got) == (chunks is not None)
    got = got.compute()
    name = "lca_unit_class" if of == "unit" else "lca_class"
    values = plain[name].transpose("iteration", of, "class").values
    for t, members in enumerate(values):
        acting = [m for m in members if any(m)]
        expected = [sum(sum(x < 0 for x in m) == n for m in acting) / len(acting) for n in range(4)]
        np.testing.assert_allclose(got[t], expected)


def test_fraction_helping_of_each_class():
    ds = tiny_trajectory(6, class_parameters=True, chunks={"iteration": 4, "parameter": 20, "class": 2})
    got = fraction_helping(ds, "class")
    values = ds["lca_class"].values
    expected = [(values[:, c] < 0).sum(1) / (values[:, c] != 0).sum(1) for c in range(3)]
    np.testing.assert_allclose(got, np.mean(expected, axis=1))
    assert fraction_helping(ds, "class", lca="lca_unit_class").sizes == {"class": 3}
    assert help_hurt_zero(ds, by="layer").dims == ("iteration", "outcome", "layer")
    runs = two_runs(tiny_trajectory(5), tiny_trajectory(5, seed=1))
    assert iterations_helped(runs).dims == ("run", "outcome", "parameter")


def test_what_is_missing_is_said():
    ds = tiny_trajectory(3)
    with pytest.raises(lk.TrajectoryError, match="no classes to count"):
        signs_per_class(ds.lk.sel(cls="a"))
    with pytest.raises(lk.TrajectoryError, match='classes="parameter"'):
        fraction_helping(ds, "class")
    with pytest.raises(lk.TrajectoryError, match='classes="unit"'):
        signs_per_class(ds.drop_vars("lca_unit_class"))
    with pytest.raises(lk.TrajectoryError, match=r"lk.allocate\(file, objective, name=.val.\)"):
        help_hurt_zero(ds, "lca_val")
    with pytest.raises(ValueError, match="unit"):
        signs_per_class(ds, of="layer")
    with pytest.raises(ValueError, match="bins"):
        helped_histogram(ds, bins=0)
