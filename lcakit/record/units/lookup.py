"""The units of a model's parameters, looked up by module and by name; what is not found there is left to the probe."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

import torch
from torch import nn

from lcakit.errors import ObjectiveError, TrajectoryError
from lcakit.record.units.table import Units, rule_of
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.unit_axes import NONE, parse_axes

__all__ = ["PLACES", "UNKNOWN", "Owned", "look_up", "of"]


def __dir__() -> list[str]:
    return __all__


UNKNOWN = Units(NONE, NONE)
"""Of a parameter whose units are not known."""

PLACES = ("position", "token")
"""Kinds of units that are rows of embeddings which no layer owns; each such tensor has units of its own."""

_NAMED = {
    "position": re.compile(r"(^|[._])(pos|position|positional)_?(emb|embed|embedding|embeddings|encoding)(\.|$)"),
    "token": re.compile(r"(^|[._])(cls|class|dist|distillation|mask|register|reg)_?(tokens?|embed|embedding)(\.|$)"),
    "rank": re.compile(r"(^|[._])lora_(embedding_)?A(\.|$)"),
}
_STEM = re.compile(r"^(.*?)(_g|_v|_orig|\.original\d*)$")
_SCALED = ("_WeightNorm", "_SpectralNorm")  # each entry of the weight is one of the original's, times a common factor


class Owned:
    """A trainable parameter, the module that owns it, and its name there."""

    def __init__(self, name: str, parameter: nn.Parameter, modules: Mapping[str, nn.Module]) -> None:
        self.name, self.parameter = name, parameter
        path, _, self.leaf = name.rpartition(".")
        if ".parametrizations." in f".{path}.":  # a parametrized tensor belongs to the layer it is of
            path, _, self.leaf = f".{name}".partition(".parametrizations.")
            path = path.lstrip(".")
        self.path, self.module = path, modules[path]
        self._modules = modules

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.path or "(root)"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter."""
        return tuple(self.parameter.shape)

    def owners(self) -> list[tuple[str, nn.Module]]:
        """Return the modules around the parameter, from the outermost, each with the parameter's name in it."""
        parts = self.name.split(".")
        paths = [".".join(parts[:k]) for k in range(len(parts))]
        return [(self.name[len(path) :].lstrip("."), self._modules[path]) for path in paths if path in self._modules]


@checks_arguments
def of(model: nn.Module) -> dict[str, Units]:
    """Return the units of a model's trainable parameters as far as they follow from its modules and names alone.

    An objective knows more: it also looks at a forward pass. ``objective.labels.tensors`` has all of it.

    Parameters
    ----------
    model
        Any module.

    Returns
    -------
    dict
        Name of a parameter -> its units; ``axes`` is ``"none"`` where they are not known.

    Raises
    ------
    ObjectiveError
        If a registered rule does not fit its parameter.

    Examples
    --------
    >>> import torch
    >>> of(torch.nn.GRU(3, 2, bias=False))["weight_hh_l0"]
    Units(axes='(tap=3 unit) input', kind='hidden unit', first=0)
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad and p.numel()}
    modules = dict(model.named_modules())
    return {name: look_up(Owned(name, parameter, modules)) or UNKNOWN for name, parameter in parameters.items()}


def look_up(one: Owned) -> Units | None:
    """Return the units of a parameter by rule or name, or None where neither says anything."""
    for name, module in one.owners():  # rules of users, the outermost first
        units = _matching(rule_of(module, registered=True), name)
        if units is not None:
            return _fitting(units, one, module)
    units = _by_table(one)
    return units if units is not None else _by_name(one)


def _matching(rule: Mapping[str, Units], name: str) -> Units | None:
    return next((units for pattern, units in rule.items() if fnmatch.fnmatchcase(name, pattern)), None)


def _fitting(units: Units, one: Owned, module: nn.Module) -> Units:
    try:
        parse_axes(units.axes, one.shape)
    except TrajectoryError as error:
        raise ObjectiveError(
            f"the rule of lk.units for {type(module).__name__}, parameter {one.name!r}: {error}"
        ) from error
    return units


def _by_table(one: Owned) -> Units | None:
    rule = rule_of(one.module)
    if one.leaf in rule:
        units = rule[one.leaf]
        return units if _fits(units, one.shape) else None
    match = _STEM.match(one.leaf)
    if match is None or match[1] not in rule:
        return None
    return _of_part(rule[match[1]], one, match[1])


def _of_part(units: Units, one: Owned, stem: str) -> Units | None:
    """Return the units of the part of a parametrized tensor: those of the whole, where it has as many."""
    parametrizations = getattr(one.module, "parametrizations", {})
    if stem in parametrizations and any(type(p).__name__ not in _SCALED for p in parametrizations[stem]):
        return None
    whole: torch.Tensor = getattr(one.module, stem)
    if not _fits(units, one.shape) or not _fits(units, tuple(whole.shape)):
        return None
    same = parse_axes(units.axes, one.shape).n_units == parse_axes(units.axes, tuple(whole.shape)).n_units
    return units if same else None


def _fits(units: Units, shape: tuple[int, ...]) -> bool:
    try:
        parse_axes(units.axes, shape)
    except TrajectoryError:
        return False
    return True


def _by_name(one: Owned) -> Units | None:
    """Return the rows of embeddings of positions and classes, and of LoRA's A, whose names are conventions."""
    rank = len(one.shape)
    for kind, pattern in _NAMED.items():
        if not pattern.search(one.name) or not 1 <= rank <= 3:
            continue
        if kind == "rank":
            return Units("unit input", kind) if rank == 2 else None
        return Units("unit " * (rank - 1) + "input", kind)
    return None
