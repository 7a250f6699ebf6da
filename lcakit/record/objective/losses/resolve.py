"""From what a user gives as a loss to what an objective evaluates: a function of a model and a batch."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lcakit.errors import LcakitWarning, ObjectiveError, unknown
from lcakit.record.objective import losses
from lcakit.record.objective.losses.outputs import Losses
from lcakit.record.objective.with_loss import ModelWithLoss

__all__ = [
    "LOSSES",
    "BatchLoss",
    "ExampleLoss",
    "Found",
    "Loss",
    "chosen_loss",
    "no_tensor",
    "resolve_batch_loss",
    "resolve_loss",
    "warn_of_means",
]


def __dir__() -> list[str]:
    return __all__


Loss = Callable[[Any, torch.Tensor], Losses]
"""A loss of outputs: ``(output, y) -> losses`` or ``(losses, weights)``."""

BatchLoss = Callable[[nn.Module, Any], Losses]
"""A loss of batches: ``(model, batch) -> losses`` or ``(losses, weights)``."""


@dataclass(frozen=True)
class Found:
    """The losses of a batch, their weights or None where each counts the same, and the output if it is known."""

    losses: torch.Tensor
    weights: torch.Tensor | None = None
    output: Any = None


@dataclass(frozen=True)
class ExampleLoss:
    """A loss, in ``unit``, that is called with a model and a batch.

    ``function`` is one of outputs, of batches that are pairs (x, y); or, with ``of_batches``, the user's own of model
    and batch. With ``takes_classes`` integer targets are classes, whether or not they have names.
    """

    function: Callable[[Any, Any], Losses]
    name: str
    unit: str
    takes_classes: bool = False
    of_batches: bool = False

    @property
    def by_name(self) -> bool:
        """Whether it is one of the losses that :data:`LOSSES` names, with options or without."""
        return any(_bare(self.function) is known.function for known in LOSSES.values())

    def __call__(self, model: nn.Module, batch: Any) -> Found:
        """Return the losses of a batch; a copy of the model has its copy of a loss that has numbers of its own."""
        function: Callable[[Any, Any], Losses] = self.function
        if isinstance(model, ModelWithLoss):
            function, model = model.own_loss, model.model
        if self.of_batches:
            output, found = None, function(model, batch)
        else:
            x, y = batch
            output = model(x)
            found = function(output, y)
        losses, weights = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        return Found(losses, weights, output)


LOSSES = {
    "cross_entropy": ExampleLoss(losses.cross_entropy, "cross_entropy", "nats", takes_classes=True),
    "mse": ExampleLoss(losses.mse, "mse", "squared error"),
    "bce": ExampleLoss(losses.bce, "bce", "nats", takes_classes=True),
}
"""Losses of outputs by name."""

_NATS = (losses.causal_lm, losses.sequence_classification, losses.token_classification, losses.segmentation)


def resolve_loss(loss: str | Loss) -> ExampleLoss:
    """Return a loss given by name or as a callable; raise ValueError for an unknown name."""
    if callable(loss):
        known = next((found for found in LOSSES.values() if found.function is _bare(loss)), None)
        unit, classes = (known.unit, known.takes_classes) if known else ("loss units", False)
        return ExampleLoss(loss, _name(loss), unit, classes)
    if loss not in LOSSES:
        raise unknown("loss", loss, [*LOSSES, "a callable (output, y) -> per-example losses"])
    return LOSSES[loss]


def resolve_batch_loss(batch_loss: BatchLoss) -> ExampleLoss:
    """Return a loss of batches.

    Raises
    ------
    ObjectiveError
        Unless it can be called.
    """
    if not callable(batch_loss):
        raise ObjectiveError(
            f"batch_loss must be a function (model, batch) -> losses, got {batch_loss!r}. lk.losses has some, such as "
            "lk.losses.causal_lm; losses by name are given as loss=…"
        )
    return ExampleLoss(
        batch_loss, _name(batch_loss), "nats" if _bare(batch_loss) in _NATS else "loss units", of_batches=True
    )


def chosen_loss(loss: Any, batch_loss: Any, class_names: Any, groups: Any, group_names: Any) -> ExampleLoss:
    """Return the loss that an objective is asked for.

    Raises
    ------
    ObjectiveError
        If it is asked for two, or for names of what it does not have.
    """
    if groups is None and group_names is not None:
        raise ObjectiveError("group_names are names of groups, and there are no groups: pass groups=…, too.")
    if groups is not None and class_names is not None:
        raise ObjectiveError(
            "class_names are names of the classes in y, and groups take their place: pass group_names=… for the groups."
        )
    for given in (loss, batch_loss):
        if isinstance(given, type):
            raise ObjectiveError(
                f"the loss is the class {given.__name__}, which makes losses: call it, "
                f'{given.__name__}(…), with reduction="none" where it has that.'
            )
    if batch_loss is None:
        return resolve_loss(loss)
    if not (isinstance(loss, str) and loss == "cross_entropy"):
        raise ObjectiveError("an objective has one loss: pass loss=… or batch_loss=…, not both.")
    if class_names is not None:
        raise ObjectiveError(
            "with a batch_loss it is not known where the classes are: pass groups=… (a function of the batch, such as "
            'lambda batch: batch["labels"]) and group_names=…'
        )
    return resolve_batch_loss(batch_loss)


def warn_of_means(function: Any, targets: torch.Tensor) -> None:
    """Warn of a loss of PyTorch whose weights, or ignored targets, its own mean divides by, and an objective does not.

    With ``reduction="none"`` an ignored example has a loss of 0, and counts.
    """
    if not isinstance(function, nn.CrossEntropyLoss | nn.NLLLoss) or function.reduction != "none":
        return
    ignored = not targets.is_floating_point() and bool((targets == function.ignore_index).any())
    if not ignored and function.weight is None:
        return
    what, remedy = (
        (f"targets {function.ignore_index}, which it ignores", "leave those examples out of x and y")
        if function.weight is None
        else ("weights of classes", "pass loss=functools.partial(lk.losses.cross_entropy, class_weight=…), of logits")
    )
    warnings.warn(
        f"the loss {type(function).__name__} has {what}, and the objective is the mean of what it returns over all "
        'examples: not the mean of reduction="mean", which divides by the weights of those that count. To record that '
        f"one, {remedy}, or return (losses, weights).",
        LcakitWarning,
        stacklevel=2,
    )


def _bare(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _name(function: Any) -> str:
    """Return the name of a loss, with its options: they are part of what it is."""
    if isinstance(function, functools.partial):
        options = ", ".join(f"{key}={_told(value)}" for key, value in function.keywords.items())
        return f"{_name(function.func)}({options})" if options else _name(function.func)
    return str(getattr(function, "__name__", type(function).__name__))


def _told(value: Any) -> str:
    return str(value.tolist()) if isinstance(value, torch.Tensor) else repr(value)


def no_tensor(output: Any, loss: str) -> ObjectiveError:
    """Return the error for a model whose output is no tensor, as losses of outputs by name need."""
    keys = f" with {', '.join(map(repr, output))}" if isinstance(output, Mapping) else ""
    return ObjectiveError(
        f"the loss does not accept the model's output: a {type(output).__name__}{keys}; {loss!r} needs a tensor. "
        "Pass batch_loss=…, such as lk.losses.sequence_classification, which finds the logits, or a function of your "
        "own, (model, batch) -> losses."
    )
