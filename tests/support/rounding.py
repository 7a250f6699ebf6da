"""Rounding of mantissas in plain Python, to compare with."""

from __future__ import annotations

import math

import numpy as np

SMALLEST = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)


def slow_rounded(x: float, keepbits: int) -> float:
    """Twin: Python's own rounding (half to even) of the mantissa as an exact number."""
    if x == 0 or not math.isfinite(x) or abs(x) < SMALLEST:
        return x
    mantissa, exponent = math.frexp(x)  # 0.5 <= |mantissa| < 1: the leading bit, then keepbits more
    scale = 2 ** (keepbits + 1)
    y = math.ldexp(round(mantissa * scale) / scale, exponent)
    return x if abs(y) > LARGEST else y


def slow_error(exact: np.ndarray, stored: np.ndarray) -> float:
    pairs = zip(exact.ravel().tolist(), stored.ravel().tolist(), strict=True)
    return max((abs(y - x) / abs(x) for x, y in pairs if x != 0 and math.isfinite(x)), default=0.0)
