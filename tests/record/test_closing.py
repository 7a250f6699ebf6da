"""A backward pass that does not give the derivative: embeddings are put right, the rest is told at the end."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.errors import LcakitWarning
from lcakit.record.allocation.closing import Closing

TOKENS = torch.randint(0, 7, (24, 4), generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """Predicts the first token from the mean of all; with ``tied``, by the embedding itself."""

    def __init__(self, embedding: nn.Module, tied: bool = False) -> None:
        super().__init__()
        self.embed, self.out = embedding, nn.Linear(5, 7, bias=False)
        if tied:
            self.out.weight = embedding.weight

    def forward(self, x):
        found = self.embed(x)
        return self.out(torch.tanh(found if found.dim() == 2 else found.mean(1)))


EMBEDDINGS = {
    "plain": lambda: Tokens(nn.Embedding(7, 5)),
    "padding": lambda: Tokens(nn.Embedding(7, 5, padding_idx=0)),
    "tied padding": lambda: Tokens(nn.Embedding(7, 5, padding_idx=0), tied=True),
    "sparse": lambda: Tokens(nn.Embedding(7, 5, sparse=True)),
    "scaled": lambda: Tokens(nn.Embedding(7, 5, scale_grad_by_freq=True)),
    "bag": lambda: Tokens(nn.EmbeddingBag(7, 5, padding_idx=0)),
    "scaled bag": lambda: Tokens(nn.EmbeddingBag(7, 5, scale_grad_by_freq=True, mode="sum")),
}


def slopes(model: nn.Module) -> np.ndarray:
    """Central differences of the loss in float64, one parameter after the other."""
    model, step, found = copy.deepcopy(model).double(), 1e-6, []
    with torch.no_grad():
        for parameter in model.parameters():
            for place in range(parameter.numel()):
                ends = []
                for sign in (1, -1):
                    parameter.view(-1)[place] += sign * step
                    ends.append(float(F.cross_entropy(model(TOKENS), TOKENS[:, 0])))
                    parameter.view(-1)[place] -= sign * step
                found.append((ends[0] - ends[1]) / (2 * step))
    return np.array(found)


@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_embeddings_give_the_derivative_of_the_loss(kind):
    torch.manual_seed(1)
    model = EMBEDDINGS[kind]()
    with torch.no_grad():
        model.embed.weight[0] = torch.linspace(-1, 1, 5)
    objective = lk.Objective(model, (TOKENS, TOKENS[:, 0]))
    np.testing.assert_allclose(objective.gradient(), slopes(model), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(objective.gradient(classes=True).sum(0), slopes(model), rtol=1e-4, atol=1e-6)


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, error):
        return -error


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, error):
        return error


class Bent(nn.Module):
    def __init__(self, bend) -> None:
        super().__init__()
        self.first, self.last, self.bend = nn.Linear(4, 5), nn.Linear(5, 3), bend

    def forward(self, x):
        return self.last(self.bend(self.first(x)))


def end_of(path, bend, learning_rate, **how) -> list[str]:
    torch.manual_seed(0)
    model, x, y = Bent(bend), torch.randn(30, 4), torch.arange(30) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LcakitWarning)
        with lk.Recorder(path, lk.Objective(model, (x, y)), optimizer, quiet=True, **how):
            for _ in range(8):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("when", ["online", "later"])
@pytest.mark.parametrize("bend", [Reversed.apply, StraightThrough.apply], ids=["reversed", "straight through"])
def test_a_gradient_that_is_none_is_told_at_the_end(bend, when, tmp_path):
    (told,) = end_of(tmp_path / "run.nc", bend, 0.3, allocate=when)
    assert "do not add up" in told
    assert "derivative" in told
    assert not lk.validate(tmp_path / "run.nc", quiet=True).ok


@pytest.mark.parametrize(
    ("bend", "learning_rate", "how"),
    [(torch.relu, 0.3, {}), (torch.tanh, 3.0, {}), (torch.relu, 0.01, {}), (Reversed.apply, 0.3, {"rule": "midpoint"})],
)
def test_nothing_is_told_of_a_gradient_that_is_one_nor_of_rules_that_do_not_close(bend, learning_rate, how, tmp_path):
    assert end_of(tmp_path / "run.nc", bend, learning_rate, **how) == []


@pytest.mark.parametrize(
    ("residual", "change", "splits", "told"),
    [(0.05, -1.0, 2, False), (0.2, -1.0, 2, True), (0.002, -1.0, 16, True), (0.0005, -1.0, 32, False)],
)
def test_misses_that_are_large_or_do_not_fall_with_the_splits(residual, change, splits, told):
    closing = Closing("rk4", 1e-3)
    for _ in range(10):
        closing.add(residual, change, splits)
    assert (closing.warning() is not None) == told
