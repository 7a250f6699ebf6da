"""Probabilities that two Gaussian numbers have opposite signs."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr, owens_t

__all__ = ["opposite_signs"]


def __dir__() -> list[str]:
    return __all__


def opposite_signs(var_x: Any, var_y: Any, cov: Any, mean_x: Any = 0.0, mean_y: Any = 0.0) -> np.ndarray:
    r"""Return the probability that x and y, jointly Gaussian, have opposite signs.

    .. math:: P(xy < 0) = \frac1π \arccos ρ \quad\text{for means of zero}

    and :math:`Φ(h) + Φ(k) - 2 Φ_2(h, k; ρ)` with :math:`h = -μ_x / σ_x`, :math:`k = -μ_y / σ_y` otherwise, the
    bivariate Φ₂ by Owen's T. Where one moves with the other (ρ = ±1, as after a start that does not vary) both signs
    are those of one normal number on either side of h and of ρk, so that the probability is
    :math:`|Φ(h) - Φ(k)|` for ρ = 1 and :math:`1 - |Φ(h) - Φ(-k)|` for ρ = −1. A number that cannot vary has the sign
    of its mean.

    Parameters
    ----------
    var_x, var_y, cov
        Variances and covariance; they broadcast.
    mean_x, mean_y
        Means.

    Returns
    -------
    array
        0 to 1.
    """
    numbers = [np.asarray(v, np.float64) for v in (var_x, var_y, cov, mean_x, mean_y)]
    vx, vy, c, mx, my = np.broadcast_arrays(*numbers)
    sx, sy = np.sqrt(vx), np.sqrt(vy)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.sqrt(np.maximum(vx * vy - c**2, 0)) / (sx * sy)  # √(1 − ρ²)
        rho = c / (sx * sy)
        centred = np.arctan2(rest, rho) / np.pi
        h, k = -mx / sx, -my / sy
        general = _with_means(h, k, rho, rest)
        together = _moving_together(h, k, rho)
    out = np.where((mx == 0) & (my == 0), centred, general)
    out = np.where(rest < 1e-7, together, out)
    still = (vx == 0) | (vy == 0)
    return np.where(still, _one_still(mx, my, sx, sy), out)


def _with_means(h: np.ndarray, k: np.ndarray, rho: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return Φ(h) + Φ(k) − 2 Φ₂(h, k; ρ) (Owen, 1956)."""
    one = 2 * (_owen(h, (k - rho * h) / rest) + _owen(k, (h - rho * k) / rest))
    opposite = (h * k < 0) | ((h * k == 0) & (h + k < 0))
    probability: np.ndarray = one + opposite
    return probability


def _moving_together(h: np.ndarray, k: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Return the probability for ρ = ±1: signs differ between the two places where x and y cross zero, or outside."""
    between = np.abs(ndtr(h) - ndtr(np.where(rho < 0, -k, k)))
    probability: np.ndarray = np.where(rho < 0, 1 - between, between)
    return probability


def _owen(h: np.ndarray, numerator: np.ndarray) -> np.ndarray:
    """Return T(h, numerator / h), with its limit at h = 0: a quarter of the sign."""
    t: np.ndarray = np.where(h == 0, np.sign(numerator) / 4, owens_t(h, numerator / h))
    return t


def _one_still(mx: np.ndarray, my: np.ndarray, sx: np.ndarray, sy: np.ndarray) -> np.ndarray:
    """Return the probability where x or y does not vary: Φ(−μ/σ) of the other, or a comparison of signs."""
    sign = np.where(sx == 0, np.sign(mx), np.sign(my))
    mean, deviation = np.where(sx == 0, my, mx), np.where(sx == 0, sy, sx)
    with np.errstate(divide="ignore", invalid="ignore"):
        opposite = ndtr(-sign * mean / deviation)
    opposite = np.where(deviation == 0, sign * mean < 0, opposite)
    return np.where(sign == 0, 0.0, opposite)
