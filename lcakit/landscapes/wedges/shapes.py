"""How the loss grows with the distance d to the nearest wedge: monotone functions, on NumPy and torch alike.

Every shape but ``distance`` is twice differentiable on the wedge too, with curvature 1 across it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lcakit.errors import unknown

__all__ = ["SHAPES", "Formula", "Shape", "shape_of"]


def __dir__() -> list[str]:
    return __all__


Formula = Callable[[Any, Any, float], Any]


@dataclass(frozen=True)
class Shape:
    """A loss f(d) as functions ``(xp, q, s)`` of q = d² and the scale s; ``xp`` is the module numpy or torch.

    ``per_square`` is f(d) / d², ``slope`` f'(d) / d, ``curvature`` f''(d).
    """

    formula: str
    per_square: Formula
    slope: Formula
    curvature: Formula

    def value(self, xp: Any, q: Any, s: float) -> Any:
        """Return f(d)."""
        return q * self.per_square(xp, q, s)


def _where_off(xp: Any, q: Any, formula: Callable[[Any], Any], on_wedge: float) -> Any:
    """Apply a formula that divides by q, off the wedge only: neither it nor its derivatives meet q = 0."""
    off = q > xp.finfo(q.dtype).tiny ** 0.5
    return xp.where(off, formula(xp.where(off, q, 1.0)), on_wedge)


def _ones(xp: Any, q: Any, s: float) -> Any:
    return xp.ones_like(q)


SHAPES: dict[str, Shape] = {
    "quadratic": Shape("d²/2", lambda xp, q, s: xp.ones_like(q) / 2, _ones, _ones),
    "distance": Shape(
        "d",
        lambda xp, q, s: _where_off(xp, q, lambda q: 1 / xp.sqrt(q), 0.0),
        lambda xp, q, s: _where_off(xp, q, lambda q: 1 / xp.sqrt(q), 0.0),
        lambda xp, q, s: xp.zeros_like(q),
    ),
    "softened": Shape(
        "s √(d² + s²) − s²",
        lambda xp, q, s: s / (xp.sqrt(q + s**2) + s),
        lambda xp, q, s: s / xp.sqrt(q + s**2),
        lambda xp, q, s: s**3 / (q + s**2) ** 1.5,
    ),
    "saturating": Shape(
        "s² (1 − exp(−d²/2s²))",
        lambda xp, q, s: _where_off(xp, q, lambda q: -(s**2) * xp.expm1(-q / (2 * s**2)) / q, 0.5),
        lambda xp, q, s: xp.exp(-q / (2 * s**2)),
        lambda xp, q, s: (1 - q / s**2) * xp.exp(-q / (2 * s**2)),
    ),
}


def shape_of(name: str, scale: float) -> Shape:
    """Return a shape by name.

    Raises
    ------
    ValueError
        For an unknown name, or a scale that is not positive and finite.
    """
    if name not in SHAPES:
        raise unknown("shape of the loss", name, SHAPES)
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be positive and finite, got {scale}; it is the distance where the loss bends")
    return SHAPES[name]
