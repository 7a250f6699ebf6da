"""Sign changes over rows: each block reports its count and its first and last nonzero signs; blocks merge in order."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lcakit.analysis.kernels.missing import any_missing

__all__ = ["Signs", "columns", "merge", "movement_signs", "value_signs"]


def __dir__() -> list[str]:
    return __all__


_COLUMNS = 2**14  # at a time
_TILE = 2**18  # numbers at a time: with two booleans for each they stay in the second-level cache


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
        a = _join(a, Signs(np.zeros((), np.int32), np.asarray(there, np.int64), step, step))
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
    return _signs(np.broadcast_to(np.zeros((), rows.dtype), rows.shape), rows)


def movement_signs(block: np.ndarray) -> Signs:
    """Summarize the signs of the differences of neighbouring rows in a block (…, t, K)."""
    rows = np.moveaxis(block, -2, 0)
    return replace(_signs(rows[:-1], rows[1:]), head=rows[0].copy(), tail=rows[-1].copy())


def _signs(before: np.ndarray, after: np.ndarray) -> Signs:
    """Summarize the steps from one array (t, …, K) to the other, in stripes of columns."""
    shape, there = after.shape[1:], np.array(len(after), np.int64)
    count, first, last = np.zeros(shape, np.int32), np.zeros(shape, np.int8), np.zeros(shape, np.int8)
    for start in range(0, shape[-1], _COLUMNS):
        stripe = (..., slice(start, start + _COLUMNS))
        count[stripe], first[stripe], last[stripe], missing = _scan(before[stripe], after[stripe])
        if missing.any():
            there = there if there.ndim else np.full(shape, len(after), np.int64)
            there[stripe] -= missing
    return Signs(count, there, first, last)


def _scan(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the number of changes, the first and last nonzero sign, and the number of steps that are missing.

    Every column begins as if it had gone down: that makes one change too many where the first step goes up. Some rows
    at a time, which stay in the cache, as booleans in place: several times faster than signs, or than row by row.
    """
    shape = after.shape[1:]
    rows = max(1, min(_TILE // max(1, math.prod(shape)), 255, len(after)))  # changes of so many rows fit a byte
    up, moved = np.empty((rows + 1, *shape), bool), np.empty((rows, *shape), bool)
    count, missing = (np.zeros(shape, np.min_scalar_type(len(after))) for _ in range(2))
    up[0] = False
    began_up = np.logical_or.reduce(after[:1] > before[:1])  # most columns move at once
    seen = np.logical_or.reduce(after[:1] < before[:1]) | began_up
    for start in range(0, len(after), rows):
        old, new = before[start : start + rows], after[start : start + rows]
        was_up, is_up, moves = up[: len(new)], up[1 : len(new) + 1], moved[: len(new)]
        np.greater(new, old, out=is_up)
        np.less(new, old, out=moves)
        moves |= is_up
        always = moves.all(axis=0)
        if not always.all() and (any_missing(new) or any_missing(old[:1])):
            missing += (np.isnan(new) | np.isnan(old)).sum(axis=0, dtype=np.uint8)
        if not seen.all():
            _see(is_up, moves, seen, began_up)
        if not np.array_equal(always, seen):
            _keep_direction(was_up, is_up, moves)
        np.logical_xor(is_up, was_up, out=moves)
        count += moves.view(np.uint8).sum(axis=0, dtype=np.uint8)
        up[0] = is_up[-1]
    count -= began_up
    return count, _sign(began_up, seen & ~began_up), _sign(up[0], seen & ~up[0]), missing


def _see(up: np.ndarray, moved: np.ndarray, seen: np.ndarray, began_up: np.ndarray) -> None:
    """Note, in place, which columns have moved, and which of them began upwards."""
    seen_at_last = seen | moved.any(axis=0)
    for row, row_moved in zip(up, moved, strict=True):
        if np.array_equal(seen, seen_at_last):
            break
        began_up |= row & (row_moved > seen)
        seen |= row_moved


def _keep_direction(was_up: np.ndarray, is_up: np.ndarray, moved: np.ndarray) -> None:
    """Let a step that goes nowhere have the direction of the one before, in place, row by row."""
    kept = np.empty(is_up.shape[1:], bool)
    for before, row, row_moved in zip(was_up, is_up, moved, strict=True):
        row |= np.greater(before, row_moved, out=kept)


def _sign(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    return up.view(np.int8) - down.view(np.int8)
