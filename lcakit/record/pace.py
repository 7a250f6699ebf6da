"""How fast a recording goes on, against what was estimated before its first iteration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from lcakit.progress import say
from lcakit.record.budget import Estimate
from lcakit.text import format_range

__all__ = ["Pace"]


def __dir__() -> list[str]:
    return __all__


_FIRST = 2  # iterations before the pace says something: the first one does much for the first time
_SECONDS = 5.0
_NARROWER = 0.7, 1.5
"""A corrected estimate against the time at the present pace."""


class Pace:
    """Corrects the estimated time of a recording whenever its pace says that it is another one.

    Parameters
    ----------
    expected
        Least and most seconds that the whole was estimated to take.
    steps
        Optimizer steps of the whole.
    say
        Prints a line.
    clock
        Seconds.

    Examples
    --------
    >>> now = [0.0]
    >>> pace = Pace((10.0, 40.0), 100, print, lambda: now[0])
    >>> for now[0] in range(3, 24, 3):
    ...     pace.step()
    lcakit: at the pace of the first 2 steps it takes 3 min 30 s to 7 min 30 s, not 10 s to 40 s
    """

    def __init__(
        self,
        expected: tuple[float, float],
        steps: int,
        say: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._expected, self._steps, self._say, self._clock = expected, steps, say, clock
        self._done, self._next = 0, _FIRST
        self._began = clock()
        self._first = self._began

    @classmethod
    def announced(cls, estimate: Estimate, steps: int | None) -> Pace:
        """Print an estimate, and begin; that of 1,000 steps where it is not known how many there will be."""
        per = "" if steps else "for every 1,000 steps (n_iterations is not given): "
        say(f"lcakit: {per}{estimate.to_text()}")
        return cls(estimate.seconds_range or (0.0, math.inf), steps or 1000, say)

    @classmethod
    def silent(cls) -> Pace:
        """Return one that says nothing."""
        return cls((0.0, math.inf), 0, say)

    def step(self) -> None:
        """Count a step; say the corrected time, if it is outside the range that was said."""
        self._done += 1
        if self._done == 1:
            self._first = self._clock()
        if self._done < self._next or self._done >= self._steps:
            return
        self._next = 2 * self._done  # steps 2, 4, 8, …
        now = self._clock()
        if now - self._began < _SECONDS:
            return
        whole = self._first - self._began + (now - self._first) / (self._done - 1) * (self._steps - 1)
        if not self._expected[0] <= whole <= self._expected[1]:
            corrected = _NARROWER[0] * whole, _NARROWER[1] * whole
            self._say(
                f"lcakit: at the pace of the first {self._done:,} steps it takes {format_range(*corrected)}, "
                f"not {format_range(*self._expected)}"
            )
            self._expected = corrected
