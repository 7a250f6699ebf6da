"""How an allocation is computed: the settings that a file states, and that a continuation must agree with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lcakit.errors import unknown
from lcakit.record.allocation.quadrature import check_settings

__all__ = ["CLASS_RESOLUTIONS", "AllocationSettings"]


def __dir__() -> list[str]:
    return __all__


CLASS_RESOLUTIONS = ("unit", "parameter", None)


@dataclass(frozen=True)
class AllocationSettings:
    """How an allocation is computed: quadrature rule, tolerance, most splits, class resolution."""

    rule: str = "rk4"
    tolerance: float | None = 1e-3
    max_splits: int = 32
    classes: str | None = "unit"

    def __post_init__(self) -> None:
        check_settings(self.rule, self.tolerance, self.max_splits)
        if self.classes not in CLASS_RESOLUTIONS:
            raise unknown("class resolution", self.classes, CLASS_RESOLUTIONS)

    def attrs(self) -> dict[str, Any]:
        """Return the root attributes that describe it."""
        return {
            "rule": self.rule,
            "tolerance": -1.0 if self.tolerance is None else self.tolerance,
            "max_splits": self.max_splits,
            "classes": self.classes or "none",
        }
