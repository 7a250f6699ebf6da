"""What the explorer looks at, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["ALL", "CUMULATIVE", "GRADIENT", "LCA", "MOVEMENT", "QUANTITIES", "SIGNED", "WEIGHT", "Selection"]


def __dir__() -> list[str]:
    return __all__


ALL = "all"
LCA, CUMULATIVE, GRADIENT, MOVEMENT, WEIGHT = "lca", "cumulative", "gradient", "movement", "weight"
QUANTITIES = {
    LCA: "LCA",
    CUMULATIVE: "cumulative LCA",
    GRADIENT: "gradient",
    MOVEMENT: "movement",
    WEIGHT: "weight",
}
SIGNED = (LCA, CUMULATIVE)
"""Quantities whose sign means helping or hurting."""


@dataclass(frozen=True)
class Selection:
    """One state of all controls. Iterations and parameters are positions in the dataset, not labels.

    Attributes
    ----------
    layers, classes, role
        What is summed up: kernel layers, classes, and the role of tensors (``"all"`` for every role).
    quantity
        One of ``QUANTITIES``.
    window
        First and last iteration of the span, both included.
    iteration
        The iteration that is looked at.
    whole
        Maps show the whole span instead of the one iteration.
    layer, unit
        The layer that is opened, and a unit in it by its channel number.
    parameter
        The parameter that is looked at; None where the file has none.
    colours
        Scheme of the colours of helping and hurting.
    """

    layers: tuple[str, ...]
    classes: tuple[str, ...]
    role: str
    quantity: str
    window: tuple[int, int]
    iteration: int
    whole: bool
    layer: str
    unit: int
    parameter: int | None
    colours: str
    source: tuple[str, str] = ("", "")
    """Run and objective."""
    configurations: tuple[str, ...] = ()
    """Configurations whose runs are laid over each other."""
    overlay: str = "each run"
    """Whether each run is drawn, or mean and interval of each configuration."""
    other: str = ""
    """Run whose parameters stand beside those of the chosen one; empty for none."""

    def changed(self, before: Selection | None) -> set[str]:
        """Return the names of the fields that differ from another selection; all, where there is none."""
        return {f.name for f in fields(self) if before is None or getattr(self, f.name) != getattr(before, f.name)}
