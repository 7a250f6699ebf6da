"""What cannot be an objective is refused, with what to do instead."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.errors import LcakitWarning
from tests.support.networks import dense, examples, norm_net


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda x, y: lk.Objective(dense(), (x, y[:-1])), "one entry per example"),
        (lambda x, y: lk.Objective(dense(), (x[:0], y[:0])), "empty"),
        (lambda x, y: lk.Objective(dense(), (x, y - 1)), r"labels \[-1\] .* Leave out examples .* x\[y >= 0\]"),
        (
            lambda x, y: lk.Objective(dense(), (x, y), loss=lambda output, y: output - 1),
            r"returned \(16, 3\).*flatten\(1\)",
        ),
        (lambda x, y: lk.Objective(dense(), (x, y), loss=nn.CrossEntropyLoss()), r"returned \(\).*class_weight"),
        (lambda x, y: lk.Objective(dense(), (x, y + 1)), r"labels \[3\] are outside the classes 0 … 2"),
        (lambda x, y: lk.Objective(dense().requires_grad_(False), (x, y)), "no trainable parameter"),
        (
            lambda x, y: lk.Objective(dense(), (x, y), loss=lambda o, t: F.cross_entropy(o, t)),
            "one value per example",
        ),
        (lambda x, y: lk.Objective(dense(), (x, y), loss=lambda o, t: o.sum(1) * float("nan")), "not finite"),
        (lambda x, y: lk.Objective(dense(), (x, y), loss=lambda o, t: o.detach().sum(1)), "depends on no parameter"),
        (lambda x, y: lk.Objective(dense(), (x[:, :3], y)), "does not accept the evaluation set"),
        (lambda x, y: lk.Objective(dense(), (x, torch.randn(len(x), 7)), loss="mse"), "they must be equal"),
        (lambda x, y: lk.Objective(dense(), (x, y), loss="crossentropy"), "cross_entropy"),
        (lambda x, y: lk.Objective(dense(), (x, y), precision="float16"), "float32"),
        (lambda x, y: lk.Objective(dense(), (x, y), batch_size=0), "positive integer"),
        (lambda x, y: lk.Objective(dense(), "x"), "a pair"),
        (lambda x, y: lk.Objective(norm_net(), (x, y), batch_size=7), "last batch of one"),
        (lambda x, y: lk.Objective(norm_net(), (x, y), batch_size=1), "last batch of one"),
        (lambda x, y: lk.Objective(dense(), (x, y), device="cuda:99"), "cannot be used"),
        (lambda x, y: lk.Objective(dense(), [("a", "b"), (1, 2)]), "x is not an array of numbers"),
        (lambda x, y: lk.Objective(nn.LSTM(6, 3), (x, y)), "does not accept"),
        (lambda x, y: lk.Objective(dense(), (x, y)).loss(np.zeros(3)), "flat vector of the 53"),
    ],
)
def test_what_makes_no_objective_is_named(make, says):
    x, y = examples()
    with pytest.raises((lk.ObjectiveError, ValueError), match=says):
        make(x, y)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda m, x, y: lk.Objective(m, (x, y), class_names=["a", "b", "a"]), "class_names has 'a' more than once"),
        (lambda m, x, y: lk.Objective((x, y), m), r"must be a torch\.nn\.Module, got tuple"),
        (lambda m, x, y: lk.Objective(m.forward, (x, y)), r"must be a torch\.nn\.Module, got method"),
        (lambda m, x, y: lk.Objective(m, (x, y), loss=nn.CrossEntropyLoss()), 'reduction="none"'),
    ],
)
def test_what_makes_no_objective_says_what_would(build, says):
    with pytest.raises(lk.ObjectiveError, match=says):
        build(dense(), *examples())


def test_randomness_in_eval_mode_is_refused():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x):
            return F.dropout(self.linear(x), 0.5)

    with pytest.raises(lk.ObjectiveError, match="differs between two evaluations"):
        lk.Objective(Noisy(), examples())


def test_replaced_parameters_are_noticed():
    model = dense()
    objective = lk.Objective(model, examples())
    model[0] = nn.Linear(6, 5)
    with pytest.raises(lk.ObjectiveError, match="were replaced"):
        objective.loss()


@pytest.mark.parametrize(
    ("loss", "targets", "says"),
    [
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0, 0.5]), reduction="none"), lambda y: y, "class_weight=…"),
        (nn.CrossEntropyLoss(reduction="none"), lambda y: torch.where(y == 0, -100, y), "targets -100.*leave those"),
        (nn.NLLLoss(ignore_index=1, reduction="none"), lambda y: y, "targets 1, which it ignores"),
    ],
)
def test_a_mean_that_pytorch_forms_otherwise_is_told(loss, targets, says):
    """With ``reduction="none"`` the weights are gone that its own mean is divided by."""
    x, y = examples()
    with pytest.warns(LcakitWarning, match=says):
        lk.Objective(dense(), (x, targets(y)), loss=loss)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(reduction="none"), nn.NLLLoss(reduction="none")])
def test_nothing_is_told_where_all_examples_count_alike(loss):
    lk.Objective(dense(), examples(), loss=loss)
