"""Batches: every example once an epoch, and a continuation that equals the uninterrupted sequence."""

import io
from itertools import islice

import pytest
import torch

from lcakit.errors import DataError
from lcakit.experiments.batches import Batches


@pytest.mark.parametrize(("n", "size"), [(12, 4), (13, 4), (5, 5), (3, 1)])
def test_every_example_once_an_epoch(n, size):
    batches, per_epoch = Batches(n, size, seed=0), -(-n // size)
    epochs = [list(islice(batches, per_epoch)) for _ in range(3)]
    for epoch in epochs:
        assert sorted(torch.cat(epoch).tolist()) == list(range(n))
        assert [len(b) for b in epoch[:-1]] == [size] * (per_epoch - 1)
        assert len(epoch[-1]) == n - size * (per_epoch - 1)
        assert all(b.dtype == torch.int64 for b in epoch)


def test_epochs_and_seeds_differ_and_seeds_repeat():
    def order(seed):
        return torch.cat(list(islice(Batches(100, 25, seed), 8))).tolist()

    assert order(0) == order(0)
    assert order(0)[:100] != order(0)[100:]
    assert order(0) != order(1)


@pytest.mark.parametrize("done", [0, 1, 3, 4, 5, 11])  # 4 batches an epoch: start, middle, end of an epoch, later
def test_resuming_equals_not_stopping(done):
    batches = Batches(14, 4, seed=7)
    list(islice(batches, done))
    file = io.BytesIO()
    torch.save(batches.state_dict(), file)
    expected = [next(batches).tolist() for _ in range(9)]
    file.seek(0)
    continued = Batches(14, 4, seed=0)
    list(islice(continued, 2))
    continued.load_state_dict(torch.load(file, weights_only=True))
    assert [next(continued).tolist() for _ in range(9)] == expected


def test_a_state_does_not_change_when_the_batches_move_on():
    batches = Batches(10, 3, seed=1)
    next(batches)
    state = batches.state_dict()
    expected = [next(batches).tolist() for _ in range(10)]
    batches.load_state_dict(state)
    assert [next(batches).tolist() for _ in range(10)] == expected


def test_the_global_generator_is_neither_used_nor_changed():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    drawn = [b.tolist() for b in islice(Batches(20, 6, seed=2), 9)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert [b.tolist() for b in islice(Batches(20, 6, seed=2), 9)] == drawn


@pytest.mark.parametrize("size", [0, -1, 11])
def test_impossible_batch_sizes_are_refused(size):
    with pytest.raises(DataError, match=rf"between 1 and the number of examples \(10\), got {size}"):
        Batches(10, size, seed=0)


def test_a_state_of_other_data_is_refused():
    state = Batches(10, 5, seed=0).state_dict()
    with pytest.raises(DataError, match="10 examples in batches of 5, these are 12 in batches of 5"):
        Batches(12, 5, seed=0).load_state_dict(state)
