"""A trajectory as users give it: an open dataset, or the path of its file."""

from __future__ import annotations

import dis
import functools
import inspect
import os
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import xarray as xr

from lcakit.errors import LcakitError, TrajectoryError
from lcakit.text import printable
from lcakit.trajectory.arguments import allowed_kinds, check_arguments
from lcakit.trajectory.narrowed import faults

__all__ = ["of_trajectories"]


def __dir__() -> list[str]:
    return __all__


P = ParamSpec("P")
R = TypeVar("R")


def of_trajectories(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function of datasets take paths of their files as well, and check its arguments.

    A path (also a pattern, a URL, or a list of paths of several runs) is opened as by :func:`lk.open_trajectory`. Where
    the function stumbles on a dataset whose parts contradict each other, the error says so.

    Examples
    --------
    >>> @of_trajectories
    ... def iterations(ds: xr.Dataset) -> int:
    ...     return ds.sizes["iteration"]
    >>> from lcakit.testing import tiny_trajectory
    >>> iterations(tiny_trajectory())
    12
    >>> iterations("nothing.nc")
    Traceback (most recent call last):
    lcakit.errors.TrajectoryError: nothing.nc: there is no such file, and no unfinished recording of that name
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        for name, value in given.arguments.items():
            if takes_dataset(function, name):
                given.arguments[name] = opened(value)
        check_arguments(function, given.args, given.kwargs)
        try:
            return function(*given.args, **given.kwargs)
        except (ValueError, LookupError, TypeError, ArithmeticError) as error:
            if _is_meant(error):
                raise
            raise _explained(function.__name__.lstrip("_"), given.arguments.values(), error) from error

    return call


def _is_meant(error: Exception) -> bool:
    """Say whether a statement of lcakit raised it, with a message of its own, as opposed to a library that stumbled."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if isinstance(error, LcakitError) or last is None:
        return True
    code = last.tb_frame.f_code.co_code  # what is written in C has no frame of its own
    raised = code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and str(last.tb_frame.f_globals.get("__name__", "")).startswith("lcakit.")


def _explained(called: str, values: Iterable[Any], error: Exception) -> Exception:
    """Return the error that a dataset which was narrowed by hand deserves; the one that came where all is sound."""
    wrong = [text for value in values if isinstance(value, xr.Dataset) for text in faults(value)]
    if not wrong:
        return error
    return TrajectoryError(
        f"{called} cannot use this dataset: {'; '.join(wrong)}. Narrow a trajectory with ds.lk.sel(iteration=slice(2, "
        "6), layer=…, unit=…, cls=…), which keeps what belongs together, or with lists of places, "
        f"ds.isel(iteration=[3], snapshot=[3, 4]). ({type(error).__name__}: {printable(error, 200)})"
    )


def takes_dataset(function: Callable[..., Any], name: str) -> bool:
    """Say whether a parameter of a function is a Dataset, and not a text as well."""
    kind = allowed_kinds(function).get(name, Any)
    kinds = (kind, *typing.get_args(kind))
    return xr.Dataset in kinds and str not in kinds


def opened(value: Any) -> Any:
    """Open what is a path, or several; everything else comes back as it is."""
    from lcakit.storage.opening import open_trajectory  # only when there is a file to read

    if isinstance(value, str | os.PathLike):
        return open_trajectory(value)
    if isinstance(value, list | tuple) and value and all(isinstance(path, str | os.PathLike) for path in value):
        return open_trajectory(value)
    if isinstance(value, Mapping) and not isinstance(value, xr.Dataset):
        return {name: opened(part) for name, part in value.items()}
    return value
