from __future__ import annotations

from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import lcakit as lk
from lcakit.analysis.kernels import signs
from lcakit.analysis.oscillation import (
    gradient_crossings,
    iterations_per_crossing,
    iterations_per_turn,
    oscillation_detail,
    weight_turns,
)
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import build_dataset
from tests.support.laziness import is_lazy, nothing_computed, two_runs


def slow_changes(series: np.ndarray) -> int:
    """Sign changes of one series, zeros left out."""
    signs = [np.sign(x) for x in series if x != 0]
    return sum(a != b for a, b in pairwise(signs))


def dataset(values: np.ndarray):
    n, k = values.shape
    steps = {"snapshot": (("snapshot",), np.arange(n)), "iteration": (("iteration",), np.arange(n - 1))}
    coords = Labels((TensorSpec("w", (k,), "bias", "w"),)).coords() | steps
    return build_dataset(coords, {"theta": values, "gradient": values})


# small integers: many zeros, ties and standstills
SERIES = hnp.arrays(
    np.float32, st.tuples(st.integers(2, 30), st.integers(1, 6)), elements=st.integers(-2, 2).map(float)
)

TILES = [(2, 6), (2**14, 2**18)]  # columns and numbers


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(SERIES, st.none() | st.tuples(st.integers(1, 30), st.integers(1, 6)), st.sampled_from(TILES))
def test_counts_against_a_loop(values, chunks, tile):
    ds = dataset(values)
    if chunks is not None:
        ds = ds.chunk(snapshot=chunks[0], parameter=chunks[1])
    with nothing_computed():
        turns, crossings = weight_turns(ds), gradient_crossings(ds)
    assert is_lazy(turns) == is_lazy(crossings) == (chunks is not None)
    assert turns.dtype == np.int64
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signs, "_COLUMNS", tile[0])
        patch.setattr(signs, "_TILE", tile[1])
        turns, crossings = turns.compute(), crossings.compute()
    assert turns.dtype == np.int64
    moves = np.diff(values.astype(np.float64), axis=0)
    assert turns.values.tolist() == [slow_changes(column) for column in moves.T]
    assert crossings.values.tolist() == [slow_changes(column) for column in values.T]


BLOCKS = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 5)),
    elements=st.sampled_from([np.nan, -np.inf, -2.0, -1.0, -0.0, 0.0, 0.0, 1.0, 2.0, np.inf]),
)


@given(BLOCKS, st.integers(1, 11), st.sampled_from(TILES), st.booleans())
def test_a_block_against_a_loop_also_where_numbers_are_missing(block, cut, tile, moves):
    summarize = signs.movement_signs if moves else signs.value_signs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signs, "_COLUMNS", tile[0])
        patch.setattr(signs, "_TILE", tile[1])
        parts = [summarize(part) for part in (block[:, :cut], block[:, cut:]) if part.shape[1]]
    found = reduce(signs.merge, parts)
    for place in np.ndindex(found.count.shape):
        column = block[place[0], :, place[1]].tolist()
        steps = [(0, x) for x in column] if not moves else list(pairwise(column))
        there = [(x > y) - (x < y) for y, x in steps if x == x and y == y]
        some = [sign for sign in there if sign]
        assert found.count[place] == sum(a != b for a, b in pairwise(some))
        assert np.broadcast_to(found.there, found.count.shape)[place] == len(there)
        assert found.first[place] == (some[0] if some else 0)
        assert found.last[place] == (some[-1] if some else 0)


def test_movement_smaller_than_a_float32_spacing_of_the_weight_still_counts():
    tiny = np.float32(1.4e-45)  # smallest subnormal: the difference must not be flushed or rounded away
    values = np.array([[0], [tiny], [0], [tiny]], np.float32)
    assert weight_turns(dataset(values)).item() == 2


@pytest.mark.parametrize("chunk", [7, 600])
def test_long_series_merge_in_a_tree(rng, chunk):
    values = rng.normal(size=(700, 3)).astype(np.float32)
    values[::2] = np.abs(values[::2])
    values[1::2] = -np.abs(values[1::2])  # more changes in a block than a byte counts
    ds = dataset(values).chunk(snapshot=chunk)
    assert gradient_crossings(ds).values.tolist() == [slow_changes(column) for column in values.T]
    assert weight_turns(ds).values.tolist() == [slow_changes(c) for c in np.diff(values.astype(float), axis=0).T]


@pytest.mark.parametrize("chunks", [None, {"snapshot": 4, "parameter": 9}])
def test_iterations_per_turn(chunks):
    ds = tiny_trajectory(30, chunks=chunks)
    with nothing_computed():
        turn, crossing = iterations_per_turn(ds), iterations_per_crossing(ds)
    moves = np.diff(ds["theta"].values.astype(float), axis=0).T
    assert turn.values == pytest.approx(30 / np.mean([slow_changes(s) for s in moves]))
    assert crossing.values == pytest.approx(30 / np.mean([slow_changes(s) for s in ds["gradient"].values.T]))


def test_runs_and_standstill():
    ds = two_runs(tiny_trajectory(20), tiny_trajectory(20, seed=1)).chunk(snapshot=6, run=1)
    assert weight_turns(ds).dims == ("run", "parameter")
    alone = iterations_per_turn(tiny_trajectory(20, seed=1))
    assert iterations_per_turn(ds).sel(run="y").values == pytest.approx(alone.values)
    assert np.isinf(iterations_per_turn(dataset(np.zeros((5, 2), np.float32))).values)


def test_missing_variables_name_the_option():
    ds = tiny_trajectory(3)
    with pytest.raises(lk.TrajectoryError, match="gradient"):
        gradient_crossings(ds.drop_vars("gradient"))
    with pytest.raises(lk.TrajectoryError, match='keep=\\("theta"'):
        weight_turns(ds.drop_vars("theta"))


@pytest.mark.parametrize("chunks", [None, {"snapshot": 4, "parameter": 9}])
def test_turns_by_layer(chunks):
    ds = tiny_trajectory(30, chunks=chunks)
    with nothing_computed():
        got = iterations_per_turn(ds, "kernel_layer")
    counts = weight_turns(ds).values
    kernel = ds["kernel_layer"].values[ds["layer_index"].values]
    np.testing.assert_allclose(got, [30 / counts[kernel == k].mean() for k in (0, 2)])
    assert iterations_per_crossing(ds, "role").dims == ("role",)


def test_detail_of_one_parameter():
    ds = tiny_trajectory(20, chunks={"snapshot": 6, "iteration": 6, "parameter": 9})
    with nothing_computed():
        got = oscillation_detail(ds, "fc.weight[1, 2]")
        assert oscillation_detail(ds, 33 + 8).attrs["parameter"] == "fc.weight[1, 2]"
    np.testing.assert_array_equal(got["theta"], ds["theta"][:, 41])
    np.testing.assert_array_equal(got["movement"], np.diff(ds["theta"].values[:, 41].astype(float)))
    np.testing.assert_array_equal(got["lca"], ds["lca"][:, 41])
    np.testing.assert_array_equal(got["gradient"], ds["gradient"][:, 41])
    np.testing.assert_allclose(got["cumulative_lca"], np.cumsum(ds["lca"].values[:, 41].astype(float)))
    part = ds.lk.sel(layer="fc")
    assert oscillation_detail(part, 41)["theta"].equals(got["theta"])
    with pytest.raises(ValueError, match="not in this selection of 28"):
        oscillation_detail(part, 0)
    with pytest.raises(ValueError, match="0 to 60"):
        oscillation_detail(ds, 61)


def test_iterations_of_several_steps_are_called_recorded():
    ds = tiny_trajectory(20)
    for study, name in ((iterations_per_turn, "weight turn"), (iterations_per_crossing, "gradient crossing")):
        plain, every = study(ds), study(ds.assign_attrs(every=10))
        assert plain.attrs["long_name"] == f"iterations per {name}"
        assert every.attrs["long_name"] == f"recorded iterations per {name} (each of 10 steps)"
        assert (every.name, float(every)) == (plain.name, float(plain))
