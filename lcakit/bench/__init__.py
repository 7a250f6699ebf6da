"""Benchmarks that anyone can run: ``lcakit bench …``. Each prints ratios measured in one run."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from lcakit.errors import unknown

__all__ = ["BENCHMARKS", "OPTIONS", "run"]


def __dir__() -> list[str]:
    return __all__


BENCHMARKS = (
    "gradient",
    "convolutions",
    "precision",
    "growth",
    "together",
    "record",
    "close",
    "memory",
    "cluster",
    "load",
    "open",
    "analysis",
    "remote",
    "share",
    "explore",
)

OPTIONS = {
    "scale": ("growth", "together", "close", "open", "analysis", "remote", "share", "explore"),
    "directory": ("growth", "record", "close", "memory", "open", "analysis", "remote", "share", "explore"),
    "file": ("share", "explore"),
    "parameters": ("memory",),
    "classes": ("memory", "explore"),
    "network": ("gradient", "convolutions"),
    "examples": ("gradient", "convolutions", "precision", "record", "memory", "cluster", "load"),
    "iterations": ("precision", "record", "memory", "cluster", "load"),
    "repeats": (
        *("gradient", "convolutions", "precision", "growth", "together"),
        *("cluster", "load", "open", "analysis", "remote", "explore"),
    ),
    "device": ("gradient", "convolutions", "precision", "growth", "together", "record", "memory"),
    "precision": ("convolutions", "record"),
}
"""The benchmarks that take each option of their ``run``: known without importing them, as the command line needs."""


def run(what: str, **options: Any) -> tuple[dict[str, Any], str]:
    """Run a benchmark by name, with options of its ``run``; return its result as plain data and as text."""
    if what not in BENCHMARKS:
        raise unknown("benchmark", what, BENCHMARKS)
    module = importlib.import_module(f"lcakit.bench.{what}")
    allowed = inspect.signature(module.run).parameters
    for name in options:
        if name not in allowed:
            raise unknown(f"option of the benchmark {what}", name, allowed)
    result: dict[str, Any] = module.run(**options)
    return result, module.to_text(result)
