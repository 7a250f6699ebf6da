"""The progress bar of everything that takes long: rate and time left, and few lines in logs."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["progress"]


def __dir__() -> list[str]:
    return __all__


def progress(total: int | None, what: str, *, unit: str = "it", initial: int = 0, quiet: bool = False) -> Any:
    """Return a tqdm bar (a context manager with ``update``), drawn on stderr.

    Where stderr is not a terminal the bar is drawn at most every 30 seconds, so that logs stay short.
    """
    from tqdm.auto import tqdm

    interval = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        initial=initial,
        disable=quiet,
        mininterval=interval,
        dynamic_ncols=True,
    )
