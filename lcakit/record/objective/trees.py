"""Batches are tensors in any nesting: in mappings, sequences, named tuples and dataclasses, as loaders give them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lcakit.errors import ObjectiveError

__all__ = [
    "apart",
    "cloned",
    "describe_tree",
    "leaves",
    "mapped",
    "of_array",
    "of_theta",
    "tensors",
    "to_tensors",
    "with_first",
]


def __dir__() -> list[str]:
    return __all__


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """Return the same nesting with ``function(leaf)`` in place of each leaf; texts are leaves."""
    if isinstance(tree, Mapping):
        return _like(tree, {key: mapped(function, value) for key, value in tree.items()})
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(function, value) for value in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(function, value) for value in tree)
    if _is_record(tree):
        out = copy.copy(tree)
        for field in dataclasses.fields(tree):
            object.__setattr__(out, field.name, mapped(function, getattr(tree, field.name)))
        return out
    return function(tree)


def leaves(tree: Any) -> Iterator[Any]:
    """Yield what is nested, in order."""
    if isinstance(tree, Mapping):
        parts: Sequence[Any] = list(tree.values())
    elif isinstance(tree, list | tuple):
        parts = tree
    elif _is_record(tree):
        parts = [getattr(tree, field.name) for field in dataclasses.fields(tree)]
    else:
        yield tree
        return
    for part in parts:
        yield from leaves(part)


def tensors(tree: Any) -> list[torch.Tensor]:
    """Return the tensors of a nesting, in order."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, torch.Tensor)]


def with_first(tree: Any, tensor: torch.Tensor) -> Any:
    """Return the same nesting with another tensor in place of the first."""
    first = tensors(tree)[0]
    return mapped(lambda leaf: tensor if leaf is first else leaf, tree)


def to_tensors(tree: Any) -> Any:
    """Return the same nesting with tensors, cut from any graph, in place of arrays of numbers."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return leaf.detach()
        numeric = isinstance(leaf, np.ndarray | np.number) and leaf.dtype.kind in "biufc"
        return of_array(leaf) if numeric else leaf

    return mapped(convert, tree)


def cloned(tree: Any) -> Any:
    """Return the same nesting with copies of its tensors."""
    return mapped(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, tree)


def apart(tree: Any, other: Any) -> Any:
    """Return the same nesting with copies of those tensors that share their memory with one of ``other``."""
    theirs = {_place(tensor) for tensor in tensors(other)} - {None}

    def keep(leaf: Any) -> Any:
        return leaf.clone() if isinstance(leaf, torch.Tensor) and _place(leaf) in theirs else leaf

    return mapped(keep, tree)


def _place(tensor: torch.Tensor) -> int | None:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else None


def of_array(values: Any) -> torch.Tensor:
    """Return an array as a tensor; a copy where a tensor cannot share its memory.

    So it is with numbers that must not be written, as the columns of a table, lie backwards (``x[::-1]``), or have the
    bytes of another kind of machine.

    Raises
    ------
    ObjectiveError
        For a masked array: a tensor would hold what lies under the mask.
    """
    if np.ma.is_masked(values):
        raise ObjectiveError(
            "the data are a masked array, and a tensor has no masked numbers. Fill them, x.filled(0), or leave the "
            "examples out."
        )
    array = np.asarray(values)
    usable = array.flags.writeable and array.dtype.isnative and all(stride >= 0 for stride in array.strides)
    return torch.as_tensor(array if usable else array.astype(array.dtype.newbyteorder("="), order="C"))


def of_theta(values: Any) -> torch.Tensor:
    """Return parameters that a user gives as an array or a tensor.

    Raises
    ------
    ObjectiveError
        Unless they are real numbers.
    """
    try:
        found = values.detach() if isinstance(values, torch.Tensor) else of_array(values)
    except (TypeError, ValueError) as error:
        raise ObjectiveError(f"theta must be an array or a tensor of real numbers: {error}") from error
    if found.is_complex():
        raise ObjectiveError(f"theta must be real numbers, got {found.dtype}: pass two real numbers for a complex one.")
    return found


def describe_tree(tree: Any, most: int = 6) -> str:
    """Return a nesting as a few words for a message, such as ``dict(image (8, 1, 28, 28), label (8,))``."""
    if isinstance(tree, Mapping):
        parts = [f"{key} {describe_tree(value, most)}" for key, value in list(tree.items())[:most]]
        return f"{type(tree).__name__}({', '.join(parts)})"
    if isinstance(tree, list | tuple):
        return f"{type(tree).__name__}({', '.join(describe_tree(value, most) for value in tree[:most])})"
    return str(tuple(tree.shape)) if hasattr(tree, "shape") else type(tree).__name__


def _is_record(tree: Any) -> bool:
    return dataclasses.is_dataclass(tree) and not isinstance(tree, type)


def _like(tree: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """Return a mapping of the type of ``tree``; a plain dict where that type is made otherwise."""
    try:
        return type(tree)(values)  # type: ignore[call-arg]
    except TypeError:
        return values
