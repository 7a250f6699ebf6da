"""Sign changes over rows: each block reports its count and its first and last nonzero signs; blocks merge in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lcakit.analysis.kernels.missing import any_missing

__all__ = ["Signs", "columns", "merge", "movement_signs", "value_signs"]


def __dir__() -> list[str]:
    return __all__


_TILE = 32_768  # columns at a time

_Pairs = Iterator[tuple[np.ndarray, np.ndarray]]
_Steps = Callable[[np.ndarray], _Pairs]


@dataclass(frozen=True)
class Signs:
    """Sign changes in a block (…, K), and of how many values; first and last nonzero signs (0: none), as int8.

    ``there`` is one number for all columns, of no dimension, where none is missing. For movement also the end rows.
    """

    count: np.ndarray
    there: np.ndarray
    first: np.ndarray
    last: np.ndarray
    head: np.ndarray | None = None
    tail: np.ndarray | None = None


def columns(signs: Signs) -> np.ndarray:
    """Return the numbers of changes and of values that are there (…, 2, K)."""
    return np.stack([signs.count, np.broadcast_to(signs.there, signs.count.shape)], axis=-2)


def merge(a: Signs, b: Signs) -> Signs:
    """Join the summaries of two neighbouring blocks, with the move between them where they have end rows."""
    if a.tail is not None and b.head is not None:
        step = _sign(b.head > a.tail, b.head < a.tail)
        missing = a.there.ndim or b.there.ndim
        there = ~(np.isnan(b.head) | np.isnan(a.tail)) if missing else np.True_
        a = _join(a, Signs(np.zeros((), np.int64), np.asarray(there, np.int64), step, step))
    return _join(a, b)


def _join(a: Signs, b: Signs) -> Signs:
    count = a.count + b.count
    count += a.last * b.first < 0
    return Signs(count, a.there + b.there, _or(a.first, b.first), _or(b.last, a.last), a.head, b.tail)


def _or(signs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return signs, and others in place of zeros: the product of small integers is several times a choice's speed."""
    out: np.ndarray = others * (signs == 0)
    out += signs
    return out


def value_signs(block: np.ndarray) -> Signs:
    """Summarize the signs of the values in a block (…, t, K)."""
    rows = np.moveaxis(block, -2, 0)
    return _signs(rows, len(rows), _with_zero, lambda part: ~np.isnan(part))


def movement_signs(block: np.ndarray) -> Signs:
    """Summarize the signs of the differences of neighbouring rows in a block (…, t, K)."""
    rows = np.moveaxis(block, -2, 0)
    inside = _signs(rows, len(rows) - 1, pairwise, lambda part: ~np.isnan(part[1:]) & ~np.isnan(part[:-1]))
    return replace(inside, head=rows[0].copy(), tail=rows[-1].copy())


def _with_zero(rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    zero = np.zeros((), rows.dtype)
    return ((zero, row) for row in rows)


def _signs(rows: np.ndarray, most: int, steps: _Steps, there_in: Callable[[np.ndarray], np.ndarray]) -> Signs:
    """Scan rows (t, …, K) in tiles of columns, so that what is known of each column stays in the cache.

    ``most`` steps are there in each column, or those that ``there_in`` finds in a tile where a number is missing.
    """
    shape, there = rows.shape[1:], np.array(most, np.int64)
    count, first, last = np.zeros(shape, np.int64), np.zeros(shape, np.int8), np.zeros(shape, np.int8)
    for start in range(0, shape[-1], _TILE):
        tile = (..., slice(start, start + _TILE))
        missing = any_missing(rows[tile])
        count[tile], first[tile], last[tile] = _scan(steps(rows[tile]), count[tile].shape, missing)
        if missing:
            there = there if there.ndim else np.full(shape, most, np.int64)
            there[tile] = there_in(rows[tile]).sum(axis=0, dtype=np.int64)
    return Signs(count, there, first, last)


def _scan(steps: _Pairs, shape: tuple[int, ...], missing: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the number of changes, and the first and last nonzero sign, of steps from one array to the next.

    Every column begins as if it had gone down: that makes one change too many where the first step goes up. Booleans
    in place, and bytes to count: several times faster than signs.
    """
    count, few = np.zeros(shape, np.int64), np.zeros(shape, np.uint8)
    up, moved, other, rises, seen, began_up = (np.zeros(shape, bool) for _ in range(6))
    unseen = True
    for row, (before, after) in enumerate(steps, 1):
        np.greater(after, before, out=up)
        if missing:
            np.logical_or(up, np.less(after, before, out=other), out=moved)
        else:
            np.not_equal(after, before, out=moved)
        if unseen and np.greater(moved, seen, out=other).any():
            np.copyto(began_up, up, where=other)
            seen |= moved
            unseen = not seen.all()
        up ^= rises
        up &= moved  # where the direction changes
        rises ^= up
        few += up.view(np.uint8)
        if row % 255 == 0:
            count += few
            few[:] = 0
    count += few
    count -= began_up
    return count, _sign(began_up, seen & ~began_up), _sign(rises, seen & ~rises)


def _sign(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    return up.astype(np.int8) - down.astype(np.int8)
