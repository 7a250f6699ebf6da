"""Large arrays as pictures: a pixel that stands for many values shows the one of largest magnitude.

A mean would cancel helping against hurting, and a sample would miss the outliers that carry the learning.
"""

from __future__ import annotations

import numpy as np

MOST_PIXELS = 1_000
"""Most pixels along one side of an image: more than a screen shows at this size."""


def strongest(values: np.ndarray, blocks: tuple[np.ndarray, ...]) -> np.ndarray:
    r"""Reduce an array to blocks, keeping of each the value of largest magnitude (of two equal ones the positive).

    .. math:: B[p, q] = A[\arg\max_{(i, j) \in p × q} |A[i, j]|]

    Parameters
    ----------
    values
        (rows, columns, …).
    blocks
        For each axis the first index and the index after the last of each block: (n, 2) integers. Blocks may overlap.

    Returns
    -------
    ndarray
        One value a block; NaN only where all are.

    Examples
    --------
    >>> strongest(np.array([[1.0, -3.0, 2.0]]), (even_blocks(1, 1), even_blocks(3, 2)))
    array([[-3.,  2.]])
    """
    low = high = np.asarray(values)
    for axis, ends in enumerate(blocks):
        low, high = _reduced(np.fmin, low, ends, axis), _reduced(np.fmax, high, ends, axis)
    return np.where(-low > high, low, high)


def _reduced(ufunc: np.ufunc, values: np.ndarray, ends: np.ndarray, axis: int) -> np.ndarray:
    """Reduce each block of an axis: ``reduceat`` over (start, stop) pairs, where every other result is a block."""
    if np.array_equal(ends[:, 0], np.arange(values.shape[axis])) and (np.diff(ends) == 1).all():
        return values
    last = np.take(values, [-1], axis=axis)  # so that a stop may lie after the last entry
    return ufunc.reduceat(np.concatenate([values, last], axis=axis), ends.reshape(-1), axis=axis).take(
        np.arange(len(ends)) * 2, axis=axis
    )


def even_blocks(n: int, pixels: int) -> np.ndarray:
    """Return the ends of at most ``pixels`` neighbouring blocks of n entries, nearly equal in size."""
    edges = np.linspace(0, n, min(n, pixels) + 1).round().astype(np.int64)
    return np.column_stack([edges[:-1], edges[1:]])


def label_blocks(labels: np.ndarray, pixels: int, end: float | None = None) -> tuple[np.ndarray, tuple[float, float]]:
    """Return blocks that are evenly spaced along a rising axis, and the ends of that axis.

    Entry k reaches from label k to label k + 1 (the last one to ``end``, or as far as the one before), so an uneven
    recording keeps its time scale.

    Returns
    -------
    blocks
        (n, 2), n ≤ ``pixels``: the entries that each pixel touches.
    ends
        Where the axis begins and ends.
    """
    at = np.asarray(labels, np.float64)
    last = at[-1] - at[-2] if at.size > 1 else 1.0
    edges = np.append(at, at[-1] + last if end is None else end)
    steps = np.diff(edges)
    ends = float(edges[0]), float(edges[-1])
    if np.allclose(steps, steps[0]):
        return even_blocks(at.size, pixels), ends
    n = min(pixels, int(np.ceil((ends[1] - ends[0]) / steps.min())))
    borders = np.linspace(*ends, n + 1)
    first = np.searchsorted(edges, borders[:-1], side="right") - 1
    after = np.searchsorted(edges, borders[1:], side="left")
    return np.column_stack([first, np.maximum(after, first + 1)]), ends
