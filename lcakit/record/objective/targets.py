"""What the loss compares the network's output with: targets, and the classes they stand for, if any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lcakit.errors import ObjectiveError

__all__ = ["Targets", "class_labels", "find_targets", "no_classes"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Targets:
    """Targets of the evaluation set, in the user's order.

    ``y`` is what the loss gets, ``labels`` are the class numbers (int64) or None, ``class_names`` their names or None.
    ``classifies`` says that the largest output is a predicted class, so that accuracy has a meaning.
    """

    y: torch.Tensor
    labels: torch.Tensor | None
    class_names: tuple[str, ...] | None
    classifies: bool

    @property
    def n_classes(self) -> int:
        """C, or 0 where the targets are not classes."""
        return len(self.class_names or ())


def find_targets(
    y: torch.Tensor, class_names: Sequence[str] | None, takes_classes: bool, output_shape: tuple[int, ...]
) -> Targets:
    """Find the classes of an evaluation set.

    Parameters
    ----------
    y
        Targets, one entry per example.
    class_names
        Names of the classes; they make integer targets of any loss classes.
    takes_classes
        Whether the loss is one of classes, so that integer targets are classes without names.
    output_shape
        Shape of the network's output for a few examples.

    Raises
    ------
    ObjectiveError
        For labels outside the classes, or a name given twice.
    """
    classifies = takes_classes and len(output_shape) == 2 and y.dim() == 1 and not y.is_floating_point()
    n_classes = output_shape[1] if classifies else None
    if class_names is not None:
        n_classes = len(class_names)
    labels = class_labels(y, n_classes) if takes_classes or class_names is not None else None
    return Targets(y if labels is None else labels, labels, _names(class_names, labels, n_classes), classifies)


def class_labels(y: torch.Tensor, n_classes: int | None) -> torch.Tensor | None:
    """Return y as class numbers (int64), or None where the targets are not one integer per example.

    Raises
    ------
    ObjectiveError
        For labels outside ``0 … n_classes - 1``.
    """
    if y.dim() != 1 or y.is_floating_point() or y.is_complex():
        return None
    labels = y.to(torch.int64)
    low, high = int(labels.min()), int(labels.max())
    top = high if n_classes is None else n_classes - 1
    if low < 0 or high > top:
        wrong = sorted({int(v) for v in labels.unique() if v < 0 or v > top})
        raise ObjectiveError(
            f"labels {wrong[:10]} are outside the classes 0 … {top}. "
            "Relabel the data, or give the network (and class_names) more classes."
        )
    return labels


def no_classes() -> ObjectiveError:
    """Return the error for gradients or losses by class where there are no classes."""
    return ObjectiveError(
        "this objective has no classes: its targets are not one integer per example. Ask without classes=True."
    )


def _names(given: Sequence[str] | None, labels: torch.Tensor | None, n_classes: int | None) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if given is None:
        return tuple(str(k) for k in range(n_classes if n_classes is not None else int(labels.max()) + 1))
    names = [str(name) for name in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ObjectiveError(f"each class needs its own name; class_names has {twice[0]!r} more than once")
    return tuple(names)
