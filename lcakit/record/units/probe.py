r"""Units by experiment: which place of an operation's output moves when an entry of a parameter moves.

For an output of n places along an axis, 2 ⌈log₂ n⌉ backward passes tell all entries at once: in pass (b, v) only the
places whose number has the bit v at b count. An entry that moves a single place k has a gradient in exactly those
passes that k takes part in; one that moves several has a gradient for both values of some bit. In float64, with noise
on parameters and inputs, so that nothing is zero by accident.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from lcakit.errors import TrajectoryError
from lcakit.record.units.forward import Use
from lcakit.trajectory.unit_axes import NONE, parse_axes

__all__ = ["axes_of_module", "axes_of_use", "moved_places", "norm_roles"]


def __dir__() -> list[str]:
    return __all__


_MOST = 2**22  # entries of what is probed: a probe of larger ones would take minutes
_DRAWS = 2
_NOTHING, _SEVERAL = -1, -2
_FAILS = (
    RuntimeError,
    TypeError,
    ValueError,
    IndexError,
    NotImplementedError,
    AttributeError,
    KeyError,
    AssertionError,
)


def axes_of_use(use: Use, parameter: torch.Tensor) -> str | None:
    """Return the axes of a parameter as the first operation with data shows them, None where it does not."""
    if parameter.numel() > _MOST or not use.args:
        return None

    def run(value: torch.Tensor, noise: torch.Generator) -> torch.Tensor | None:
        def replaced(item: Any) -> Any:
            if isinstance(item, torch.Tensor) and item.untyped_storage().data_ptr() == place:
                return value.as_strided(item.shape, item.stride(), item.storage_offset() - start)
            return _moved(item, noise)

        return _first(use.operation(*tree_map(replaced, use.args), **tree_map(replaced, dict(use.kwargs))))

    place, start = parameter.untyped_storage().data_ptr(), parameter.storage_offset()
    return _axes(lambda noise: _run_on(run, parameter, noise), tuple(parameter.shape))


def _run_on(
    run: Callable[[torch.Tensor, torch.Generator], torch.Tensor | None], parameter: torch.Tensor, noise: torch.Generator
) -> tuple[torch.Tensor | None, torch.Tensor]:
    value = _moved(parameter.contiguous(), noise).requires_grad_()
    return run(value, noise), value


def axes_of_module(module: nn.Module, name: str, inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> str | None:
    """Return the axes of a parameter as the output of a module shows them, None where it does not."""
    if sum(p.numel() for p in module.parameters()) > _MOST:
        return None

    def run(noise: torch.Generator) -> tuple[torch.Tensor | None, torch.Tensor]:
        twin = _noisy_twin(module, noise)
        args, kwargs = tree_map(lambda item: _moved(item, noise), inputs)
        return _first(twin(*args, **kwargs)), twin.get_parameter(name)

    return _axes(run, tuple(module.get_parameter(name).shape))


def _axes(
    run: Callable[[torch.Generator], tuple[torch.Tensor | None, torch.Tensor]], shape: tuple[int, ...]
) -> str | None:
    """Return the axes that fit what two runs with different noise show."""
    draws = []
    try:
        for draw in range(_DRAWS):
            with torch.enable_grad():
                output, value = run(torch.Generator().manual_seed(draw))
            if output is None or not output.requires_grad:
                return None
            draws.append((output, value))
        sizes = draws[0][0].shape
        along = [axis for axis in [*range(1, len(sizes)), 0][: len(sizes)] if sizes[axis] > 1]
        found = [_fit(_merged([moved_places(*draw, axis) for draw in draws]), shape) for axis in along]
    except _FAILS:
        return None  # an operation that has no gradient, or does not work in float64
    return _together([axes for axes in found if axes is not None], shape)


def _together(found: Sequence[str], shape: tuple[int, ...]) -> str | None:
    """Return the axes of units along several axes of the output, such as heads and the neurons of each.

    Where each entry would be a unit of its own, the first axis counts alone: rows of an embedding of positions.
    """
    if len(found) < 2 or any("(" in axes or axes == NONE for axes in found):
        return found[0] if found else None
    words = [{"unit"} & set(own) or set(own) for own in zip(*(axes.split() for axes in found), strict=True)]
    units = [word == {"unit"} for word in words]
    if all(is_unit or size == 1 for is_unit, size in zip(units, shape, strict=True)):
        return found[0]
    others = iter(["input", *["tap"] * len(shape)])
    axes = " ".join("unit" if is_unit else next(others) for is_unit in units)
    try:
        parse_axes(axes, shape)
    except TrajectoryError:
        return None
    return axes


def moved_places(output: torch.Tensor, value: torch.Tensor, axis: int) -> torch.Tensor:
    """Return for each entry of ``value`` the place along an axis of the output that it moves.

    Returns
    -------
    Tensor
        int64 of the shape of ``value``; -1 where an entry moves nothing, -2 where it moves several places.
    """
    n = output.shape[axis]
    noise = torch.Generator().manual_seed(n)
    weights = torch.rand(output.shape, generator=noise, dtype=torch.float64) + 0.5
    numbers = torch.arange(n).reshape(-1, *[1] * (output.dim() - axis % output.dim() - 1))
    place = torch.zeros(value.shape, dtype=torch.int64)
    several, any_ = torch.zeros(value.shape, dtype=torch.bool), torch.zeros(value.shape, dtype=torch.bool)
    for bit in range((n - 1).bit_length()):
        moved = []
        for wanted in (0, 1):
            part = (weights * ((numbers >> bit) & 1 == wanted)).to(output)
            (slope,) = torch.autograd.grad(output, value, part, retain_graph=True)
            moved.append((slope != 0).cpu())
        several |= moved[0] & moved[1]
        any_ |= moved[0] | moved[1]
        place += moved[1].long() << bit
    place[~any_] = _NOTHING
    place[several] = _SEVERAL
    return place


def _merged(places: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return what several runs show together: an entry may move nothing by accident in one of them."""
    whole = places[0].clone()
    for other in places[1:]:
        new = whole == _NOTHING
        whole[new] = other[new]
        whole[(other != _NOTHING) & (other != whole)] = _SEVERAL
    return whole


def _fit(place: torch.Tensor, shape: tuple[int, ...]) -> str | None:
    """Return the axes whose units are the places that the entries move, up to a common offset; None where none are."""
    known = place != _NOTHING
    if (place == _SEVERAL).any() or known.sum() * 2 < place.numel():
        return None
    if place[known].unique().numel() == 1:
        return NONE  # a single unit
    for axes in _candidates(shape, int(place.max()) + 1):
        units = torch.as_tensor(parse_axes(axes, shape).index("unit").copy()).reshape(shape)
        if (place - units)[known].unique().numel() == 1:
            return axes
    return None


def _candidates(shape: tuple[int, ...], n: int) -> Iterator[str]:
    """Yield axes of units along one axis of a tensor, whole or split in two."""
    for axis, size in enumerate(shape):
        if size < 2:
            continue
        others = ["input", *["tap"] * (len(shape) - 2)]
        for words in ("unit", *(f for k in range(2, size) if size % k == 0 and k <= n for f in _halves(size, k))):
            yield " ".join([*others[:axis], words, *others[axis:]][: len(shape)])


def _halves(size: int, units: int) -> tuple[str, str]:
    return f"(tap={size // units} unit)", f"(unit={units} tap)"


def norm_roles(module: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> dict[str, str]:
    """Return the roles of a module's parameters where it is a norm layer: a multiple of its input has the same output.

    Returns
    -------
    dict
        Name of a parameter -> ``"norm_scale"``, or ``"norm_shift"`` where the input makes no difference to its
        gradient; empty for a module that is no norm layer.
    """
    names = [name for name, p in module.named_parameters(recurse=False) if p.requires_grad]
    try:
        with torch.enable_grad():
            slopes = _slopes_of_norm(module, names, inputs)
    except _FAILS:
        return {}  # it takes no float64, or no single tensor
    return {name: "norm_shift" if torch.equal(a, b) else "norm_scale" for name, (a, b) in slopes.items()}


def _slopes_of_norm(
    module: nn.Module, names: Sequence[str], inputs: tuple[tuple[Any, ...], dict[str, Any]]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the gradients of a norm layer's parameters for an input and for minus it; nothing for other modules."""
    noise = torch.Generator().manual_seed(0)
    twin = _noisy_twin(module, noise)
    (x, *args), kwargs = tree_map(lambda item: _moved(item, noise), inputs)
    once, larger, minus = (_first(twin(x * factor, *args, **kwargs)) for factor in (1.0, 8.0, -1.0))
    if once is None or larger is None or minus is None or once.shape != x.shape:
        return {}
    if (once - larger).abs().max() > 1e-3 * once.abs().max():  # eps makes a difference of about 1e-5
        return {}
    values = [twin.get_parameter(name) for name in names]
    pairs = zip(*(torch.autograd.grad(output.sum(), values) for output in (once, minus)), strict=True)
    return dict(zip(names, pairs, strict=True))


def _noisy_twin(module: nn.Module, noise: torch.Generator) -> nn.Module:
    twin = copy.deepcopy(module).double()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.copy_(_moved(parameter, noise))
    for parameter in twin.parameters():
        parameter.requires_grad_()
    return twin


def _moved(item: Any, noise: torch.Generator) -> Any:
    """Return a tensor of floats in float64 with noise of its own size, anything else as it is."""
    if not isinstance(item, torch.Tensor) or not item.is_floating_point():
        return item
    value = item.detach().double()
    size = float(value.std()) if value.numel() > 1 else 0.0
    step = torch.rand(value.shape, generator=noise, dtype=torch.float64).to(value.device) + 0.5
    return value + step * (size or 1.0)


def _first(output: Any) -> torch.Tensor | None:
    """Return the first tensor of floats of an output."""
    return next((t for t in tree_leaves(output) if isinstance(t, torch.Tensor) and t.is_floating_point()), None)
