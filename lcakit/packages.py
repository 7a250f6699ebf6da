"""Packages of the extra ``share``: imported where they are used, and named with the remedy where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from lcakit.errors import LcakitError


def package(name: str, purpose: str) -> Any:
    """Return a module of an optional package.

    Raises
    ------
    LcakitError
        If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise LcakitError(f"{purpose} needs the package {error.name}: pip install lcakit[share]") from error
