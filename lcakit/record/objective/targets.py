"""What the loss compares the network's output with: targets, and the classes they stand for, if any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lcakit.errors import ObjectiveError
from lcakit.record.objective.groups import class_numbers, names_of

__all__ = ["Targets", "check_targets", "class_labels", "find_targets", "no_classes"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Targets:
    """Targets of the evaluation set, in the user's order.

    ``y`` is what the loss gets, ``labels`` are the class numbers (int64) or None, ``class_names`` their names or None.
    ``classifies`` says that the output tells a predicted class, so that accuracy has a meaning.
    """

    y: torch.Tensor
    labels: torch.Tensor | None
    class_names: tuple[str, ...] | None
    classifies: bool


def find_targets(
    y: torch.Tensor, class_names: Sequence[str] | None, loss: str, takes_classes: bool, output_shape: tuple[int, ...]
) -> Targets:
    """Find the classes of an evaluation set.

    Parameters
    ----------
    y
        Targets, one entry per example.
    class_names
        Names of the classes; they make integer targets of any loss classes.
    loss
        Name of the loss.
    takes_classes
        Whether the loss is one of classes, so that integer targets are classes without names.
    output_shape
        Shape of the network's output for a few examples.

    Raises
    ------
    ObjectiveError
        For labels outside the classes, or a name given twice.
    """
    binary = takes_classes and loss.startswith("bce")
    check_targets(y, takes_classes and not binary, output_shape)
    single = binary and output_shape[1:] in ((), (1,))
    classifies = takes_classes and (single or len(output_shape) == 2) and y.dim() == 1 and not y.is_floating_point()
    classifies = classifies and (single or not binary)
    n_classes = (2 if binary else output_shape[1]) if classifies else None
    if class_names is not None:
        n_classes = len(class_names)
    labels = (
        class_labels(y, n_classes)
        if (takes_classes and (classifies or not binary)) or class_names is not None
        else None
    )
    names = None if labels is None else names_of(class_names, n_classes or int(labels.max()) + 1)
    return Targets(y if labels is None else labels, labels, names, classifies)


def check_targets(y: torch.Tensor, takes_classes: bool, output_shape: tuple[int, ...]) -> None:
    """Raise ObjectiveError for targets that cannot be what a loss of classes needs, saying what would be."""
    if not takes_classes or len(output_shape) != 2:
        return
    if y.dim() == 2 and not y.is_floating_point() and not y.is_complex():
        one_hot = y.shape[1] == output_shape[1] and bool((y.sum(dim=1) == 1).all())
        remedy = "pass y[:, 0]" if y.shape[1] == 1 else "pass y.argmax(1)" if one_hot else "pass probabilities"
        raise ObjectiveError(
            f"y has the shape {tuple(y.shape)}, and cross_entropy needs one class number for each example: {remedy} "
            f"(or floats, probabilities of the classes, in the output's shape (n, {output_shape[1]}))."
        )
    if y.dim() != 1:
        return
    if y.is_floating_point():
        whole = bool((y == y.round()).all())
        remedy = "pass y.long()" if whole else 'use loss="mse" for numbers'
        raise ObjectiveError(
            f"y has the type {y.dtype}, and cross_entropy needs class numbers: {remedy} (or probabilities of the "
            f"classes, in the output's shape (n, {output_shape[1]}))."
        )
    if output_shape[1] == 1 and not y.is_complex() and bool(((y == 0) | (y == 1)).all()):
        raise ObjectiveError(
            "the network has one output and y is 0 or 1: over one class the cross-entropy is always 0. Use "
            'loss="bce", which takes one logit, or give the network two outputs.'
        )


def class_labels(y: torch.Tensor, n_classes: int | None) -> torch.Tensor | None:
    """Return y as class numbers (int64), or None where the targets are not one integer per example.

    Raises
    ------
    ObjectiveError
        For labels outside ``0 … n_classes - 1``.
    """
    if y.dim() != 1 or y.is_floating_point() or y.is_complex():
        return None
    return class_numbers(y, n_classes)


def no_classes() -> ObjectiveError:
    """Return the error for gradients or losses by class where there are no classes."""
    return ObjectiveError(
        "this objective has no classes: its targets are not one integer per example. Ask without classes=True, or "
        "give it groups=…"
    )
