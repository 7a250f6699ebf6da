"""The parameter axis in pieces: the same numbers with less memory."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

import lcakit as lk
from lcakit.record.allocation import axis_blocks as pieces_room
from lcakit.record.allocation.axis_blocks import pieces_of
from tests.support.networks import conv_net
from tests.support.running import LABELS, record

STEPS = 10  # more than a block of rows


@pytest.mark.slow
def test_pieces_do_not_change_what_is_stored(tmp_path, monkeypatch):
    kept = ("theta", "gradient", "lca")
    whole = record(tmp_path / "a.nc", kept, make=conv_net, steps=STEPS, statistics=True, classes="parameter").load()
    monkeypatch.setattr(pieces_room, "PIECE", 90)
    cut = record(tmp_path / "b.nc", kept, make=conv_net, steps=STEPS, statistics=True, classes="parameter").load()
    for name in whole.data_vars:
        np.testing.assert_allclose(cut[name], whole[name], rtol=2e-7, atol=1e-15, err_msg=str(name))
    for name in ("theta", "gradient", "lca_class", "turn_count", "crossing_count"):
        np.testing.assert_array_equal(cut[name], whole[name], err_msg=name)


@pytest.mark.slow
def test_one_gradient_by_class_at_a_time_gives_the_same(tmp_path, monkeypatch):
    whole = record(tmp_path / "a.nc", make=conv_net, steps=STEPS).load()
    assert (whole["splits"] > 2).any(), "the test needs iterations that are refined"
    evaluate, given, alive = lk.Objective.evaluate, [], set()

    def watched(self, *arguments, **options):
        alive.add(sum(one() is not None for one in given))
        found = evaluate(self, *arguments, **options)
        if options.get("classes"):
            given.append(weakref.ref(found.gradient))
        return found

    monkeypatch.setattr(pieces_room, "PIECE", 90)
    monkeypatch.setattr(lk.Objective, "evaluate", watched)
    cut = record(tmp_path / "b.nc", make=conv_net, steps=STEPS).load()
    assert len(given) > 3 * STEPS
    assert max(alive) == 1  # that of the end, while the move is refined
    assert set(cut.data_vars) == set(whole.data_vars)
    for name in whole.data_vars:
        np.testing.assert_allclose(cut[name], whole[name], rtol=2e-7, atol=1e-12, err_msg=str(name))


@pytest.mark.parametrize("most", [1, 7, 40, 10**6])
def test_pieces_cover_the_axis_and_sum_to_units(most):
    found = pieces_of(LABELS, 2, most)
    parts = [part for piece in found for part in piece.parts]
    assert [part.columns.start for part in parts] == [0, *(part.columns.stop for part in parts[:-1])]
    assert parts[-1].columns.stop == LABELS.n_parameters
    values = torch.randn((2, LABELS.n_parameters), dtype=torch.float64)
    sums = torch.zeros((2, LABELS.n_units), dtype=torch.float64)
    for piece in found:
        piece.add_unit_sums(values[:, piece.columns], sums)
    unit = LABELS.parameter_labels()["unit_index"]
    expected = [np.bincount(unit, row, LABELS.n_units) for row in values.numpy()]
    np.testing.assert_allclose(sums, expected, atol=1e-12)
