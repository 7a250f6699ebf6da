"""Reductions over time that need the order of the rows: each block gives a summary, summaries merge in order.

What a plain sum cannot do (sign changes, running minima) is exact across blocks without overlap: a summary keeps
what the merge needs of a block's ends. Merging goes in a tree, so that few summaries are held at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

import dask.array as da
import numpy as np
from dask.core import flatten

__all__ = ["fold"]


def __dir__() -> list[str]:
    return __all__


_Summary = TypeVar("_Summary")


def fold(
    data: Any,
    summarize: Callable[[np.ndarray], _Summary],
    merge: Callable[[_Summary, _Summary], _Summary],
    finish: Callable[[_Summary], np.ndarray],
    dtype: Any = np.float64,
    width: int | None = None,
) -> Any:
    """Reduce the last axis but one of an array (…, T, K), block by block.

    Parameters
    ----------
    summarize
        A block (…, t, k) to its summary, any object.
    merge
        The summaries of two neighbouring stretches, the earlier first, to that of both; associative.
    finish
        The summary of all rows to the result (…, k), or (…, width, k).
    width
        How many numbers the result has for each column; None: one, without an axis of its own.

    Returns
    -------
    array
        (…, K) or (…, width, K) of ``dtype``; lazy where ``data`` is.
    """
    if not isinstance(data, da.Array):
        return finish(summarize(np.asarray(data))).astype(dtype, copy=False)

    # Summaries are not arrays, so (as in Dask's own mean) each step answers with one when Dask asks for its type.
    def chunk(block: np.ndarray, axis: Any, keepdims: bool, computing_meta: bool = False) -> Any:
        return block if computing_meta else summarize(block)

    def combine(parts: Any, axis: Any, keepdims: bool, computing_meta: bool = False) -> Any:
        return parts if computing_meta else reduce(merge, flatten([parts], container=list))

    def aggregate(parts: Any, axis: Any, keepdims: bool, computing_meta: bool = False) -> np.ndarray:
        return parts if computing_meta else finish(combine(parts, axis, keepdims)).astype(dtype, copy=False)

    ndim = data.ndim - (width is None)
    options: dict[str, Any] = {"axis": data.ndim - 2, "dtype": dtype, "meta": np.empty((0,) * ndim, dtype)}
    if width is not None:
        options |= {"keepdims": True, "output_size": width}
    return da.reduction(data, chunk, aggregate, combine=combine, concatenate=False, split_every=4, **options)
