"""What a forward pass shows of a model's units and norm layers, beyond what its modules and names say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from lcakit.record.units.forward import ForwardPass, Use, watch
from lcakit.record.units.lookup import Owned, look_up
from lcakit.record.units.probe import axes_of_module, axes_of_use, norm_roles
from lcakit.record.units.table import rule_of

__all__ = ["Seen", "look"]


def __dir__() -> list[str]:
    return __all__


_TABLES = ("embedding", "embedding_bag", "_embedding_bag", "_embedding_bag_forward_only", "index_select")


@dataclass(frozen=True)
class Seen:
    """What a forward pass shows.

    ``axes`` are those that probes found, ``outputs`` which of them are of the outputs of a layer that the table knows
    (a subclass with parameters of its own), ``rows`` the parameters that integers look rows up in, ``roles`` those of
    norm layers that the table does not know. ``passed`` has, for each parameter and each module that was called, the
    parameters that the data had passed before, the last one last; ``joined`` those whose output the parameter works on,
    or that it works on together.
    """

    axes: dict[str, str] = field(default_factory=dict)
    outputs: frozenset[str] = frozenset()
    rows: frozenset[str] = frozenset()
    roles: dict[str, str] = field(default_factory=dict)
    passed: dict[str, list[str]] = field(default_factory=dict)
    joined: dict[str, list[str]] = field(default_factory=dict)


def look(
    owned: Sequence[Owned], model: nn.Module, run: Callable[[], object], clean: Callable[[str], str] = str
) -> Seen:
    """Make a forward pass and probe what the table does not know.

    Parameters
    ----------
    owned
        The trainable parameters of the model.
    model
        The model, without wrappers.
    run
        Calls it on a few examples.
    clean
        Turns names in the model into those of ``owned``.
    """
    unknown = [one for one in owned if look_up(one) is None]
    around = {path for one in unknown for path in _paths(one)}
    seen = watch(model, run, around, [one.name for one in unknown], clean)
    passed = {name: _in_order(met) for name, met in seen.entered.items()}
    passed |= {name: _in_order(use.before) for name, use in seen.uses.items() if use.before or name not in passed}
    rows = frozenset(one.name for one in unknown if _looks_up(seen, one))
    roles: dict[str, str] = {}
    for path in dict.fromkeys(one.path for one in unknown):
        module = next(one.module for one in unknown if one.path == path)
        if path in seen.inputs and not any(module.children()):
            roles |= {
                f"{path}.{name}".lstrip("."): role for name, role in norm_roles(module, seen.inputs[path]).items()
            }
    outputs = {one.name: _of_output(one, seen) for one in unknown}
    axes = outputs | {one.name: _axes(one, seen) for one in unknown if one.name not in rows and not outputs[one.name]}
    joined = {one.name: _joined(seen.uses[one.name]) for one in unknown if one.name in seen.uses}
    found = {name: words for name, words in axes.items() if words}
    return Seen(found, frozenset(name for name, words in outputs.items() if words), rows, roles, passed, joined)


def _paths(one: Owned) -> list[str]:
    """Return the names of the modules around a parameter, from the innermost."""
    parts = one.path.split(".") if one.path else []
    return [".".join(parts[:k]) for k in range(len(parts), -1, -1)]


def _in_order(met: dict[str, int]) -> list[str]:
    return sorted(met, key=met.__getitem__)


def _joined(use: Use) -> list[str]:
    last = max(use.before.values(), default=0)
    return [*sorted(use.beside), *(name for name, step in use.before.items() if step == last)]


def _looks_up(seen: ForwardPass, one: Owned) -> bool:
    """Say whether integers look up rows of the parameter."""
    use = seen.uses.get(one.name)
    if use is None or not use.args or len(one.shape) != 2:
        return False
    name = str(use.operation).split(".")[1] if str(use.operation).startswith("aten.") else ""
    table = use.args[0]
    if name == "index":
        places = use.args[1]
        return isinstance(places, list | tuple) and len(places) == 1 and table.shape == one.parameter.shape
    return name in _TABLES and isinstance(table, torch.Tensor) and tuple(table.shape) == one.shape


def _of_output(one: Owned, seen: ForwardPass) -> str | None:
    """Return the axes along the outputs of a layer that the table knows, of a further parameter of it."""
    if not rule_of(one.module) or one.path not in seen.inputs or "." in one.leaf:
        return None
    return axes_of_module(one.module, one.leaf, seen.inputs[one.path])


def _axes(one: Owned, seen: ForwardPass) -> str | None:
    """Probe the operation that uses a parameter, and where that tells nothing, the innermost module that was called."""
    use = seen.uses.get(one.name)
    found = axes_of_use(use, one.parameter) if use is not None else None
    if found is not None:
        return found
    for path, (name, module) in zip(_paths(one), reversed(one.owners()), strict=False):
        if path in seen.inputs:
            return axes_of_module(module, name, seen.inputs[path])
    return None
