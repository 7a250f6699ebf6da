"""What can go wrong, by kind. Every message says what was got, what is allowed, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ArgumentError",
    "BudgetError",
    "DataError",
    "DivergedError",
    "LcakitError",
    "LcakitWarning",
    "MissingPackageError",
    "ObjectiveError",
    "RecordingError",
    "TrajectoryError",
    "unknown",
]


def __dir__() -> list[str]:
    return __all__


class LcakitError(Exception):
    """Base class of every error that lcakit raises on purpose."""


class ArgumentError(LcakitError, TypeError, ValueError):
    """An argument is not of a kind that a function can take."""


class LcakitWarning(UserWarning):
    """Base class of the warnings of lcakit (that a GPU has no memory is a RuntimeWarning)."""


class TrajectoryError(LcakitError, ValueError):
    """A trajectory file cannot be read, or is not what it says."""


class RecordingError(LcakitError, RuntimeError):
    """A recording cannot start, continue or be written. What was written before stays readable."""


class DivergedError(RecordingError):
    """The loss or a parameter stopped being a finite number."""


class BudgetError(RecordingError):
    """The recording would be larger than the budget it was given."""


class ObjectiveError(LcakitError, ValueError):
    """The model, the data and the loss do not make an objective."""


class MissingPackageError(LcakitError, ModuleNotFoundError):
    """A package is not installed that only some things need."""


class DataError(LcakitError, RuntimeError):
    """A data set is not there or not usable."""


def unknown(kind: str, got: object, allowed: Iterable[object], error: type[Exception] = ValueError) -> Exception:
    """Build the error for a name that does not exist, with the closest names that do."""
    names = [str(name) for name in allowed]
    close = get_close_matches(str(got), names, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    shown = ", ".join(map(repr, names[:20])) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
    return error(f"unknown {kind} {got!r}.{hint} Allowed: {shown or 'none'}.")
