"""The version of the library; the one place that states it."""

from __future__ import annotations

__all__ = ["__version__"]


def __dir__() -> list[str]:
    return __all__


__version__ = "0.1.0"
