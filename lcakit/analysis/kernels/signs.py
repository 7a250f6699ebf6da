"""Sign changes over rows: each block reports its count and its first and last nonzero signs; blocks merge in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lcakit.analysis.kernels.missing import any_missing

__all__ = ["Signs", "columns", "merge", "movement_signs", "value_signs"]


def __dir__() -> list[str]:
    return __all__


_Masks = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Signs:
    """Sign changes in a block (…, K), and of how many values; first and last nonzero signs (0: none).

    For movement also the end rows.
    """

    count: np.ndarray
    there: np.ndarray
    first: np.ndarray
    last: np.ndarray
    head: np.ndarray | None = None
    tail: np.ndarray | None = None


def columns(signs: Signs) -> np.ndarray:
    """Return the numbers of changes and of values that are there (…, 2, K)."""
    return np.stack([signs.count, signs.there], axis=-2)


def merge(a: Signs, b: Signs) -> Signs:
    """Join the summaries of two neighbouring blocks, with the move between them where they have end rows."""
    if a.tail is not None and b.head is not None:
        up, down = b.head > a.tail, b.head < a.tail
        step = _sign(up, down)
        there = ~(np.isnan(b.head) | np.isnan(a.tail))
        a = _join(a, Signs(np.zeros_like(a.count), there.astype(np.int64), step, step))
    return _join(a, b)


def _join(a: Signs, b: Signs) -> Signs:
    count = a.count + b.count + (a.last * b.first < 0)
    first = np.where(a.first != 0, a.first, b.first)
    last = np.where(b.last != 0, b.last, a.last)
    return Signs(count, a.there + b.there, first, last, a.head, b.tail)


def value_signs(block: np.ndarray) -> Signs:
    """Summarize the signs of the values in a block (…, t, K)."""
    rows = np.moveaxis(block, -2, 0)
    there = _number(rows, lambda rows: ~np.isnan(rows), len(rows))
    return _scan(((row > 0, row < 0) for row in rows), there)


def movement_signs(block: np.ndarray) -> Signs:
    """Summarize the signs of the differences of neighbouring rows in a block (…, t, K)."""
    rows = np.moveaxis(block, -2, 0)
    steps = pairwise(rows)
    there = _number(rows, lambda rows: ~np.isnan(rows[1:]) & ~np.isnan(rows[:-1]), len(rows) - 1)
    inside = _scan(((after > before, after < before) for before, after in steps), there)
    return Signs(inside.count, there, inside.first, inside.last, rows[0].copy(), rows[-1].copy())


def _number(rows: np.ndarray, there: Callable[[np.ndarray], np.ndarray], most: int) -> np.ndarray:
    """Count, over rows (t, …, k), the values that are there; ``most`` where none is missing."""
    if any_missing(rows):
        return np.asarray(there(rows).sum(axis=0, dtype=np.int64))
    return np.full(rows.shape[1:], most, np.int64)


def _scan(masks: _Masks, there: np.ndarray) -> Signs:
    """Run over (positive, negative) masks in order. Booleans, and bytes to count: several times faster than signs."""
    shape = there.shape
    count, bytes_ = np.zeros(shape, np.int64), np.zeros(shape, np.uint8)
    first = np.zeros(shape, np.int8)
    was_up, was_down = np.zeros(shape, bool), np.zeros(shape, bool)
    unseen = True
    for row, (up, down) in enumerate(masks, 1):
        if unseen:
            first = np.where(first == 0, _sign(up, down), first)
            unseen = not first.all()
        changes = up & was_down
        changes |= down & was_up
        bytes_ += changes.view(np.uint8)
        if row % 255 == 0:
            count += bytes_
            bytes_[:] = 0
        was_up &= ~down
        was_up |= up
        was_down &= ~up
        was_down |= down
    return Signs(count + bytes_, there, first, _sign(was_up, was_down))


def _sign(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    return up.astype(np.int8) - down.astype(np.int8)
