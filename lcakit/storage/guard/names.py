"""Variables by name: one that was lost, or whose name was changed, is not left out without a word."""

from __future__ import annotations

import warnings

import xarray as xr

from lcakit.errors import LcakitWarning, TrajectoryError
from lcakit.text import printable
from lcakit.trajectory import schema

__all__ = ["check_names"]


def __dir__() -> list[str]:
    return __all__


def check_names(ds: xr.Dataset, source: str, written: str | None) -> None:
    """Look for variables that are missing, or that the format does not have.

    Parameters
    ----------
    written
        The names of the variables that were written, as the file states them; None where it does not.

    Raises
    ------
    TrajectoryError
        For one that was written and is not there, where another one is that was not written.

    Warns
    -----
    LcakitWarning
        For one that was written and is not there, and for tables that the format does not have.
    """
    names = {str(name) for name in ds.variables}
    there = set(names if written is None else written.split())
    lost, new = sorted(there - names), sorted(names - there)
    strange = sorted(name for name in names if not schema.is_known(name) and (name in new or ds.variables[name].ndim))
    if lost and new:
        raise TrajectoryError(
            f"{source}: {_listed(lost)} was written and is not there; instead there is {_listed(new)}. A name was "
            f"changed: get the file again. If you did it yourself, remove the attribute {schema.STORED!r}."
        )
    if lost:
        _warn(source, f"{_listed(lost)} was written and is not there. If you did not remove it, get the file again.")
    if strange:
        _warn(
            source,
            f"holds {_listed(strange)}, which the format does not have, so lcakit does not use it. If you did not add "
            "it, a name was changed: get the file again.",
        )


def _warn(source: str, what: str) -> None:
    warnings.warn(f"{source}: {what}", LcakitWarning, stacklevel=6)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(printable(name, 80)) for name in names[:3]) + more
