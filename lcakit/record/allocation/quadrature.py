r"""Rules for the path integral along one iteration. Pure arithmetic: no torch, no files.

The integral of the gradient over the segment :math:`s \in [0, 1]` is a weighted sum of gradients at ``splits + 1``
equally spaced nodes. All rules here give nodes that first appear at the same halving (their *level*) the same weight:
level 1 is the midpoint, level 2 the nodes ¼ and ¾, level 3 the odd eighths, … So a refinement needs to keep only one
*sum of gradients per level*, whatever the number of nodes, and every gradient that was computed is used again.

======================  ============  ======================================  ===========================
rule                    least splits  weights of left, right, level 1 …       exact for gradients that are
======================  ============  ======================================  ===========================
``first_order``         1             1, 0                                    constant
``trapezoid``           1             ½, ½                                    linear in s
``midpoint``            2             0, 0, 1                                 linear in s
``rk4`` (= Simpson)     2             ⅙, ⅙, ⅔                                 cubic in s
``boole``               4             7/90, 7/90, 12/90, 32/90                quintic in s
======================  ============  ======================================  ===========================

(The gradient is cubic in s where the loss is a polynomial of degree 4.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lcakit.errors import unknown

__all__ = [
    "LEAST_SPLITS",
    "RULES",
    "Segment",
    "Weights",
    "check_settings",
    "level_nodes",
    "levels_of",
    "refine",
    "weights",
]


def __dir__() -> list[str]:
    return __all__


LEAST_SPLITS = {"first_order": 1, "trapezoid": 1, "midpoint": 2, "rk4": 2, "boole": 4}
RULES = tuple(LEAST_SPLITS)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Weights:
    """Weights of a composite rule: of the two ends, and of each interior level (level 1 first)."""

    left: float
    right: float
    levels: tuple[float, ...]


def levels_of(splits: int) -> int:
    """Return the number of halvings that give ``splits`` sub-intervals (0 for 1).

    Raises
    ------
    ValueError
        Unless ``splits`` is a power of two from 1 on.
    """
    if splits < 1 or splits & (splits - 1):
        raise ValueError(f"splits must be a power of two (1, 2, 4, …), got {splits}")
    return splits.bit_length() - 1


def level_nodes(level: int) -> tuple[float, ...]:
    """Return the nodes that level ``level`` adds, as fractions of the segment: 1 -> ½; 2 -> ¼, ¾."""
    return tuple(odd / 2**level for odd in range(1, 2**level, 2))


def weights(rule: str, splits: int) -> Weights:
    """Return the weights of a composite rule on ``splits`` equal sub-intervals.

    Raises
    ------
    ValueError
        For an unknown rule, or splits that are not a power of two or fewer than the rule needs.
    """
    if rule not in LEAST_SPLITS:
        raise unknown("rule", rule, RULES)
    depth = levels_of(splits)
    if splits < LEAST_SPLITS[rule]:
        raise ValueError(f"rule {rule!r} needs at least {LEAST_SPLITS[rule]} splits, got {splits}")
    h = 1.0 / splits
    older = max(depth - 1, 0)
    if rule == "first_order":
        return Weights(h, 0.0, (h,) * depth)
    if rule == "trapezoid":
        return Weights(h / 2, h / 2, (h,) * depth)
    if rule == "midpoint":
        return Weights(0.0, 0.0, (0.0,) * older + (2 * h,))
    if rule == "rk4":
        return Weights(h / 3, h / 3, (2 * h / 3,) * older + (4 * h / 3,))
    unit = 2 * h / 45
    return Weights(7 * unit, 7 * unit, (14 * unit,) * (depth - 2) + (12 * unit, 32 * unit))


@dataclass
class Segment(Generic[Value]):
    """Gradients along one segment, summed by level, refined on demand.

    ``gradients_at(nodes)`` yields the gradients at fractions of the segment; ``add(a, b)`` returns the sum of two
    gradients in the precision the sums need (it may overwrite ``a``, never ``b``).
    """

    left: Value
    right: Value
    gradients_at: Callable[[tuple[float, ...]], Iterable[Value]]
    add: Callable[[Value, Value], Value]
    levels: list[Value] = field(default_factory=list)

    def refine_to(self, splits: int) -> None:
        """Evaluate the nodes that ``splits`` sub-intervals need and that are not there yet."""
        for level in range(len(self.levels) + 1, levels_of(splits) + 1):
            self.levels.append(functools.reduce(self.add, self.gradients_at(level_nodes(level))))

    def terms(self, rule: str, splits: int) -> list[tuple[float, Value]]:
        """Return (weight, gradient sum) pairs, of which the integral is the weighted sum; zero weights left out."""
        w = weights(rule, splits)
        self.refine_to(splits)
        pairs = [(w.left, self.left), (w.right, self.right), *zip(w.levels, self.levels, strict=False)]
        return [(weight, value) for weight, value in pairs if weight != 0.0]


def refine(
    evaluate: Callable[[int], tuple[float, Value]], rule: str, tolerance: float | None, max_splits: int
) -> tuple[Value, float, int]:
    """Double the splits while the residual is larger than the tolerance.

    Parameters
    ----------
    evaluate
        ``splits -> (residual, result)``.
    rule, tolerance, max_splits
        The residual is accepted once ``abs(residual) <= tolerance``. ``tolerance=None`` never refines, nor does
        ``first_order``, whose definition is one gradient.

    Returns
    -------
    result, residual, splits
        Those of the last refinement: where ``max_splits`` was not enough, ``abs(residual) > tolerance`` says so.
    """
    splits = LEAST_SPLITS[rule]
    residual, result = evaluate(splits)
    refines = tolerance is not None and rule != "first_order"
    while refines and not abs(residual) <= tolerance and splits < max_splits:  # type: ignore[operator]
        splits *= 2
        residual, result = evaluate(splits)
    return result, residual, splits


def check_settings(rule: str, tolerance: float | None, max_splits: int) -> None:
    """Raise ValueError unless these settings describe an allocation."""
    weights(rule, LEAST_SPLITS.get(rule, 1))
    if levels_of(max_splits) < levels_of(LEAST_SPLITS[rule]):
        raise ValueError(f"max_splits={max_splits} is below the {LEAST_SPLITS[rule]} that rule {rule!r} starts with")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be positive (or None: never refine), got {tolerance}")
