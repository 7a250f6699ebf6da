"""The recorded loss beside the loop's own: different losses are told, and scatter of batches is not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.record.own_loss import OwnLoss
from tests.support.networks import dense, examples

x, y = examples(60)
LOSSES = {
    "another function": lambda output, y: F.mse_loss(output, F.one_hot(y, 3).float()),
    "a sum": lambda output, y: F.cross_entropy(output, y, reduction="sum"),
    "part of an accumulated gradient": lambda output, y: F.cross_entropy(output, y) / 8,
}


def record(path, loss, model=None, steps=12):
    model = model or dense()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    with lk.Recorder(path, lk.Objective(model, (x, y)), optimizer, quiet=True) as rec:
        for step in range(steps):
            optimizer.zero_grad()
            part = slice(4 * step, 4 * step + 12)
            own = loss(model(x[part]), y[part])
            own.backward()
            rec.report(own)
            optimizer.step()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_not_the_loops_own_is_told(tmp_path, name):
    with pytest.warns(LcakitWarning, match="they are not the same loss"):
        record(tmp_path / "run.nc", LOSSES[name])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_same_loss_says_nothing(tmp_path, dropout):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(dropout), nn.Linear(8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record(tmp_path / "run.nc", F.cross_entropy, model)


def test_numbers_decide():
    """By hand: a factor of 3 is told where it is certain, not where batches scatter by more than that."""
    noise = np.random.default_rng(0).normal(size=20)
    for spread, factor, told in [
        (0.1, 3, True),
        (0.1, 1.5, False),
        (20.0, 3, False),
        (0.1, 1 / 3, True),
        (0.1, -1, True),
    ]:
        compared = OwnLoss()
        for each in noise:
            compared.add(factor + spread * each, 1.0)
        assert (compared.warning() is not None) == told


def test_too_few_or_none_say_nothing():
    compared = OwnLoss()
    for _ in range(9):
        compared.add(7.0, 1.0)
        compared.add(float("nan"), 1.0)
        compared.add(7.0, None)
    assert compared.warning() is None
    compared.add(7.0, 1.0)
    assert "was 7 on average, the loss that is recorded 1:" in str(compared.warning())
