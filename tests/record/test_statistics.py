"""Recordings with running statistics in place of series: the same numbers, whatever interrupts or shares the work."""

from __future__ import annotations

import functools
import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.record.allocation.allocator import Allocator
from lcakit.record.allocation.axis_blocks import pieces_of
from lcakit.record.allocation.statistics import Statistics, merge
from lcakit.storage import saving
from lcakit.storage.paths import partial_path
from lcakit.trajectory import schema
from lcakit.trajectory.labels import Labels, TensorSpec
from tests.support.networks import dropout_net, examples
from tests.support.running import STEPS, assert_equal, record, turns


def test_statistics_are_those_of_the_series(whole, small):
    lca = whole["lca"].values
    twins = {
        "total_lca": functools.reduce(np.add, lca.astype(np.float64)),
        "total_square_lca": functools.reduce(np.add, lca.astype(np.float64) ** 2),
        "helped_count": (lca < 0).sum(0),
        "hurt_count": (lca > 0).sum(0),
        "turn_count": turns(np.sign(np.diff(whole["theta"].values.astype(np.float64), axis=0))),
        "crossing_count": turns(np.sign(whole["gradient"].values)),
    }
    assert (twins["helped_count"] + twins["hurt_count"] < STEPS).any()
    for name, twin in twins.items():
        np.testing.assert_array_equal(whole[name], twin, err_msg=name)
        np.testing.assert_array_equal(small[name], twin, err_msg=name)
    layer = whole["layer_index"].values
    for row in range(whole.sizes["layer"]):
        np.testing.assert_array_equal(small["layer_helped"][:, row], (lca[:, layer == row] < 0).sum(1))
        np.testing.assert_array_equal(small["layer_hurt"][:, row], (lca[:, layer == row] > 0).sum(1))
    for name in ("lca_unit_class", "loss", "residual", "first_order", "splits"):
        np.testing.assert_array_equal(small[name], whole[name], err_msg=name)
    assert not {"theta", "gradient", "lca"} & set(small)
    assert lk.validate(whole, quiet=True).ok


@pytest.mark.slow
def test_an_interrupted_recording_goes_on_bit_by_bit(small, tmp_path):
    path = tmp_path / "run.nc"
    with pytest.raises(KeyboardInterrupt):
        record(path, stop=17)
    part = lk.open_trajectory(path)
    assert part.attrs["partial"]
    counts = lk.noise.iterations_helped(part).sum("outcome")
    assert part.sizes["iteration"] == 17
    assert (counts == 17).all()
    assert lk.validate(path, quiet=True).ok
    running = sorted(p.name for p in partial_path(path).glob("*.running"))
    assert running == ["000001.running", "000002.running"]
    with pytest.raises(lk.RecordingError, match=r"statistics: stored 'total_lca .*', now 'none'"):
        record(path, resume=True, statistics=False)
    assert_equal(record(path, resume=True), small)


@pytest.mark.slow
def test_an_interrupt_while_counting_costs_the_last_block_only(small, tmp_path, monkeypatch):
    path, real, calls = tmp_path / "run.nc", Statistics._add, []

    def interrupted(self, at, stretch):
        calls.append(1)
        if len(calls) == 1 + 17:  # two blocks of seven are whole, and two rows of the third
            raise KeyboardInterrupt
        real(self, at, stretch)

    with monkeypatch.context() as patch:
        patch.setattr(Statistics, "_add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            record(path)
    with pytest.warns(LcakitWarning, match="running statistics"):
        assert "turn_count" not in lk.open_trajectory(path)
    with warnings.catch_warnings(), pytest.raises(lk.RecordingError, match="resume=True"):
        warnings.simplefilter("ignore")
        lk.finish(path)  # its file would not have them, ever
    assert_equal(record(path, resume=True), small)


@pytest.mark.slow
def test_damaged_statistics_cost_the_last_block_only(small, tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    with monkeypatch.context() as patch:
        patch.setattr(saving, "merge", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            record(path)
    running = sorted(partial_path(path).glob("*.running"))
    running[-1].write_bytes(b"damaged")
    assert_equal(record(path, resume=True), small)


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", [True, False])
def test_allocations_have_them_too(whole, tmp_path, monkeypatch, in_memory):
    model, (x, y) = dropout_net(), examples(seed=9)
    objective = lk.Objective(model, (x, y), workers=1)
    out = None if in_memory else tmp_path / "out.nc"
    path = lk.save(whole.drop_vars(schema.STATISTICS), tmp_path / "run.nc")
    every = lk.allocate(path, objective, name="val", quiet=True, out=tmp_path / "every.nc")
    if in_memory:
        ds = lk.allocate(lk.open_trajectory(path), objective, name="val", keep=(), quiet=True)
    else:
        real, calls = Allocator.advance, []

        def failing(self, vector):
            calls.append(1)
            if len(calls) == 12:
                raise KeyboardInterrupt
            return real(self, vector)

        with monkeypatch.context() as patch:
            patch.setattr(Allocator, "advance", failing)
            with pytest.raises(KeyboardInterrupt):
                lk.allocate(path, objective, name="val", keep=(), quiet=True, out=out)
        ds = lk.allocate(path, objective, name="val", keep=(), quiet=True, out=out)
    assert "lca_val" not in ds
    assert "turn_count_val" not in ds
    lca = every["lca_val"].values
    np.testing.assert_array_equal(ds["total_lca_val"], functools.reduce(np.add, lca.astype(np.float64)))
    np.testing.assert_array_equal(ds["crossing_count_val"], turns(np.sign(every["gradient_val"].values)))
    fraction = functools.partial(lk.noise.fraction_helping, lca="lca_val")
    assert fraction(ds).compute() == fraction(every).compute()
    assert lk.validate(ds, quiet=True).ok


SIGNS = st.lists(st.tuples(*[st.sampled_from([-1.0, 0.0, 0.25, 2.0])] * 3), min_size=1, max_size=9)


@settings(deadline=None, max_examples=40)
@given(rows=SIGNS, data=st.data())
def test_blocks_join_to_the_whole_wherever_they_are_cut(rows, data):
    labels = Labels((TensorSpec("w", (3,), "bias", "w"),))
    steps = torch.tensor(rows)
    theta = torch.cat([torch.zeros(1, 3), steps.cumsum(0)])
    cuts = sorted(data.draw(st.sets(st.integers(0, len(rows)))) | {0, len(rows)})

    def counted(start, stop):
        out = Statistics(tuple(schema.STATISTICS), pieces_of(labels, 1, 50), torch.device("cpu"))
        if start == 0:
            out.begin(theta[0])
        for t in range(start, stop):
            out.update(steps[t], theta[t], theta[t + 1], theta[t + 1])
        return {name: values.copy() for name, values in out.arrays() if name != "iterations"}

    whole = counted(0, len(rows))
    blocks = [counted(a, b) for a, b in itertools.pairwise(cuts)]
    joined = functools.reduce(merge, blocks)
    for name, values in whole.items():
        np.testing.assert_array_equal(joined[name], values, err_msg=name)
        assert joined[name].dtype == values.dtype
    np.testing.assert_array_equal(whole["turn_count"], turns(np.sign(steps.numpy())))
    np.testing.assert_array_equal(whole["crossing_count"], turns(np.sign(theta.numpy())))
