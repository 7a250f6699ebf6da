"""Many changes, one answer: of a fast drag the last position wins."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["LONGEST_SECONDS", "PAUSE_MILLISECONDS", "Joined"]


def __dir__() -> list[str]:
    return __all__


PAUSE_MILLISECONDS = 15
"""After a change on a served page, the time in which a further one joins it."""
LONGEST_SECONDS = 0.1
"""How long changes that go on to come are joined: then the page shows where a drag is by now."""


class Joined:
    """Calls a function once for all changes that come close together.

    While a page is drawn its messages wait in a queue, from which they come fast: to answer the first of them would
    draw what nobody wants any more.

    Parameters
    ----------
    document
        Of a served page, which is then locked during the call; None to call at once.
    answer
        What is called.
    """

    def __init__(self, document: Any, answer: Callable[[], None]) -> None:
        self._document, self._answer = document, answer
        self._began: float | None = None  # when the first change came that is not answered
        self._more = False

    def __call__(self) -> None:
        """Tell of a change."""
        if self._document is None:
            self._answer()
        elif self._began is None:
            self._began, self._more = time.monotonic(), False
            self._wait()
        else:
            self._more = True

    def _wait(self) -> None:
        self._document.add_timeout_callback(self._look, PAUSE_MILLISECONDS)

    def _look(self) -> None:
        if self._more and self._began is not None and time.monotonic() - self._began < LONGEST_SECONDS:
            self._more = False
            self._wait()
        else:
            self._began = None
            self._answer()
