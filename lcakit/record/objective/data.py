"""The evaluation set: which examples make a batch, where they are kept, and the groups that they belong to."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lcakit.errors import ObjectiveError
from lcakit.record.objective.groups import Groups
from lcakit.record.objective.sources import Columns, Items, Ready, Source
from lcakit.record.objective.trees import apart, cloned, mapped, tensors, with_first

__all__ = ["Batch", "Chunk", "EvaluationSet", "Storage"]


def __dir__() -> list[str]:
    return __all__


_FEW = 16  # examples for which a layout is tried


@dataclass(frozen=True)
class Chunk:
    """A contiguous range of evaluation examples: their group if they all have the same, else the groups present."""

    start: int
    stop: int
    label: int | None = None
    present: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """A batch on the device: what the loss gets, the group of each example or position, and weights of examples."""

    content: Any
    groups: torch.Tensor | None = None
    weights: torch.Tensor | None = None


@dataclass(frozen=True)
class Storage:
    """Where examples are kept and how: on ``device`` if they are resident, their numbers cast by ``cast``."""

    device: torch.device
    cast: Callable[[torch.Tensor], torch.Tensor]
    resident: bool = True

    def put(self, tree: Any) -> Any:
        """Return a batch on the device."""

        def move(leaf: Any) -> Any:
            if isinstance(leaf, torch.Tensor):
                leaf = self.cast(leaf)
                if self.device.type == "cuda" and leaf.device.type == "cpu" and not self.resident:
                    return leaf.pin_memory().to(self.device, non_blocking=True)
                return leaf.to(self.device)
            return leaf.to(self.device) if hasattr(leaf, "to") else leaf

        return mapped(move, tree)


class EvaluationSet:
    """The examples of an objective, in an order in which passes over them are cheap.

    Parameters
    ----------
    source
        Examples in the user's order.
    groups
        Groups of examples or positions.
    storage
        Where they are kept.
    keep_order
        True where a batch is part of the objective (a layer couples its examples, or noise is fixed for it): the
        partition into batches is fixed then.
    size
        Examples of a batch of items that are collated now.
    weights
        One for each example, in the user's order, or None.
    written
        Whether a pass writes into its batch, which then is a copy.
    """

    def __init__(
        self,
        source: Source,
        groups: Groups,
        storage: Storage,
        keep_order: bool,
        size: int,
        weights: torch.Tensor | None = None,
        written: bool = False,
    ) -> None:
        self.n_examples = source.n_examples
        self.keep_order = keep_order
        self.groups, self.storage = groups, storage
        self.class_counts = self.class_order = None
        self.written = written
        self._sorted = False
        self._may_change = isinstance(source, Items) and not storage.resident
        labels = groups.labels
        if labels is not None:
            order = torch.argsort(labels, stable=True)
            self.class_counts = torch.bincount(labels, minlength=groups.n).tolist()
            if keep_order or source.edges is not None:
                self.class_order = order.to(storage.device)
            else:  # one contiguous range per group: gradients by group then cost nothing extra
                source, labels, self._sorted = source.reordered(order), labels[order], True
                weights = None if weights is None else weights[order.to(weights.device)]
        self.source = self._settled(source, size)
        self._labels = None if labels is None else labels.to(storage.device)
        self._weights = None if weights is None else storage.put(weights)
        self._host_labels = None if labels is None else labels.cpu().numpy()
        self._seen: dict[tuple[int, int], int] = {}
        self._layout: dict[str, Any] = {}

    @property
    def fixed(self) -> bool:
        """Whether batches cannot be cut otherwise."""
        return self.keep_order or self.source.edges is not None

    @property
    def by_products(self) -> bool:
        """Whether a gradient by group takes a vector-Jacobian product for each group: batches mix them."""
        return self.groups.n > 0 and not self._sorted

    @property
    def x(self) -> torch.Tensor:
        """The first tensor of the examples: what a network's memory layout is chosen for."""
        return tensors(self.source.tree if isinstance(self.source, Columns) else self.source.take(0, 1))[0]

    def lay_out(self, choose: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Store it, or what is read anew of it, in the memory layout and type that ``choose`` returns it in."""
        if isinstance(self.source, Columns) and self.storage.resident:
            self.source = Columns(with_first(self.source.tree, choose(self.x)))
        elif not self.storage.resident:
            found = choose(tensors(self.take(0, min(_FEW, self.n_examples)).content)[0])
            last = found.dim() == 4 and found.stride(1) == 1
            self._layout = {
                "dtype": found.dtype,
                "memory_format": torch.channels_last if last else torch.preserve_format,
            }

    def _settled(self, source: Source, size: int) -> Source:
        """Return the examples where they are kept: in memory of the device, or as they are."""
        if not self.storage.resident:
            return source
        if isinstance(source, Columns):  # what the loop writes into its own arrays is none of the objective's
            return Columns(apart(self.storage.put(source.settled(self.storage.device).tree), source.tree))
        if isinstance(source, Items):
            parts = list(itertools.pairwise(self._edges(size)))
            source = Ready([source.take(a, b) for a, b in parts], [b - a for a, b in parts])
        return Ready([apart(self.storage.put(batch), batch) for batch in source.batches], source.lengths)

    def _edges(self, size: int) -> list[int]:
        """Return the edges of batches of at most ``size`` examples, each of one group where they are sorted."""
        ends = (
            [0, *itertools.accumulate(self.class_counts)]
            if self._sorted and self.class_counts
            else [0, self.n_examples]
        )
        starts = (start for a, b in itertools.pairwise(ends) for start in range(a, b, size))
        return [*starts, self.n_examples]

    # ---- which examples make a batch ---------------------------------------------------------------------------

    def shares(self, workers: int, size: int, by_class: bool) -> list[list[Chunk]]:
        """Divide the examples among workers: for each a list, never empty, of chunks of at most ``size`` examples.

        Where the partition is fixed every batch but the last has exactly ``size`` examples, or those that the user
        gave, and workers get whole batches. Else they get equally many examples, cut into even chunks; ``by_class``
        ends a chunk where its group ends.
        """
        edges = self.source.edges
        if edges is None and self.keep_order:
            edges = [*range(0, self.n_examples, size), self.n_examples]
        if edges is not None:
            batches = [self._batch(start, stop, by_class) for start, stop in itertools.pairwise(edges)]
            cuts = _cut(0, len(batches), workers)
            shares = [batches[a:b] for a, b in itertools.pairwise(cuts)]
        else:
            cuts = _cut(0, self.n_examples, workers)
            shares = [list(self._chunks(a, b, size, by_class)) for a, b in itertools.pairwise(cuts)]
        return [share for share in shares if share]

    def _batch(self, start: int, stop: int, by_class: bool) -> Chunk:
        if not by_class or self._host_labels is None:
            return Chunk(start, stop)
        present = tuple(int(label) for label in np.unique(self._host_labels[start:stop]))
        return (
            Chunk(start, stop, present[0]) if self._sorted and len(present) == 1 else Chunk(start, stop, None, present)
        )

    def _chunks(self, start: int, stop: int, size: int, by_class: bool) -> Iterator[Chunk]:
        if not (by_class and self._sorted and self.class_counts):
            yield from _even(start, stop, size, None)
            return
        first = 0
        for label, count in enumerate(self.class_counts):
            yield from _even(max(start, first), min(stop, first + count), size, label)
            first += count

    # ---- their numbers -----------------------------------------------------------------------------------------

    def batches(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Batch]]:
        """Yield each chunk with its batch on the device."""
        contents: Iterator[Any]
        if isinstance(self.source, Items):
            contents = self.source.stream([(chunk.start, chunk.stop) for chunk in chunks])
        else:
            contents = (self.source.take(chunk.start, chunk.stop) for chunk in chunks)
        for chunk, content in zip(chunks, contents, strict=True):
            if not self.storage.resident:
                if self._may_change:
                    self._check(chunk, content)
                content = self._put(content)
            yield chunk, self.as_batch(chunk.start, chunk.stop, content)

    def as_batch(self, start: int, stop: int, content: Any) -> Batch:
        """Return a batch with its groups and weights."""
        where = slice(start, stop)
        content = cloned(content) if self.written else content
        groups = None if self._labels is None else self._labels[where]
        if self.groups.of_positions is not None:
            groups = self.groups.of_positions(content, where, self.storage.device)
        return Batch(content, groups, None if self._weights is None else self._weights[where])

    def take(self, start: int, stop: int) -> Batch:
        """Return the batch of a range of examples on the device."""
        content = self.source.take(start, stop)
        return self.as_batch(start, stop, content if self.storage.resident else self._put(content))

    def _put(self, content: Any) -> Any:
        """Return a batch that was read anew, on the device and in its layout."""
        content = self.storage.put(content)
        if not self._layout or not tensors(content):
            return content
        return with_first(content, tensors(content)[0].to(**self._layout))

    def _check(self, chunk: Chunk, content: Any) -> None:
        """Raise ObjectiveError if a batch that is read anew is not the same as when it was read first."""
        code = 0
        for tensor in tensors(content):
            code = zlib.crc32(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data, code)
        if self._seen.setdefault((chunk.start, chunk.stop), code) != code:
            raise ObjectiveError(
                f"the examples {chunk.start} … {chunk.stop - 1} are not those of an earlier pass: the data change, so "
                "the loss is not a function of the parameters. Pass a Dataset without random transforms, or "
                "resident=True, which reads it once."
            )


def _even(start: int, stop: int, size: int, label: int | None) -> Iterator[Chunk]:
    n = -(-max(stop - start, 0) // size)
    for a, b in itertools.pairwise(_cut(start, stop, n)):
        yield Chunk(a, b, label)


def _cut(start: int, stop: int, parts: int) -> list[int]:
    """Return the edges of ``parts`` ranges of nearly equal length; an empty list for no parts."""
    return [start + (stop - start) * k // parts for k in range(parts + 1)] if parts else []
