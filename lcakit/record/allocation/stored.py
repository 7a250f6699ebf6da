"""What of an allocation is stored for each parameter: series, and running statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lcakit.record.budget import KEEP, statistics_of
from lcakit.trajectory.schema import STATISTICS

__all__ = ["Stored"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Stored:
    """What of an allocation is stored per parameter: series (``keep``), and running statistics by their names."""

    keep: frozenset[str] = frozenset(KEEP)
    statistics: tuple[str, ...] = ()

    @classmethod
    def of(cls, keep: Sequence[str], statistics: bool | None, path: bool = True) -> Stored:
        """Return what these options of :class:`lcakit.Recorder` ask for.

        Without ``path``: along a path that is stored, so that its turns can be counted from there.
        """
        names = statistics_of(keep, statistics)
        return cls(frozenset(keep), tuple(n for n in names if path or STATISTICS[n] != "theta"))

    def attrs(self) -> dict[str, Any]:
        """Return the attributes by which a recording to continue is recognized."""
        return {"statistics": " ".join(self.statistics)} if self.statistics else {}
