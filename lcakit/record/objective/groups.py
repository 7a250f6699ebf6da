"""Groups of examples, or of positions inside them: classes, or whatever the user sorts them by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lcakit.errors import ObjectiveError
from lcakit.record.objective.sources import Source, ranges

__all__ = ["Groups", "PositionGroups", "class_numbers", "find_groups", "names_of"]


def __dir__() -> list[str]:
    return __all__


PositionGroups = Callable[[Any, slice, torch.device], torch.Tensor]
"""``(batch, its examples, device) -> group numbers`` of positions."""


@dataclass(frozen=True)
class Groups:
    """Groups by number: ``labels`` (n,) of examples in the user's order, or ``of_positions``, or neither.

    ``kind`` is the word for one of them, such as ``"class"``.
    """

    names: tuple[str, ...] | None = None
    labels: torch.Tensor | None = None
    of_positions: PositionGroups | None = None
    kind: str = "class"

    @property
    def n(self) -> int:
        """How many there are, 0 without groups."""
        return len(self.names or ())


def find_groups(
    groups: Any, names: Sequence[str] | None, kind: str, source: Source, put: Callable[[Any], Any]
) -> Groups:
    """Return the groups that a user gives.

    Parameters
    ----------
    groups
        Integers, one for each example (n,) or for each loss (n, …); or a function of the batch that returns them.
    names
        Names of the groups 0, 1, …
    kind
        The word for one of them.
    source
        Examples in the user's order.
    put
        Makes of a batch what the function gets.

    Raises
    ------
    ObjectiveError
        For groups that are no integers, are not one for each example, or have no name.
    """
    if callable(groups):
        batches = (source.take(*each) for each in ranges(source))
        found = [_integers(groups(put(batch)), f"groups of batch {k}") for k, batch in enumerate(batches)]
        labels = torch.cat(found) if all(part.dim() == 1 for part in found) else None
        checked = torch.cat([part.reshape(-1) for part in found])

        def of_batch(batch: Any, where: slice, device: torch.device) -> torch.Tensor:
            return _integers(groups(batch), "groups").to(device)

        of_positions: PositionGroups = of_batch
    else:
        values = _integers(groups, "groups")
        labels, checked = values if values.dim() == 1 else None, values.reshape(-1)
        of_positions = lambda batch, where, device: values[where].to(device)  # noqa: E731
        if values.dim() and len(values) != source.n_examples:
            raise _lengths(len(values), source.n_examples)
    if labels is not None and len(labels) != source.n_examples:
        raise _lengths(len(labels), source.n_examples)
    numbers = class_numbers(checked, None if names is None else len(names), "groups")
    named = names_of(names, int(numbers.max()) + 1, "group")
    return Groups(named, labels, of_positions if labels is None else None, kind)


def class_numbers(labels: torch.Tensor, n: int | None, what: str = "labels") -> torch.Tensor:
    """Return labels as int64.

    Raises
    ------
    ObjectiveError
        For labels outside ``0 … n - 1``.
    """
    labels = labels.to(torch.int64)
    low, high = int(labels.min()), int(labels.max())
    top = high if n is None else n - 1
    if low < 0 or high > top:
        wrong = sorted({int(v) for v in labels.unique() if v < 0 or v > top})
        where, remedy = (
            ("the classes", "Relabel the data, or give the network (and class_names) more classes.")
            if what == "labels" and low >= 0
            else ("the classes", "Leave out examples that do not count, x[y >= 0] and y[y >= 0]: it is the same mean.")
            if what == "labels"
            else ("the groups", "Number the groups from 0 on, and give each a name in group_names.")
        )
        raise ObjectiveError(f"{what} {wrong[:10]} are outside {where} 0 … {top}. {remedy}")
    return labels


def names_of(given: Sequence[str] | None, n: int, what: str = "class") -> tuple[str, ...]:
    """Return names, numbers if none are given; raise ObjectiveError if one is there twice."""
    if given is None:
        return tuple(str(k) for k in range(n))
    names = [str(name) for name in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ObjectiveError(f"each {what} needs its own name; {what}_names has {twice[0]!r} more than once")
    return tuple(names)


def _integers(values: Any, what: str) -> torch.Tensor:
    """Return group numbers on the host."""
    try:
        found = values.detach() if isinstance(values, torch.Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise ObjectiveError(
            f"{what} are not integers ({error}). Number them, and name them in group_names: "
            "names, groups = np.unique(values, return_inverse=True)."
        ) from error
    if found.is_floating_point() or found.is_complex() or found.dim() == 0 or not found.numel():
        raise ObjectiveError(
            f"{what} must be integers, one for each example or each loss, got {found.dtype} of shape "
            f"{tuple(found.shape)}."
        )
    return found.to("cpu", torch.int64)


def _lengths(got: int, n: int) -> ObjectiveError:
    return ObjectiveError(f"groups must have one entry per example: got {got} for {n} examples.")
