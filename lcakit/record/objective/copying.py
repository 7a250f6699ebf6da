"""Copies of a model, also of one that holds results of an earlier pass, which PyTorch does not copy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from lcakit.errors import ObjectiveError
from lcakit.record.objective.hooks import users_hooks

__all__ = ["copied"]


def __dir__() -> list[str]:
    return __all__


_DEEPEST = 4  # containers and objects inside each other, where results of a pass are looked for


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy of a model; results of a pass that it holds are copied without their graph, hooks not at all.

    Such results are activations that a module keeps, and the weights that pruning and the older weight norm compute
    anew before each pass.

    Raises
    ------
    ObjectiveError
        If something else in it cannot be copied.
    """
    results = {id(tensor): tensor for module in model.modules() for tensor in _results(vars(module), _DEEPEST, set())}
    memo: dict[int, Any] = {id(hook): hook for hook in users_hooks(model)}  # which need not be copied: they go
    memo |= {key: tensor.detach().clone() for key, tensor in results.items()}
    try:
        return copy.deepcopy(model, memo)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ObjectiveError(
            f"the model cannot be copied ({error}). The objective evaluates a private copy: give the model only "
            "attributes that copy.deepcopy accepts (for example parametrizations instead of old-style weight_norm)."
        ) from error


def _results(value: Any, depth: int, seen: set[int]) -> Iterator[torch.Tensor]:
    """Yield the tensors with a graph in an attribute, in containers, and in plain objects."""
    if isinstance(value, torch.Tensor):
        if not value.is_leaf:
            yield value
        return
    if depth == 0 or id(value) in seen or isinstance(value, nn.Module | type):
        return
    seen.add(id(value))
    if isinstance(value, dict):
        inside = list(value.values())
    elif isinstance(value, list | tuple | set):
        inside = list(value)
    else:
        inside = list(getattr(value, "__dict__", {}).values())
    for one in inside:
        yield from _results(one, depth - 1, seen)
