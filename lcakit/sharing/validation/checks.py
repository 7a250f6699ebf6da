"""One finding of the validation, and how checks are made from problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Group", "Status", "listed"]


def __dir__() -> list[str]:
    return __all__


Status = Literal["pass", "warn", "fail"]
Group = Literal["structure", "content", "conservation"]


@dataclass(frozen=True)
class Check:
    """A named check: ``figure`` says what was found, ``meaning`` why it matters, ``remedy`` what to do."""

    name: str
    group: Group
    status: Status
    figure: str
    meaning: str
    remedy: str


def listed(
    name: str,
    group: Group,
    problems: Sequence[str],
    fine: str,
    meaning: str,
    remedy: str,
    worst: Status = "fail",
) -> Check:
    """Make a check that passes, saying ``fine``, unless there are problems; at most five are shown."""
    if not problems:
        return Check(name, group, "pass", fine, meaning, remedy)
    more = f"; … ({len(problems)} in all)" if len(problems) > 5 else ""
    return Check(name, group, worst, "; ".join(problems[:5]) + more, meaning, remedy)
