"""The command line: ``lcakit COMMAND``. Everything it does is one call of the library."""

from __future__ import annotations

from lcakit.cli.main import main

__all__ = ["main"]


def __dir__() -> list[str]:
    return __all__
