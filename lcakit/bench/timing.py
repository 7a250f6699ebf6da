"""How benchmarks time things beside each other, and how cost grows: medians in turns, an exponent with its error."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from scipy import stats

from lcakit.errors import DataError

__all__ = ["Key", "Work", "Works", "exponent", "grown", "medians"]


def __dir__() -> list[str]:
    return __all__


Key = TypeVar("Key", bound=Hashable)
Work = Callable[[], object]
Works = dict[str, Work]
_FEWEST = 3  # points of a line that has an error


def medians(contenders: Mapping[Key, Callable[[], object]], repeats: int) -> dict[Key, float]:
    """Time all contenders in turns, after one untimed turn; return the median of each, in seconds."""
    if repeats < 1:
        raise DataError(f"repeats must be at least 1, got {repeats}")
    times: dict[Key, list[float]] = {key: [] for key in contenders}
    for turn in range(repeats + 1):
        for key, work in contenders.items():
            began = time.perf_counter()
            work()
            if turn:
                times[key].append(time.perf_counter() - began)
    return {key: statistics.median(values) for key, values in times.items()}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> dict[str, float]:
    r"""Fit how a cost grows with a size, by least squares in both logarithms.

    .. math:: \log \mathrm{cost} = p \log \mathrm{size} + q

    Parameters
    ----------
    sizes, costs
        Positive, at least three.

    Returns
    -------
    dict
        ``exponent`` p (1: in proportion, 0: not at all) and ``error``, its standard error: the scatter around the line,
        which also holds where there is no power law.

    Raises
    ------
    DataError
        For fewer than three points, or a size or cost that is not positive.

    Examples
    --------
    >>> round(exponent([1, 10, 100], [2, 20, 200])["exponent"], 6)
    1.0
    """
    if len(sizes) != len(costs) or len(sizes) < _FEWEST:
        raise DataError(f"a fitted exponent needs at least {_FEWEST} sizes with a cost each, got {len(sizes)}")
    if min(*sizes, *costs) <= 0:
        raise DataError(f"sizes and costs must be positive, got {list(sizes)} and {list(costs)}")
    fit = stats.linregress(np.log(sizes), np.log(costs))
    return {"exponent": float(fit.slope), "error": float(fit.stderr)}


def grown(fit: Mapping[str, float]) -> str:
    """Return a fitted exponent as text: ``1.02 ± 0.03``."""
    return f"{fit['exponent']:5.2f} ± {fit['error']:.2f}"
