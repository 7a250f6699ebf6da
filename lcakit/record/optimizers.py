"""The optimizers of a loop, looked up inside what wraps them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from lcakit.errors import LcakitWarning, RecordingError
from lcakit.record.objective.describe import unwrap
from lcakit.record.objective.with_loss import ModelWithLoss

__all__ = ["checked_optimizers", "layers_of", "states_of"]


def __dir__() -> list[str]:
    return __all__


def layers_of(optimizer: Any) -> tuple[torch.optim.Optimizer, ...]:
    """Return the optimizers whose steps torch announces, the outermost first: one inside another steps as a part of it.

    Trainers hand out wrappers (Lightning, Fabric, accelerate), which look like optimizers, but whose own ``step`` runs
    no hooks. Others are optimizers themselves and use a further one (SAM, Lookahead): either of the two may be the one
    that the loop calls.
    """
    found: dict[int, torch.optim.Optimizer] = {}
    waiting, seen = [optimizer], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        if _announces_steps(one):
            found[id(one)] = one
        waiting += [value for value in _attributes(one) if _is_like_one(value)]
    return tuple(found.values())


def _announces_steps(one: Any) -> bool:
    """Say whether torch runs the hooks of this optimizer: it has made ``step`` do so when it built the optimizer."""
    hooks = "_optimizer_step_post_hooks" in getattr(one, "__dict__", {})
    return isinstance(one, torch.optim.Optimizer) and hooks and hasattr(type(one).step, "hooked")


def _is_like_one(value: Any) -> bool:
    return isinstance(value, torch.optim.Optimizer) or (
        not isinstance(value, type) and hasattr(value, "step") and hasattr(value, "param_groups")
    )


def _attributes(one: Any) -> Iterator[Any]:
    if isinstance(one, torch.optim.Optimizer) or hasattr(one, "step"):
        yield from getattr(one, "__dict__", {}).values()


def checked_optimizers(given: Any, model: nn.Module) -> list[torch.optim.Optimizer]:
    """Return the optimizers given as a list, as they were given.

    Raises
    ------
    RecordingError
        For what is no optimizer, has none inside, or steps nothing of the model.
    """
    if given is None:
        return []
    found = [given] if _single(given) else list(given.values() if isinstance(given, Mapping) else given)
    live = {id(p) for p in unwrap(model).parameters()}
    for optimizer in found:
        layers = layers_of(optimizer)
        if not layers:
            raise RecordingError(
                f"optimizer must be a torch optimizer, something that wraps one, or several of these, got "
                f"{type(optimizer).__name__}. Without one, call rec.step() in the loop."
            )
        if not any(id(p) in live for layer in layers for group in layer.param_groups for p in group["params"]):
            raise RecordingError(
                "the optimizer has no parameter of the objective's model, so its steps would not be a trajectory of "
                "it. Build both from the same model."
            )
    if isinstance(bare := unwrap(model), ModelWithLoss):
        _warn_of_idle(bare.own_loss, found)
    return found


def _warn_of_idle(loss: nn.Module, optimizers: Iterable[Any]) -> None:
    """Say which parameters of the loss learn as far as they tell, and no optimizer moves."""
    layers = [layer for optimizer in optimizers for layer in layers_of(optimizer)]
    held = {id(p) for layer in layers for group in layer.param_groups for p in group["params"]}
    idle = [name for name, p in loss.named_parameters() if p.requires_grad and id(p) not in held]
    if idle:
        more = f" and {len(idle) - 1} more" if len(idle) > 1 else ""
        warnings.warn(
            f"the loss has parameters that no optimizer holds ({idle[0]!r}{more}). They are part of θ, stay as they "
            "are, and their LCA is 0. If they should learn, give them to the optimizer; if not, freeze them before the "
            "objective is made (loss.requires_grad_(False)), which leaves them out.",
            LcakitWarning,
            stacklevel=4,
        )


def states_of(optimizers: Iterable[Any]) -> dict[str, Any]:
    """Return what has the state of the optimizers, by name; one inside another is to be restored before that."""
    found: dict[str, Any] = {}
    for number, optimizer in enumerate(optimizers):
        outer, *inner = layers_of(optimizer)
        found |= {f"optimizer{number}.{depth}": one for depth, one in reversed([*enumerate(inner, 1)])}
        found[f"optimizer{number}"] = outer
    return found


def _single(given: Any) -> bool:
    return _is_like_one(given) or bool(layers_of(given)) or not isinstance(given, Iterable)
