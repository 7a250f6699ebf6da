"""From parameters, with what is known of them, to the specs of their tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from lcakit.record.units.lookup import PLACES, UNKNOWN, Owned, look_up
from lcakit.record.units.norms import kernel_layers
from lcakit.record.units.seen import Seen
from lcakit.record.units.table import Units, rule_of
from lcakit.trajectory.labels import TensorSpec
from lcakit.trajectory.unit_axes import NONE, parse_axes

__all__ = ["specs_of"]


def __dir__() -> list[str]:
    return __all__


_NORMS: tuple[type[nn.Module], ...] = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def specs_of(owned: Sequence[Owned], seen: Seen) -> Iterator[TensorSpec]:
    """Yield the spec of each parameter's tensor, in order."""
    units = {one.name: _units(one, seen) for one in owned}
    firsts = _firsts(owned, units, _blocks(owned, units, seen))
    roles = {one.name: _role(one, units[one.name], seen) for one in owned}
    kernels = _kernel_layers(owned, units, roles, seen)
    for one in owned:
        yield TensorSpec(
            one.name,
            one.shape,
            roles[one.name],
            one.layer,
            type(one.module).__name__.lower(),
            kernels.get(one.layer, one.layer),
            axes=units[one.name].axes,
            first_unit=firsts[one.name],
            unit_kind=units[one.name].kind,
        )


def _units(one: Owned, seen: Seen) -> Units:
    found = look_up(one)
    if found is None and one.name in seen.rows:
        return Units("unit input", "row")
    if found is None and seen.axes.get(one.name, NONE) != NONE:
        kinds = [units.kind for units in rule_of(one.module).values()] if one.name in seen.outputs else []
        return Units(seen.axes[one.name], (kinds or ["output"])[0])
    return found or UNKNOWN


def _blocks(owned: Sequence[Owned], units: Mapping[str, Units], seen: Seen) -> dict[str, str]:
    """Return a name for the units of each tensor, the same for tensors of a layer that share them.

    Those of one kind that a rule knows are the same. Those that a probe found are the same where one tensor works on
    the output of the other, or both are in one operation, as a bias and its kernel.
    """
    sizes = {one.name: parse_axes(units[one.name].axes, one.shape).n_units for one in owned}
    layers = {one.name: one.layer for one in owned}
    blocks: dict[str, str] = {}

    def block(one: Owned) -> str:
        kind = units[one.name].kind
        if kind != "output":
            return f"{kind} {one.name}" if kind in PLACES else kind
        beside = [name for name in seen.joined.get(one.name, ()) if layers.get(name) == one.layer and name in blocks]
        same = [name for name in beside if sizes[name] == sizes[one.name]]
        return blocks[same[0]] if same else one.name

    by_use = sorted(owned, key=lambda one: (len(seen.passed.get(one.name, ())), len(one.shape) < 2))
    for one in by_use:  # kernels before what works on their output
        blocks[one.name] = block(one)
    return blocks


def _firsts(owned: Sequence[Owned], units: Mapping[str, Units], blocks: Mapping[str, str]) -> dict[str, int]:
    """Return the number of each tensor's first unit in its layer: one block of units after the other, "none" last."""
    firsts: dict[str, int] = {}
    for layer in dict.fromkeys(one.layer for one in owned):
        own = [one for one in owned if one.layer == layer]
        sizes: dict[str, int] = {}
        for one in own:
            size = units[one.name].first + parse_axes(units[one.name].axes, one.shape).n_units
            sizes[blocks[one.name]] = max(sizes.get(blocks[one.name], 0), size)
        starts, start = {}, 0
        for name in sorted(sizes, key=lambda name: name == NONE):  # stable: the others in order
            starts[name] = start
            start += sizes[name]
        firsts |= {one.name: starts[blocks[one.name]] + units[one.name].first for one in own}
    return firsts


def _role(one: Owned, units: Units, seen: Seen) -> str:
    if isinstance(one.module, _NORMS):
        return "norm_shift" if one.leaf.startswith("bias") else "norm_scale"
    if one.name in seen.roles:
        return seen.roles[one.name]
    if "bias" in one.leaf:
        return "bias"
    if units.kind in ("row", *PLACES):
        return "embedding"
    alone = units.kind == "output" and parse_axes(units.axes, one.shape).n_units == math.prod(one.shape)
    return "kernel" if len(one.shape) >= 2 and not alone else "other"  # (C, 1, 1) is a scale


def _kernel_layers(
    owned: Sequence[Owned], units: Mapping[str, Units], roles: Mapping[str, str], seen: Seen
) -> dict[str, str]:
    widths: dict[str, int] = {}
    norms: dict[str, int] = {}
    passed: dict[str, list[str]] = {}
    layer_of = {one.name: one.layer for one in owned}
    for one in owned:
        role, kind = roles[one.name], units[one.name].kind
        if role in ("kernel", "embedding") and kind not in PLACES:
            row = kind == "row"
            n = one.shape[-1] if row else parse_axes(units[one.name].axes, one.shape).n_units
            widths[one.layer] = max(n, widths.get(one.layer, 0))
    for one in owned:
        if roles[one.name] == "norm_scale" and one.layer not in widths:
            norms[one.layer] = max(1, one.parameter.shape[-1] if one.shape else 1)
            before = seen.passed.get(one.name) or seen.passed.get(one.path)
            if before is not None:
                passed[one.layer] = [layer_of[name] for name in before if name in layer_of]
    layers = list(dict.fromkeys(layer_of.values()))
    return kernel_layers(layers, widths, norms, passed)
