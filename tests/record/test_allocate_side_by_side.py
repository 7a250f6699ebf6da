"""Allocations of different names, added to one file at the same time."""

from __future__ import annotations

import numpy as np
import pytest

import lcakit as lk
from lcakit.record.allocation.local import LocalWork
from tests.support.allocations import walk
from tests.support.networks import dense, examples


@pytest.mark.slow
def test_allocations_added_to_a_file_at_the_same_time_are_both_kept(tmp_path, monkeypatch):
    (x, y), path = examples(), tmp_path / "run.nc"
    theta = walk(dense(), x, y)
    lk.save(lk.allocate(theta, lk.Objective(dense(), (x, y)), quiet=True), path)
    real = LocalWork.allocate

    def meanwhile(*args):
        monkeypatch.setattr(LocalWork, "allocate", real)
        lk.allocate(path, lk.Objective(dense(), examples(seed=2)), name="test", quiet=True)
        real(*args)

    monkeypatch.setattr(LocalWork, "allocate", meanwhile)
    both = lk.allocate(path, lk.Objective(dense(), examples(seed=3)), name="val", quiet=True).load()
    for seed, name in ((2, "test"), (3, "val")):
        alone = lk.allocate(theta, lk.Objective(dense(), examples(seed=seed)), quiet=True)
        np.testing.assert_array_equal(both[f"lca_{name}"].values, alone["lca"].values)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.nc"]


def test_an_allocation_is_not_added_to_a_file_that_was_replaced_meanwhile(tmp_path, monkeypatch):
    (x, y), path = examples(), tmp_path / "run.nc"
    theta = walk(dense(), x, y)
    objective = lk.Objective(dense(), (x, y))
    lk.save(lk.allocate(theta, objective, quiet=True), path)
    real = LocalWork.allocate

    def meanwhile(*args):
        real(*args)
        lk.save(lk.allocate(theta[::-1].copy(), objective, quiet=True), path, overwrite=True)

    monkeypatch.setattr(LocalWork, "allocate", meanwhile)
    with pytest.raises(lk.RecordingError, match="replaced by another trajectory"):
        lk.allocate(path, objective, name="val", quiet=True)
    assert "lca_val" not in lk.open_trajectory(path)
