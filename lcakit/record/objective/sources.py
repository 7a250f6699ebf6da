"""Where the examples of an evaluation set come from: tensors to slice, items to collate, or batches that are ready.

Whatever the user gives becomes one of three sources, which hand out batches by the numbers of their examples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lcakit.errors import ObjectiveError
from lcakit.record.objective.trees import describe_tree, leaves, mapped, tensors, to_tensors

__all__ = ["Columns", "Items", "Ready", "Source", "first_length", "is_dataset", "ranges", "tree_bytes"]


def __dir__() -> list[str]:
    return __all__


_AT_ONCE = 256  # items that are read and collated at a time


@dataclass
class Columns:
    """Examples as rows of tensors in any nesting: every range of rows is a batch.

    With ``order`` the rows are gathered when they are asked for, else they are in that order already.
    """

    tree: Any
    order: torch.Tensor | None = None

    edges: ClassVar[None] = None

    @property
    def n_examples(self) -> int:
        """Rows."""
        return len(tensors(self.tree)[0])

    def take(self, start: int, stop: int) -> Any:
        """Return a range of rows."""
        rows = slice(start, stop) if self.order is None else self.order[start:stop]
        return mapped(lambda leaf: leaf[rows], self.tree)

    def reordered(self, order: torch.Tensor) -> Columns:
        """Return the same rows in another order, gathered when they are asked for."""
        return Columns(self.tree, order if self.order is None else self.order[order])

    def settled(self, device: torch.device) -> Columns:
        """Return the same rows in their order on a device."""
        order = self.order
        tree = self.tree if order is None else mapped(lambda leaf: leaf[order.to(leaf.device)], self.tree)
        return Columns(mapped(lambda leaf: leaf.to(device), tree))


@dataclass
class Items:
    """Items of a Dataset, read by their numbers and collated when they are asked for."""

    dataset: Any
    collate: Callable[[list[Any]], Any]
    workers: int = 0
    order: Sequence[int] | None = None

    edges: ClassVar[None] = None

    @property
    def n_examples(self) -> int:
        """Items."""
        return len(self.dataset)

    def read(self, start: int, stop: int) -> list[Any]:
        """Return a range of items."""
        return read_items(self.dataset, self._numbers(start, stop))

    def take(self, start: int, stop: int) -> Any:
        """Return a batch of a range of items."""
        return collated(self.collate, self.read(start, stop))

    def stream(self, ranges: Sequence[tuple[int, int]]) -> Iterator[Any]:
        """Yield a batch for each range, read ahead by worker processes where there are any."""
        batches = [list(self._numbers(*each)) for each in ranges]
        generator = torch.Generator()  # DataLoader draws a seed for its workers, not from the program's generator
        loader = DataLoader(
            self.dataset,
            batch_sampler=batches,
            collate_fn=lambda items: items if self.workers == 0 else collated(self.collate, items),
            num_workers=self.workers,
            generator=generator,
        )
        for batch in loader:
            yield collated(self.collate, batch) if self.workers == 0 else batch

    def reordered(self, order: torch.Tensor) -> Items:
        """Return the same items in another order."""
        present = range(self.n_examples) if self.order is None else self.order
        return Items(self.dataset, self.collate, self.workers, [present[k] for k in order.tolist()])

    def in_memory(self) -> Columns | Items:
        """Return the items, read once: as tensors to slice where they can be, else one by one."""
        batches: list[Any] | None = []
        items: list[Any] = []
        for start in range(0, self.n_examples, _AT_ONCE):
            some = self.read(start, min(start + _AT_ONCE, self.n_examples))
            items += some
            if batches is not None:
                batch = _try_collate(self.collate, some)
                batches = [*batches, batch] if _rows(batch) == len(some) else None
        joined = _joined(batches) if batches else None
        return Items(items, self.collate) if joined is None else Columns(joined)

    def _numbers(self, start: int, stop: int) -> Sequence[int]:
        return range(start, stop) if self.order is None else self.order[start:stop]


@dataclass
class Ready:
    """Batches as the user made them, of ``lengths`` examples each."""

    batches: list[Any]
    lengths: list[int]

    @property
    def n_examples(self) -> int:
        """Examples of all batches."""
        return sum(self.lengths)

    @property
    def edges(self) -> list[int]:
        """Where batches begin, and where the last one ends."""
        return [0, *np.cumsum(self.lengths).tolist()]

    def take(self, start: int, stop: int) -> Any:
        """Return the batch that begins at ``start``."""
        return self.batches[self.edges.index(start)]

    def reordered(self, order: torch.Tensor) -> Ready:
        """Fail: examples of ready batches stay where they are."""
        raise ObjectiveError("ready batches cannot be put into another order")


Source = Columns | Items | Ready
"""Examples in some order; ``edges`` are those of batches that cannot be cut otherwise, or None."""


def read_items(dataset: Any, numbers: Sequence[int]) -> list[Any]:
    """Return items of a Dataset by their numbers, as ``DataLoader`` reads them.

    Raises
    ------
    ObjectiveError
        If the Dataset fails.
    """
    try:
        together = getattr(dataset, "__getitems__", None)
        return list(together(list(numbers))) if callable(together) else [dataset[int(k)] for k in numbers]
    except Exception as error:
        first = f"{numbers[0]} … {numbers[-1]}" if len(numbers) else "none"
        raise ObjectiveError(
            f"the Dataset cannot be read: items {first} gave {type(error).__name__}: {error}. Its items must be "
            "there for the numbers 0 … len(dataset) - 1."
        ) from error


def collated(collate: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """Return a batch of items, with tensors.

    Raises
    ------
    ObjectiveError
        If they cannot be collated.
    """
    try:
        return to_tensors(collate(items))
    except ObjectiveError:
        raise
    except Exception as error:
        remedy = (
            "collate_fn=… makes a batch of a list of items (it pads sequences of different length); images need a "
            "transform such as torchvision's ToTensor()."
        )
        told = describe_tree(items[0]) if items else "none"
        raise ObjectiveError(
            f"the Dataset's items cannot be collated into batches ({type(error).__name__}: {error}); the first is "
            f"{told}. {remedy}"
        ) from error


def ranges(source: Source) -> Iterator[tuple[int, int]]:
    """Yield the ranges of examples that a source is read in, batch by batch, from the first to the last."""
    edges = source.edges or [*range(0, source.n_examples, _AT_ONCE), source.n_examples]
    return itertools.pairwise(edges)


def first_length(batch: Any) -> int:
    """Return the number of examples of a ready batch, the length of its first tensor; 0 where it has none."""
    return next((len(tensor) for tensor in tensors(batch) if tensor.dim()), 0)


def tree_bytes(tree: Any) -> int:
    """Return the bytes of the tensors of a nesting."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors(tree))


def is_dataset(data: Any) -> bool:
    """Say whether data is a map-style Dataset, of PyTorch or like one."""
    if isinstance(data, Dataset):
        return True
    plain = isinstance(data, dict | list | tuple | str | bytes | np.ndarray | torch.Tensor)
    return not plain and hasattr(data, "__getitem__") and hasattr(data, "__len__") and not hasattr(data, "keys")


def _try_collate(collate: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    try:
        return collated(collate, items)
    except ObjectiveError:
        if len(items) == _AT_ONCE:  # a collate function may be made for smaller batches
            return None
        raise


def _rows(batch: Any) -> int | None:
    """Return the rows that all leaves of a batch have; None where it is not made of such tensors."""
    parts = list(leaves(batch))
    if not parts or not all(isinstance(part, torch.Tensor) and part.dim() for part in parts):
        return None
    lengths = {len(part) for part in parts}
    return lengths.pop() if len(lengths) == 1 else None


def _joined(batches: list[Any]) -> Any:
    """Return batches one after the other as columns; None where their shapes or kinds differ."""
    kinds = {tuple((part.shape[1:], part.dtype) for part in tensors(batch)) for batch in batches}
    if len(kinds) != 1 or len({describe_tree(mapped(lambda leaf: 0, batch), 99) for batch in batches}) != 1:
        return None
    columns = iter([torch.cat(parts) for parts in zip(*map(tensors, batches), strict=True)])
    return mapped(lambda leaf: next(columns), batches[0])
