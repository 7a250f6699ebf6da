"""Sums over windows of neighbouring rows, in any chunks, at bounded memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np

from lcakit.trajectory.labels import runs_of

__all__ = ["sum_windows"]


def __dir__() -> list[str]:
    return __all__


def sum_windows(data: Any, size: int) -> Any:
    """Sum the last axis but one of an array (…, T, K) over windows of ``size`` rows; the last may be shorter.

    Returns
    -------
    array
        (…, ceil(T / size), K), float64; lazy where ``data`` is.
    """
    axis = data.ndim - 2
    windows = np.arange(data.shape[axis]) // size
    if not isinstance(data, da.Array):
        return _sum_runs_of_rows(np.asarray(data), windows[:, None])
    rows = max(data.chunks[axis], default=1)
    if size <= rows:  # windows end with blocks, so no window is in two of them
        data = data.rechunk({axis: rows // size * size})
    edges = np.cumsum([0, *data.chunks[axis]])
    parts = [np.unique(windows[a:b]) for a, b in pairwise(edges)]
    lead, columns = data.chunks[:-2], data.chunks[-1]
    options = {"dtype": np.float64, "meta": np.empty((0,) * data.ndim)}
    labels = da.from_array(windows[:, None], chunks=(data.chunks[axis], 1))
    chunks = (*lead, tuple(part.size for part in parts), columns)
    partial = da.map_blocks(_sum_runs_of_rows, data, labels, chunks=chunks, **options)
    if size <= rows:
        return partial
    counts = tuple(int(n) for n in np.bincount(np.concatenate([*parts, []]).astype(int)))
    whole = partial.rechunk({axis: counts})
    return whole.map_blocks(np.sum, axis=axis, keepdims=True, chunks=(*lead, (1,) * len(counts), columns), **options)


def _sum_runs_of_rows(block: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Sum runs of rows of one window; a slice's sum is ten times quicker than ``np.add.reduceat`` over rows."""
    starts, _ = runs_of(windows[:, 0])
    out = np.empty((*block.shape[:-2], starts.size, block.shape[-1]))
    for k, (a, b) in enumerate(pairwise([*starts, block.shape[-2]])):
        block[..., a:b, :].sum(axis=-2, dtype=np.float64, out=out[..., k, :])
    return out
