"""Do the labels say what the shapes and names of the tensors say: permuted columns contradict them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from lcakit.sharing.validation.checks import Check, listed
from lcakit.text import printable

__all__ = ["check"]


def __dir__() -> list[str]:
    return __all__


_NAMES = {"bias": ("kernel", "norm_scale", "embedding"), "weight": ("bias", "norm_shift")}
"""Last part of a tensor's name -> roles that it contradicts."""


def check(ds: xr.Dataset) -> Check:
    """Make the check of a dataset whose tables are sound by themselves and hold the whole network."""
    problems = [*_layers_of_tensors(ds), *_roles(ds), *_kernels(ds), *_units(ds), *_axes(ds)]
    meaning = "Units and inputs follow the axes of their tensors, and names tell the layer and the role."
    remedy = "Take the tables from the network: lk.from_arrays with its layout, or record it again."
    fine = f"{ds.sizes['tensor']} tensors agree with their labels"
    return listed("labels and shapes", "structure", problems, fine, meaning, remedy)


def _layers_of_tensors(ds: xr.Dataset) -> Iterator[str]:
    """A tensor ``fc2.weight`` is not in the layer ``fc1``, where there is an ``fc2``."""
    layers = [str(name) for name in ds["layer"].values]
    for tensor, row in zip(ds["tensor"].values.astype(str), ds["tensor_layer"].values, strict=True):
        owner = tensor.rpartition(".")[0]
        if owner in layers and owner != layers[row]:
            yield f"tensor {printable(tensor, 60)} lies in the layer {printable(layers[row], 60)}"


def _roles(ds: xr.Dataset) -> Iterator[str]:
    for tensor, role in zip(ds["tensor"].values.astype(str), ds["tensor_role"].values.astype(str), strict=True):
        if role in _NAMES.get(tensor.rpartition(".")[2], ()):
            yield f"tensor {printable(tensor, 60)} has the role {role}"


def _kernels(ds: xr.Dataset) -> Iterator[str]:
    """A layer that others are merged into is merged into itself, and so is one with a kernel."""
    target, layers = ds["kernel_layer"].values, ds["layer"].values.astype(str)
    own = np.unique(ds["tensor_layer"].values[ds["tensor_role"].values.astype(str) == "kernel"])
    wrong = np.flatnonzero(target[target] != target)
    wrong = np.union1d(wrong, own[target[own] != own])
    for row in wrong:
        yield f"layer {printable(layers[row], 60)} counts with {printable(layers[target[row]], 60)}"


def _units(ds: xr.Dataset) -> Iterator[str]:
    """Every unit of the table has parameters."""
    empty = np.setdiff1d(ds["unit"].values, ds["unit_index"].values)
    if empty.size:
        yield f"{empty.size} units have no parameters, the first is {empty[0]}"


def _axes(ds: xr.Dataset) -> Iterator[str]:
    """Within a tensor a unit is a place on one axis, and an input on another one.

    In a transposed convolution with groups, units are on two axes: nothing is said of those.
    """
    kinds = ds["layer_kind"].values.astype(str)[ds["tensor_layer"].values]
    start = 0
    for row, (name, kind) in enumerate(zip(ds["tensor"].values.astype(str), kinds, strict=True)):
        shape = [int(n) for n in ds["tensor_shape"].values[row] if n]
        place = slice(start, start := start + int(ds["tensor_size"].values[row]))
        if "transpose" in kind or len(shape) < 2:
            continue
        along = [_axes_of(ds[label].values[place].reshape(shape)) for label in ("unit_index", "input_index")]
        for label, axes in zip(("unit_index", "input_index"), along, strict=True):
            if len(axes) > 1:
                yield f"{label} of {printable(name, 60)} is not a place on one axis of its shape {tuple(shape)}"
        if along[0] and along[0] == along[1]:
            yield f"units and inputs of {printable(name, 60)} are on the same axis"


def _axes_of(labels: np.ndarray) -> list[int]:
    """Return the axes along which labels vary."""
    first = [labels.take([0], axis=axis) for axis in range(labels.ndim)]
    return [axis for axis, part in enumerate(first) if (labels != part).any()]
