"""Arguments are checked at the door, against what the signature says: an ordinary mistake gets a sentence.

A function decorated with :func:`checks_arguments` takes what its annotations allow; what is not of their kinds is an
:class:`~lcakit.errors.ArgumentError` before anything else happens. What the values must be (ranges, names that exist)
the functions check themselves.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import itertools
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from lcakit.errors import ArgumentError

__all__ = [
    "allowed_kinds",
    "check_arguments",
    "checks_arguments",
    "checks_creation",
    "checks_itself",
    "require_least",
    "require_parts",
]


def __dir__() -> list[str]:
    return __all__


P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_MANY = (collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection, list, set, frozenset)
_TRAJECTORIES = ("ds", "runs", "a", "b", "trajectory", "source")
"""Names of parameters that are trajectories, as opposed to results."""

_RESULTS = {"peaks": "lk.synchronization.peak_iterations(ds)", "histogram": "lk.tails.histogram(ds)"}
"""Names of parameters that are results -> what makes them."""

_WORDS: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    type(None): "None",
    slice: "a slice",
    dict: "a dict",
}


def checks_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of each call against the annotations of the function.

    Examples
    --------
    >>> @checks_arguments
    ... def window(size: int, by: str | None = None) -> int:
    ...     return size
    >>> window(3)
    3
    >>> window("3")
    Traceback (most recent call last):
    lcakit.errors.ArgumentError: window: size must be a whole number, got the text '3'; see help(window)
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        check_arguments(function, args, kwargs)
        return function(*args, **kwargs)

    return call


def checks_creation(kind: type[T]) -> type[T]:
    """Check what a class is called with, as :func:`checks_arguments` does for a function.

    Examples
    --------
    >>> @checks_creation
    ... class Window:
    ...     def __init__(self, size: int) -> None:
    ...         self.size = size
    >>> Window("3")
    Traceback (most recent call last):
    lcakit.errors.ArgumentError: Window: size must be a whole number, got the text '3'; see help(Window)
    """
    begin = kind.__dict__["__init__"]

    @functools.wraps(begin)
    def checked(self: T, *args: Any, **kwargs: Any) -> None:
        check_arguments(begin, (self, *args), kwargs, kind.__name__)
        begin(self, *args, **kwargs)

    setattr(kind, "__init__", checked)  # noqa: B010  (type checkers refuse the plain assignment)
    return kind


def checks_itself(**kinds: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Leave values of these kinds to the function, whose messages also say which values are allowed."""

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        function.__dict__["checks_itself"] = kinds
        return function

    return mark


def check_arguments(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], called: str = ""
) -> None:
    """Raise ArgumentError for the first argument that is not of a kind its annotation allows.

    Parameters
    ----------
    called
        What the caller calls it, if not by its own name: a class for its ``__init__``.
    """
    kinds, called = allowed_kinds(function), called or function.__name__
    passed = kinds | getattr(function, "checks_itself", {})
    try:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError as error:  # too few, too many, or a name that there is not
        raise ArgumentError(f"{called}: {error}; see help({called})") from None
    for name, value in given.items():
        if not _fits(value, passed.get(name, Any)):
            raise ArgumentError(_mistake(called, name, value, kinds[name]))


@functools.cache
def allowed_kinds(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the kind of each named parameter; Any for those that are not annotated, or with what is not imported."""
    names = inspect.unwrap(function).__globals__
    kinds: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kinds[name] = Any
        several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if not several and parameter.annotation is not parameter.empty:
            holder = types.SimpleNamespace(__annotations__={name: parameter.annotation})
            try:
                kinds[name] = typing.get_type_hints(holder, names).get(name, Any)
            except NameError:  # imported for type checkers only
                continue
    return kinds


def require_least(name: str, value: float, least: float) -> None:
    """Raise ArgumentError for a number below the least that is allowed."""
    if not value >= least:
        raise ArgumentError(f"{name} must be at least {least}, got {value!r}")


def require_parts(result: Any, parts: Iterable[str], maker: str) -> None:
    """Raise ArgumentError unless a DataArray or Dataset has these variables, coordinates or dimensions."""
    there = [*map(str, {**dict.fromkeys(getattr(result, "data_vars", ())), **dict.fromkeys(result.coords)})]
    missing = [part for part in parts if part not in there and part not in result.dims]
    if missing:
        has = ", ".join(there) or "no names"
        raise ArgumentError(
            f"this {type(result).__name__} has no {', '.join(missing)}: pass a result of {maker} (it has {has})"
        )


# ---- what fits -------------------------------------------------------------------------------------------------


def _fits(value: Any, kind: Any) -> bool:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if kind in (int, float, bool):
        return _is_number(value, kind)
    if origin is tuple:
        return _is_many(value) and (len(value) == len(parts) or Ellipsis in parts) and _all_fit(value, parts[0])
    if origin in _MANY or kind in _MANY:
        return _is_many(value) and _all_fit(value, parts[0] if parts else Any)
    if origin is collections.abc.Mapping or origin is dict:
        return isinstance(value, collections.abc.Mapping) and all(_fits(item, parts[1]) for item in value.values())
    if origin is collections.abc.Callable:
        return callable(value)
    plain = origin or kind
    value = _single(value) if plain is str else value
    return isinstance(value, plain) if isinstance(plain, type) else True


def _single(value: Any) -> Any:
    """Return what an array without dimensions holds, such as the label in ``for layer in ds["layer"]``."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _is_number(value: Any, kind: type) -> bool:
    value = _single(value)
    if kind is float:
        return isinstance(value, numbers.Real)
    if kind is bool:
        return isinstance(value, numbers.Real) and value in (0, 1)
    return isinstance(value, numbers.Integral) or (isinstance(value, float) and value.is_integer())


def _is_many(value: Any) -> bool:
    """Say whether a value is a collection of others: also an array along one dimension, or a generator."""
    if isinstance(value, str | bytes | collections.abc.Mapping) or not isinstance(value, Iterable):
        return False
    return getattr(value, "ndim", 1) == 1 and not hasattr(value, "data_vars")


def _all_fit(values: Any, kind: Any) -> bool:
    """Compare each; the first number of an array is as good as all, and a generator can be read only once."""
    if not hasattr(values, "__len__") or kind is Any:
        return True
    of_one_type = getattr(getattr(values, "dtype", None), "kind", "O") != "O"
    return all(_fits(item, kind) for item in itertools.islice(iter(values), 1 if of_one_type else None))


# ---- what is said ----------------------------------------------------------------------------------------------


def _mistake(function: str, name: str, value: Any, kind: Any) -> str:
    words = _in_words(kind)
    remedy = _remedy(function, name, value)
    if isinstance(value, str) and words.startswith("a list of texts"):
        remedy = f": write {name}={[part.strip() for part in value[:60].split(',')]}{remedy}"
    return f"{function}: {name} must be {words}, got {_shown(value)}{remedy}"


def _in_words(kind: Any, many: bool = False) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        words = list(dict.fromkeys(_in_words(part, many) for part in parts))
        return ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else words[0]
    if origin is tuple or origin in _MANY or kind in _MANY:
        each = _in_words(parts[0], many=True) if parts and parts[0] is not Any else "values"
        return f"a list of {each}"
    if origin is collections.abc.Mapping or origin is dict:
        return f"a dict of name to {'value' if parts[1] is Any else _in_words(parts[1])}"
    plain = origin or kind
    word = _WORDS.get(plain) or (
        "a path" if plain is os.PathLike else _with_article(getattr(plain, "__name__", str(plain)))
    )
    return word.partition(" ")[2] + "s" if many and word.startswith(("a ", "an ")) else word


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if value is None or isinstance(value, numbers.Number | slice):
        return repr(value)
    if isinstance(value, list | tuple) and value and all(isinstance(one, numbers.Number | str | None) for one in value):
        return f"a {type(value).__name__} ({repr(value)[:60]})"
    dims = getattr(value, "dims", None)
    if dims is not None and not hasattr(value, "data_vars"):
        return f"a DataArray ({value.name!r} with the dimensions {tuple(map(str, dims))})"
    return f"a {type(value).__name__}"


def _remedy(function: str, name: str, value: Any) -> str:
    if name in _RESULTS:
        return f". Pass the result of {_RESULTS[name]}"
    if name not in _TRAJECTORIES:
        return f"; see help({function})"
    if type(value).__name__ == "DataArray":
        return ". Pass the dataset that it comes from: ds, not ds['lca'] nor a result"
    if isinstance(value, list | tuple):
        return ". Several runs are joined first: lk.open_runs([…]) for files, lk.runs.align({name: ds, …}) for datasets"
    return ". A trajectory comes from lk.open_trajectory('run.nc')"
