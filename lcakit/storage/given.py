"""A trajectory as users give it: an open dataset, or the path of its file."""

from __future__ import annotations

import functools
import inspect
import os
import typing
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import xarray as xr

from lcakit.trajectory.arguments import allowed_kinds, check_arguments

__all__ = ["of_trajectories"]


def __dir__() -> list[str]:
    return __all__


P = ParamSpec("P")
R = TypeVar("R")


def of_trajectories(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function of datasets take paths of their files as well, and check its arguments.

    A path (also a pattern, a URL, or a list of paths of several runs) is opened as by :func:`lk.open_trajectory`.

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
        return function(*given.args, **given.kwargs)

    return call


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
