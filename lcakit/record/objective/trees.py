"""Batches are tensors in any nesting: in mappings, sequences, named tuples and dataclasses, as loaders give them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["describe_tree", "leaves", "mapped", "of_array", "tensors", "to_tensors", "with_first"]


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
        return of_array(np.asarray(leaf)) if numeric else leaf

    return mapped(convert, tree)


def of_array(array: np.ndarray) -> torch.Tensor:
    """Return an array as a tensor, without a copy unless it must not be written, as the columns of a table."""
    return torch.as_tensor(array if array.flags.writeable else array.copy())


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
