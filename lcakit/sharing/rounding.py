"""Numbers with fewer bits: rounded so that they compress well, and the relative error this makes."""

from __future__ import annotations

import numpy as np

__all__ = ["MANTISSA", "relative_error", "rounded"]


def __dir__() -> list[str]:
    return __all__


MANTISSA = 23
"""Bits of the mantissa of float32 that are stored."""


def rounded(values: np.ndarray, keepbits: int) -> np.ndarray:
    """Round float32 numbers to ``keepbits`` bits of the mantissa, to the nearest, ties to even.

    Zero, infinity, NaN, numbers below 1.2e-38 and those that would become infinite stay as they are.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    drop = MANTISSA - keepbits
    if drop == 0:
        return bits.view(np.float32)
    half, last = np.uint32((1 << (drop - 1)) - 1), np.uint32(1)
    exponent = np.uint32(0x7F800000)
    out = bits + (half + ((bits >> np.uint32(drop)) & last))
    out &= np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
    keep = ((bits & exponent) == 0) | ((bits & exponent) == exponent) | ((out & exponent) == exponent)
    np.copyto(out, bits, where=keep)
    return out.view(np.float32)


def relative_error(exact: np.ndarray, stored: np.ndarray) -> float:
    """Return the largest |stored − exact| / |exact|, over finite numbers that are not zero."""
    scale = np.abs(exact)
    counts = np.isfinite(scale) & (scale > 0)
    miss = np.subtract(stored, exact, where=counts, out=np.zeros_like(scale))
    np.divide(np.abs(miss, out=miss), scale, where=counts, out=miss)
    return float(miss.max(initial=0.0))
