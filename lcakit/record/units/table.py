"""The table from types of modules to the units of their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lcakit.errors import ObjectiveError
from lcakit.trajectory.arguments import checks_arguments, checks_creation, checks_itself
from lcakit.trajectory.unit_axes import NONE

__all__ = ["Rule", "Units", "by_head", "register", "rule_of", "table"]


def __dir__() -> list[str]:
    return __all__


@checks_creation
@dataclass(frozen=True)
class Units:
    """The units of one parameter.

    Parameters
    ----------
    axes
        A word for each axis of the parameter, such as ``"unit input"``: :mod:`lcakit.trajectory.unit_axes`.
    kind
        What a unit is: ``"neuron"``, ``"channel"``, ``"row"``, ``"head"``, … Parameters of a layer with the same kind
        share its units; other kinds are other units of the layer.
    first
        Number of the first unit among those of the kind.
    """

    axes: str
    kind: str = "neuron"
    first: int = 0


Rule = Mapping[str, "str | Units"] | Callable[[nn.Module], Mapping[str, "str | Units"]]
"""Name of a parameter in the module (``"weight"``, ``"proj.weight"``) -> its units; or a function that returns that."""


def _rows(kind: str) -> dict[str, Units]:
    """Return the rule of layers whose first axis is their units."""
    return {"weight": Units("unit input tap...", kind), "bias": Units("unit", kind)}


def _affine(module: Any) -> dict[str, Units]:
    """Return the rule of norm layers: a scale and a shift for each channel, the first axis."""
    several = isinstance(module, nn.LayerNorm | nn.RMSNorm) and len(module.normalized_shape) > 1
    return {name: Units("unit input tap..." if several else "unit", "channel") for name in ("weight", "bias")}


def _transposed(module: Any) -> dict[str, Units]:
    """Return the rule of a transposed convolution: its kernel has the axes in, out of a group, taps."""
    return {"weight": Units(f"(group={module.groups} input) unit tap...", "channel"), "bias": Units("unit", "channel")}


def _slope(module: Any) -> dict[str, Units]:
    """Return the rule of PReLU: a slope for each channel, or one for all."""
    return {"weight": Units("unit" if module.num_parameters > 1 else NONE, "channel")}


_GATES: dict[type[nn.Module], int] = {
    nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1, nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1,
}  # fmt: skip


def _recurrent(module: Any) -> dict[str, Units]:
    """Return the rule of a recurrent layer: a hidden unit owns its rows of each gate, for each direction and layer."""
    gates = next(n for kind, n in _GATES.items() if isinstance(module, kind))
    rows = f"(tap={gates} unit)" if gates > 1 else "unit"
    if isinstance(module, nn.RNNCellBase):
        return {f"{what}_{of}": Units(axes, "hidden unit") for what, axes in _ends(rows) for of in ("ih", "hh")}
    directions = ("", "_reverse") if module.bidirectional else ("",)
    names = [f"l{layer}{direction}" for layer in range(module.num_layers) for direction in directions]
    found: dict[str, Units] = {}
    for place, name in enumerate(names):
        first = place * module.hidden_size
        for what, axes in _ends(rows):
            found |= {f"{what}_{of}_{name}": Units(axes, "hidden unit", first) for of in ("ih", "hh")}
        found[f"weight_hr_{name}"] = Units("unit input", "projection", place * module.proj_size)
    return found


def _ends(rows: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("weight", f"{rows} input"), ("bias", rows)


def _attention(module: Any) -> dict[str, Units]:
    """Return the rule of packed attention projections: the neurons of q, then those of k, then those of v."""
    return _packed(module.embed_dim, lambda parts: "unit", "neuron")


@checks_arguments
def by_head(module: nn.Module) -> dict[str, Units]:
    """Return the rule of ``nn.MultiheadAttention`` by head: the heads of q, then those of k, then those of v.

    Parameters
    ----------
    module
        The attention layer, with H heads.

    Returns
    -------
    dict
        The units of its parameters: 3 H, head ``h`` of q, k and v is unit ``h``, ``H + h`` and ``2 H + h``.

    Raises
    ------
    ObjectiveError
        For another module: its rule must say itself where its heads are.

    Examples
    --------
    >>> import torch
    >>> by_head(torch.nn.MultiheadAttention(8, 2))["in_proj_bias"].axes
    '(unit=6 tap)'
    """
    if not isinstance(module, nn.MultiheadAttention):
        raise ObjectiveError(
            f"by_head knows the heads of nn.MultiheadAttention, got {type(module).__name__}. Register a rule that says "
            'where they are, such as {"qkv.weight": lk.units.Units("(unit=12 tap) input", "head")} for four heads.'
        )
    heads = module.num_heads
    return _packed(heads, lambda parts: f"(unit={parts * heads} tap)", "head")


def _packed(units: int, rows: Callable[[int], str], kind: str) -> dict[str, Units]:
    """Return the rule of an attention layer with so many units in each of q, k and v; ``rows`` are those of some."""
    found = {"in_proj_weight": Units(f"{rows(3)} input", kind), "in_proj_bias": Units(rows(3), kind)}
    for place, name in enumerate("qkv"):
        found[f"{name}_proj_weight"] = Units(f"{rows(1)} input", kind, place * units)
        if place:
            found[f"bias_{name}"] = Units(f"input tap {rows(1)}", kind, place * units)
    return found


_TABLE: dict[type[nn.Module] | str, Rule] = {
    nn.Linear: _rows("neuron"),
    nn.Bilinear: _rows("neuron"),
    nn.modules.conv._ConvTransposeNd: _transposed,
    nn.modules.conv._ConvNd: _rows("channel"),
    nn.Embedding: {"weight": Units("unit input", "row")},
    nn.EmbeddingBag: {"weight": Units("unit input", "row")},
    nn.modules.batchnorm._NormBase: _affine,
    nn.LayerNorm: _affine,
    nn.GroupNorm: _affine,
    nn.RMSNorm: _affine,
    nn.MultiheadAttention: _attention,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent,
    nn.PReLU: _slope,
    "transformers.pytorch_utils.Conv1D": {"weight": Units("input unit"), "bias": Units("unit")},
}
_REGISTERED: dict[type[nn.Module] | str, Rule] = {}


@checks_arguments
@checks_itself(module=Any, rule=Any)
def register(module: type[nn.Module] | str, rule: Rule | None) -> None:
    """Say what the units of a type of modules are, for all objectives that are made from now on.

    Parameters
    ----------
    module
        The type, subclasses included; or its full name, ``"package.module.Class"``, which needs no import. A rule of a
        type that contains others may name their parameters (``"qkv.weight"``), and goes before theirs.
    rule
        Name of a parameter -> its :class:`Units`, or their axes alone: ``{"weight": "input unit"}``. Or a function of
        the module that returns that. None takes a rule back.

    Raises
    ------
    ObjectiveError
        If the type is no type of modules, or the rule no such rule.

    Examples
    --------
    >>> import torch
    >>> class Columns(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight = torch.nn.Parameter(torch.zeros(4, 3))
    >>> register(Columns, {"weight": "input unit"})
    >>> register(Columns, None)
    """
    if not (isinstance(module, str) and "." in module) and not (
        isinstance(module, type) and issubclass(module, nn.Module)
    ):
        raise ObjectiveError(
            f'lk.units.register needs a type of modules (class Mine(nn.Module)) or its full name ("package.Mine"), got '
            f"{module!r}"
        )
    if rule is None:
        _REGISTERED.pop(module, None)
    elif callable(rule) or isinstance(rule, Mapping):
        if isinstance(rule, Mapping):
            as_units(rule)
        _REGISTERED[module] = rule
    else:
        raise ObjectiveError(
            'the rule must be a mapping such as {"weight": "input unit"} or a function of the module that returns one, '
            f"got {rule!r}"
        )


@checks_arguments
def table() -> dict[type[nn.Module] | str, Rule]:
    """Return the rules that hold now, by the type of modules or its full name; those registered go before the others.

    Examples
    --------
    >>> import torch
    >>> table()[torch.nn.Linear]["bias"]
    Units(axes='unit', kind='neuron', first=0)
    """
    return {**_TABLE, **_REGISTERED}


def rule_of(module: nn.Module, registered: bool = False) -> dict[str, Units]:
    """Return the units of a module's parameters by their names in it, of the first of its types that has a rule.

    Parameters
    ----------
    module
        Any module.
    registered
        Look only at rules that users registered.
    """
    for rules in (_REGISTERED,) if registered else (_REGISTERED, _TABLE):
        for kind in type(module).__mro__:
            rule = rules.get(kind, rules.get(f"{kind.__module__}.{kind.__qualname__}"))
            if rule is not None:
                return as_units(rule(module) if callable(rule) else rule)
    return {}


def as_units(rule: Mapping[str, str | Units]) -> dict[str, Units]:
    """Return a rule with :class:`Units` only; raise ObjectiveError for anything else."""
    if not isinstance(rule, Mapping):
        raise ObjectiveError(
            f'a rule of lk.units must return a mapping such as {{"weight": "input unit"}}, got {rule!r}'
        )
    found = {name: Units(units) if isinstance(units, str) else units for name, units in rule.items()}
    for name, units in found.items():
        if not isinstance(units, Units):
            raise ObjectiveError(
                f'the units of {name!r} must be the words of its axes ("input unit") or lk.units.Units, got {units!r}'
            )
    return found
