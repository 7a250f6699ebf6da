"""Benchmarks that anyone can run: ``lcakit bench …``. Each prints ratios measured in one run."""

from __future__ import annotations

import importlib
from typing import Any

from lcakit.errors import unknown

BENCHMARKS = ("gradient", "record")


def run(what: str) -> tuple[dict[str, Any], str]:
    """Run a benchmark by name; return its result as plain data and as text."""
    if what not in BENCHMARKS:
        raise unknown("benchmark", what, BENCHMARKS)
    room = importlib.import_module(f"lcakit.bench.{what}")
    result: dict[str, Any] = room.run()
    return result, room.to_text(result)
