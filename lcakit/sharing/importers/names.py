"""Guess what a tensor is from its name and shape, for sources without a model.

The part behind the last ``/`` (the last ``.`` where there is no slash), without TensorFlow's ``:0``, says the role;
what stands before it is the layer, ``(root)`` if nothing does. Capitals do not matter.

====================================================  =============================================================
last part                                             role
====================================================  =============================================================
``kernel``, ``weights``, ``weight``, ``w``, and       kernel, with two axes or more; a ``weight`` of one axis is a
``recurrent_``, ``pointwise_``, ``depthwise_kernel``  norm_scale; otherwise other
``bias``, ``biases``, ``b``                           bias; norm_shift beside a norm_scale
``gamma``, ``scale``                                  norm_scale
``beta``, ``shift``                                   norm_shift
``embedding``, ``embeddings``                         embedding
``moving_mean``, ``moving_variance``,                 none: these are not learned, so not parameters
``running_mean``, ``running_var``,
``num_batches_tracked``
anything else                                         other
====================================================  =============================================================

A norm layer belongs to the last kernel before it with as many units, failing that to the last kernel before it. What
a name cannot tell (PyTorch's embeddings and transposed convolutions) needs a
:class:`lcakit.trajectory.labels.TensorSpec`; the units of what is ``other`` are not known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lcakit.errors import TrajectoryError
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.unit_axes import NONE

__all__ = ["DEPTHWISE", "NOT_LEARNED", "ROOT", "bare_name", "guess_labels", "is_learned", "split"]


def __dir__() -> list[str]:
    return __all__


ROOT = "(root)"
NOT_LEARNED = ("moving_mean", "moving_variance", "running_mean", "running_var", "num_batches_tracked")
DEPTHWISE = "depthwise_kernel"
_KERNELS = ("kernel", "weights", "weight", "w", "recurrent_kernel", "pointwise_kernel", DEPTHWISE)
_BIASES = ("bias", "biases", "b")
_ROLES = {
    "gamma": "norm_scale",
    "scale": "norm_scale",
    "beta": "norm_shift",
    "shift": "norm_shift",
    "embedding": "embedding",
    "embeddings": "embedding",
}
_KINDS = {2: "linear", 3: "conv1d", 4: "conv2d", 5: "conv3d"}


def split(name: str) -> tuple[str, str]:
    """Return the layer and the last part of a name: ``"conv_1/kernel:0"`` -> ``("conv_1", "kernel")``."""
    bare = re.sub(r":[0-9]+$", "", name)
    layer, _, leaf = bare.rpartition("/" if "/" in bare else ".")
    return layer or ROOT, leaf.lower()


def bare_name(name: str) -> str:
    """Return a name without the parts that DataParallel and torch.compile add, wherever they are."""
    return ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod"))


def is_learned(name: str) -> bool:
    """Say whether a tensor of that name is a parameter, not a statistic that a norm layer keeps."""
    return split(name)[1] not in NOT_LEARNED


def guess_labels(shapes: Mapping[str, Sequence[int]], transposed: Sequence[str] = ()) -> Labels:
    """Return the labels of the learned tensors among ``shapes`` (name -> shape in PyTorch's order of axes).

    Parameters
    ----------
    shapes
        In the order in which the tensors lie on the flat axis.
    transposed
        Names of kernels of transposed convolutions (their units lie on the second axis).

    Raises
    ------
    TrajectoryError
        If a shape has an axis without entries, or nothing is learned.
    """
    learned = {name: tuple(int(n) for n in shape) for name, shape in shapes.items() if is_learned(name)}
    if not learned:
        raise TrajectoryError(f"no tensor is a parameter; there are {', '.join(shapes) or 'no tensors'}")
    for name, shape in learned.items():
        if any(n < 1 for n in shape):
            raise TrajectoryError(f"tensor {name!r} has the shape {shape}: every axis needs at least one entry")
    scaled = {split(name)[0] for name, shape in learned.items() if _role(name, len(shape)) == "norm_scale"}
    specs = [_spec(name, shape, scaled, name in transposed) for name, shape in learned.items()]
    return Labels(_merge_norms(specs))


def _role(name: str, rank: int) -> str:
    _, leaf = split(name)
    if leaf in _KERNELS:
        if rank >= 2:
            return "kernel"
        return "norm_scale" if leaf == "weight" and rank == 1 else "other"
    return "bias" if leaf in _BIASES else _ROLES.get(leaf, "other")


def _spec(name: str, shape: tuple[int, ...], scaled: set[str], transposed: bool) -> TensorSpec:
    layer, _ = split(name)
    role = _role(name, len(shape))
    role = "norm_shift" if role == "bias" and layer in scaled else role
    return TensorSpec(name, shape, role, layer, transposed=transposed and role == "kernel")


def _merge_norms(specs: list[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Give each tensor the kind of its layer, and each norm layer the kernel that it belongs to."""
    kinds, merged = {}, {}
    kernels: dict[str, int] = {}
    for layer in dict.fromkeys(spec.layer for spec in specs):
        own = {spec.role: spec for spec in reversed(specs) if spec.layer == layer}
        first = own.get("kernel") or own.get("embedding")
        norm = own.get("norm_scale") or own.get("norm_shift")
        if first:
            kernels[layer] = first.n_units
            kind = "embedding" if first.role == "embedding" else _KINDS.get(len(first.shape), "other")
            kinds[layer] = kind.replace("conv", "convtranspose") if first.transposed else kind
        elif norm:
            kinds[layer] = "norm"
            fitting = [k for k, width in kernels.items() if width == norm.n_units]
            merged[layer] = (fitting or [*kernels] or [layer])[-1]
    named = (replace(s, layer_kind=kinds.get(s.layer, "other"), kernel_layer=merged.get(s.layer, "")) for s in specs)
    return _with_units(list(named))


def _with_units(specs: list[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Say what the units of each tensor are; those of a tensor whose name tells nothing are one more of its layer."""
    units: dict[str, int] = {}
    for spec in specs:
        if spec.role != "other":
            units[spec.layer] = max(units.get(spec.layer, 0), spec.n_units)
    found = []
    for spec in specs:
        if spec.role == "other":
            found.append(replace(spec, axes=NONE, unit_kind=NONE, first_unit=units.get(spec.layer, 0)))
        else:
            kind = "channel" if "conv" in spec.layer_kind or spec.layer_kind == "norm" else "neuron"
            found.append(replace(spec, unit_kind="row" if spec.role == "embedding" else kind))
    return tuple(found)
