"""Chunks that fit the memory of the device, and shrink where it ends."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import lcakit as lk
from lcakit.errors import ObjectiveError
from lcakit.record.objective import chunks, memory
from lcakit.record.objective.sweep import Sweep
from tests.support.networks import dense, examples, norm_net


def scarce(monkeypatch, most: int) -> list[int]:
    """Let every evaluation of more than ``most`` examples at a time run out of memory; return the sizes tried."""
    tried, run = [], Sweep.run

    def limited(self, flat, batch_size, **how):
        tried.append(batch_size)
        if batch_size > most:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return run(self, flat, batch_size, **how)

    monkeypatch.setattr(Sweep, "run", limited)
    return tried


def test_chunks_are_halved_when_memory_runs_out_and_it_is_told_once(monkeypatch):
    model, data = dense(), examples()
    usual = lk.Objective(model, data).gradient(classes=True)
    tried = scarce(monkeypatch, 10)
    objective = lk.Objective(model, data, batch_size=32)
    with pytest.warns(
        RuntimeWarning, match=r"ran out of memory with chunks of (32|16) examples: continuing with"
    ) as told:
        found = objective.gradient(classes=True)
    assert len(told) == 2  # 32 to 16, 16 to 8
    np.testing.assert_allclose(found, usual, rtol=1e-5, atol=1e-7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective.gradient(classes=True)
    assert tried == [32, 16, 8, 8]


def test_a_batch_that_is_part_of_the_objective_is_never_halved(monkeypatch):
    objective = lk.Objective(norm_net(), examples(), batch_size=25)
    scarce(monkeypatch, 10)
    with pytest.raises(ObjectiveError, match=r"batch of 25 examples.*choose a smaller batch_size, such as 12"):
        objective.gradient()
    assert objective.batch_size == 25


def test_a_single_example_that_is_too_much_ends_it(monkeypatch):
    objective = lk.Objective(dense(), examples(), batch_size=1)
    scarce(monkeypatch, 0)
    with pytest.raises(ObjectiveError, match="single example"):
        objective.gradient()


@pytest.mark.parametrize(("free", "expected"), [(80 * 2**30, 10_000), (8 * 2**20, 2048), (0, 16)])
def test_a_gpu_gets_chunks_that_fit_its_free_memory(monkeypatch, free, expected):
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    assert chunks.batch_size("auto", 55_000, 1024, torch.device("cuda"), coupled=False) == expected
    assert chunks.batch_size("auto", 55_000, 1024, torch.device("cuda"), coupled=True) == 500
