"""The evaluation set: all of it on the device, sorted by class where that is allowed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lcakit.errors import ObjectiveError
from lcakit.record.objective.describe import tensors_fingerprint

__all__ = ["Chunk", "EvaluationSet", "as_tensors"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Chunk:
    """A contiguous range of evaluation examples: their class if they all have the same, else the classes present."""

    start: int
    stop: int
    label: int | None = None
    present: tuple[int, ...] = ()


def as_tensors(data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tensors (x, y) from a pair of arrays or from a map-style Dataset, read once in its order.

    Raises
    ------
    ObjectiveError
        For empty data, x and y of different length, or data of another kind.
    """
    if isinstance(data, TensorDataset):
        pair: Sequence[Any] = data.tensors
    elif isinstance(data, Dataset):
        pair = _stacked(data)
    else:
        pair = data
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ObjectiveError(
            f"data must be a pair (x, y) of arrays or a torch Dataset of such pairs, got {type(data).__name__}"
            + (": pass its dataset, loader.dataset" if isinstance(data, DataLoader) else "")
        )
    x, y = _tensor(pair[0], "x"), _tensor(pair[1], "y")
    if x.dim() == 0 or y.dim() == 0 or len(x) != len(y):
        raise ObjectiveError(
            f"x and y must have one entry per example: x has shape {tuple(x.shape)}, y {tuple(y.shape)}. "
            "Pass arrays of the same length."
        )
    if len(x) == 0:
        raise ObjectiveError("the evaluation set is empty; an objective needs at least one example")
    return x, y


def _tensor(values: Any, name: str) -> torch.Tensor:
    try:
        return values.detach() if isinstance(values, torch.Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise ObjectiveError(f"{name} is not an array of numbers: {error}. Pass numeric arrays or tensors.") from error


def _stacked(data: Dataset[Any]) -> Sequence[Any]:
    items = [data[i] for i in range(len(data))]  # type: ignore[arg-type]
    try:
        return tuple(torch.stack([torch.as_tensor(item[k]) for item in items]) for k in (0, 1)) if items else ((), ())
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise ObjectiveError(
            f"the Dataset's items cannot be stacked into tensors x and y: {error}. Its items must be pairs of tensors "
            "or numbers, all of the same shape; images need a transform such as torchvision's ToTensor()."
        ) from error


class EvaluationSet:
    """The data of an objective on its device.

    Parameters
    ----------
    x, y
        Examples and targets, in the user's order.
    labels, n_classes
        Class numbers, or None; how many classes there are.
    keep_order
        True where a layer couples the batch: the partition into batches is then part of the objective.
    """

    def __init__(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        labels: torch.Tensor | None,
        n_classes: int,
        device: torch.device,
        keep_order: bool,
    ) -> None:
        self.fingerprint = tensors_fingerprint(x, y)
        self.n_examples = len(x)
        self.keep_order = keep_order
        self.class_counts = self.class_order = None
        if labels is not None:
            labels, y = labels.to(x.device), y.to(x.device)
            order = torch.argsort(labels, stable=True)
            self.class_counts = torch.bincount(labels, minlength=n_classes).tolist()
            if keep_order:
                self.class_order = order.to(device)
            else:  # one contiguous range per class: per-class gradients then cost nothing extra
                x, y, labels = x[order], y[order], labels[order]
        self.x, self.y = x.to(device), y.to(device)
        self._host_labels = None if labels is None else labels.cpu().numpy()

    def shares(self, workers: int, size: int, by_class: bool) -> list[list[Chunk]]:
        """Divide the examples among workers: for each a list, never empty, of chunks of at most ``size`` examples.

        With coupling every batch but the last has exactly ``size`` examples (the partition is fixed), and workers get
        whole batches. Without, they get equally many examples, cut into even chunks; ``by_class`` ends a chunk where
        its class ends.
        """
        if self.keep_order:
            starts = range(0, self.n_examples, size)
            batches = [self._batch(start, min(start + size, self.n_examples), by_class) for start in starts]
            edges = _cut(0, len(batches), workers)
            shares = [batches[a:b] for a, b in itertools.pairwise(edges)]
        else:
            edges = _cut(0, self.n_examples, workers)
            shares = [list(self._chunks(a, b, size, by_class)) for a, b in itertools.pairwise(edges)]
        return [share for share in shares if share]

    def _batch(self, start: int, stop: int, by_class: bool) -> Chunk:
        present = np.unique(self._host_labels[start:stop]) if by_class and self._host_labels is not None else ()
        return Chunk(start, stop, present=tuple(int(label) for label in present))

    def _chunks(self, start: int, stop: int, size: int, by_class: bool) -> Iterator[Chunk]:
        if not by_class or self.class_counts is None:
            yield from _even(start, stop, size, None)
            return
        first = 0
        for label, count in enumerate(self.class_counts):
            yield from _even(max(start, first), min(stop, first + count), size, label)
            first += count


def _even(start: int, stop: int, size: int, label: int | None) -> Iterator[Chunk]:
    n = -(-max(stop - start, 0) // size)
    for a, b in itertools.pairwise(_cut(start, stop, n)):
        yield Chunk(a, b, label)


def _cut(start: int, stop: int, parts: int) -> list[int]:
    """Return the edges of ``parts`` ranges of nearly equal length; an empty list for no parts."""
    return [start + (stop - start) * k // parts for k in range(parts + 1)] if parts else []
