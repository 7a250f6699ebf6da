"""What each entry of the flat parameter vector is: tensor, layer, unit, input, kernel tap.

A network is described by one :class:`TensorSpec` per parameter tensor; :class:`Labels` lays them out on the flat
``parameter`` axis and gives the label coordinates and lookup tables of the format (:mod:`lcakit.trajectory.schema`).
No torch here: ``lcakit.record`` makes the specs from a model, tests and importers make them by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError, unknown
from lcakit.trajectory.columns import LABELS, column_of
from lcakit.trajectory.schema import ROLES
from lcakit.trajectory.unit_axes import PLAIN_UNITS, UnitAxes, parse_axes

__all__ = [
    "GROUPINGS",
    "Labels",
    "TensorSpec",
    "group_ids",
    "is_whole",
    "parameter_coord",
    "parameter_index",
    "parameter_name",
    "runs_of",
    "tensor_shapes",
]


def __dir__() -> list[str]:
    return __all__


GROUPINGS = ("tensor", "layer", "kernel_layer", "unit", "role")


@dataclass(frozen=True)
class TensorSpec:
    """One parameter tensor.

    ``shape`` is the natural shape. ``axes`` says which entries are of which unit (:mod:`lcakit.trajectory.unit_axes`);
    without it the unit axis is the first one (output neurons, output channels), except in a transposed convolution
    (``transposed=True``: in, out per group, taps …, with ``groups``). The first unit has the number ``first_unit`` in
    its layer, and ``unit_kind`` says what the units are (``"neuron"``, ``"head"``, …; ``"none"`` if not known).
    ``kernel_layer`` names the layer whose kernel this tensor's layer is merged into (itself, if it has a kernel).
    """

    name: str
    shape: tuple[int, ...]
    role: str
    layer: str
    layer_kind: str = "other"
    kernel_layer: str = ""
    transposed: bool = False
    groups: int = 1
    axes: str = ""
    first_unit: int = 0
    unit_kind: str = ""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise unknown("tensor role", self.role, ROLES)
        if self.axes:
            parse_axes(self.axes, self.shape)  # raises where they do not fit

    @property
    def size(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)

    @property
    def unit_axes(self) -> UnitAxes:
        """The axes of the tensor, with what each of them counts."""
        first = f"(group={self.groups} input) unit" if self.transposed and len(self.shape) >= 2 else "unit input"
        usual = f"{first} tap..." if len(self.shape) >= 2 else "unit" * len(self.shape)
        return parse_axes(self.axes or usual, self.shape)

    @property
    def unit_view(self) -> tuple[int, int, int, int]:
        """Shape (groups, before, units, after) of the tensor such that units are axes 0 and 2 (C order)."""
        return self.unit_axes.view

    @property
    def n_units(self) -> int:
        """Number of units that the tensor contributes to."""
        return self.unit_axes.n_units


@dataclass(frozen=True)
class Labels:
    """The layout of the flat parameter vector of one network, in the order of ``tensors``."""

    tensors: tuple[TensorSpec, ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Index of each tensor's first parameter."""
        ends = np.cumsum([0, *(t.size for t in self.tensors)])
        return tuple(int(n) for n in ends[:-1])

    @property
    def n_parameters(self) -> int:
        """K, the length of the flat vector."""
        return sum(t.size for t in self.tensors)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Layer names in the order of their first tensor."""
        return tuple(dict.fromkeys(t.layer for t in self.tensors))

    @cached_property
    def layer_row(self) -> dict[str, int]:
        """Row of each layer in the layer table."""
        return {layer: i for i, layer in enumerate(self.layers)}

    @cached_property
    def units_per_layer(self) -> tuple[int, ...]:
        """Number of units of each layer: those of its tensors, which may share them."""
        ends = dict.fromkeys(self.layers, 0)
        for t in self.tensors:
            ends[t.layer] = max(ends[t.layer], t.first_unit + t.n_units)
        return tuple(ends.values())

    @cached_property
    def first_unit(self) -> dict[str, int]:
        """Value of the ``unit`` coordinate of each layer's first unit."""
        starts = np.cumsum([0, *self.units_per_layer])
        return {layer: int(n) for layer, n in zip(self.layers, starts, strict=False)}

    @property
    def n_units(self) -> int:
        """U, the number of units of the network."""
        return sum(self.units_per_layer)

    def parameter_labels(self) -> dict[str, np.ndarray]:
        """Return ``tensor_index, layer_index, unit_index, input_index, tap_index``, each int32 of length K."""
        return {name: self.column(name, 0, self.n_parameters) for name in LABELS}

    def column(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return a part of a label column, int32."""
        out = np.empty(stop - start, np.int32)
        first = max(0, int(np.searchsorted(self.offsets, start, "right")) - 1)
        for row in range(first, len(self.tensors)):
            offset, size = self.offsets[row], self.tensors[row].size
            if offset >= stop:
                break
            left, right = max(start, offset), min(stop, offset + size)
            if left < right:
                out[left - start : right - start] = self._of_tensor(name, row, left - offset, right - offset)
        return out

    def _of_tensor(self, name: str, row: int, start: int, stop: int) -> np.ndarray | int:
        spec = self.tensors[row]
        if name == "tensor_index":
            return row
        if name == "layer_index":
            return self.layer_row[spec.layer]
        axes = spec.unit_axes
        step = spec.size // (axes.sizes or (1,))[0]
        rows = slice(start // step, -(-stop // step))
        place = axes.index(name.removesuffix("_index"), rows)[start - rows.start * step : stop - rows.start * step]
        return place + (self.first_unit[spec.layer] + spec.first_unit) if name == "unit_index" else place

    def coords(self) -> dict[str, tuple[tuple[str, ...], Any]]:
        """Return all label coordinates and tables as ``name -> (dims, values)``, for ``schema.build_dataset``.

        The labels of very many parameters are computed where they are read (:mod:`lcakit.trajectory.columns`).
        """
        out: dict[str, tuple[tuple[str, ...], Any]] = {}
        for name in LABELS:
            out[name] = (("parameter",), column_of(partial(self.column, name), self.n_parameters))
        layer_row = self.layer_row
        rank = max(1, *(len(t.shape) for t in self.tensors))
        shapes = [t.shape + (0,) * (rank - len(t.shape)) for t in self.tensors]
        tensor: dict[str, np.ndarray] = {
            "tensor": np.array([t.name for t in self.tensors]),
            "tensor_layer": np.array([layer_row[t.layer] for t in self.tensors], np.int32),
            "tensor_role": np.array([t.role for t in self.tensors]),
            "tensor_offset": np.array(self.offsets, np.int64),
            "tensor_size": np.array([t.size for t in self.tensors], np.int64),
        }
        if any(t.unit_kind not in ("", *PLAIN_UNITS) for t in self.tensors):
            tensor["tensor_unit"] = np.array([t.unit_kind for t in self.tensors])
        out |= {name: (("tensor",), values) for name, values in tensor.items()}
        out["tensor_shape"] = (("tensor", "axis"), np.array(shapes, np.int64).reshape(len(shapes), rank))
        first = {layer: next(t for t in self.tensors if t.layer == layer) for layer in self.layers}
        kernels = [layer_row[first[layer].kernel_layer or layer] for layer in self.layers]
        out["layer"] = (("layer",), np.array(self.layers))
        out["layer_kind"] = (("layer",), np.array([first[layer].layer_kind for layer in self.layers]))
        out["kernel_layer"] = (("layer",), np.array(kernels, np.int32))
        channels = [np.arange(n) for n in self.units_per_layer]
        out["unit"] = (("unit",), np.arange(self.n_units, dtype=np.int32))
        out["unit_layer"] = (
            ("unit",),
            np.repeat(np.arange(len(channels)), self.units_per_layer).astype(np.int32),
        )
        out["unit_channel"] = (("unit",), np.concatenate(channels).astype(np.int32))
        return out


def group_ids(ds: xr.Dataset, by: str) -> tuple[np.ndarray, xr.DataArray]:
    """Return the group of each parameter of ``ds`` and the labels of the groups.

    Parameters
    ----------
    by
        One of ``tensor, layer, kernel_layer, unit, role``.

    Returns
    -------
    ids
        int array over ``parameter``, a position in the labels.
    labels
        One-dimensional coordinate named ``by`` (units keep ``unit_layer`` and ``unit_channel``). For ``kernel_layer``
        only layers that own a kernel appear, for ``role`` only roles that occur.
    """
    if by not in GROUPINGS:
        raise unknown("grouping", by, GROUPINGS)
    if by in ("tensor", "layer", "unit"):
        return _ids_of_table(ds, by)
    if by == "role":
        names = np.array(ROLES)
        of_tensors = np.array([ROLES.index(role) for role in ds["tensor_role"].values.astype(str)])
        places = of_tensors[parameter_coord(ds, "tensor_index")]
    else:
        names = ds["layer"].values.astype(str)
        places = ds["kernel_layer"].values[parameter_coord(ds, "layer_index")]
    occurs = np.bincount(places, minlength=len(names)) > 0
    present, ids = np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[places]
    return ids, xr.DataArray(names[present], dims=by, coords={by: names[present]}, name=by)


def _ids_of_table(ds: xr.Dataset, by: str) -> tuple[np.ndarray, xr.DataArray]:
    index = parameter_coord(ds, f"{by}_index").astype(np.int64)
    if by == "unit":  # a selection keeps the original unit numbers, so look them up
        return np.searchsorted(ds["unit"].values, index), ds["unit"]
    return index, ds[by].drop_vars(
        [c for c in ds[by].coords if c not in (by, "layer_kind", "tensor_role", "tensor_unit")]
    )


def is_whole(ds: xr.Dataset) -> bool:
    """Say whether the dataset holds every parameter of its tensor table (a selection does not)."""
    return "tensor_size" in ds.variables and ds.sizes.get("parameter") == int(ds["tensor_size"].values.sum())


def parameter_coord(ds: xr.Dataset, name: str) -> np.ndarray:
    """Return a label column of the parameters, or say that the file holds none."""
    if name not in ds.coords:
        raise TrajectoryError(
            f"this dataset has no {name!r}, so it holds nothing per parameter. "
            "It may be an aggregated copy; open the original file for per-parameter questions."
        )
    return np.asarray(ds[name].values)


def parameter_name(ds: xr.Dataset, index: int) -> str:
    """Return the name of a parameter by its index in the whole network: tensor and place, ``fc1.weight[3, 17]``."""
    ends = ds["tensor_offset"].values + ds["tensor_size"].values
    if not 0 <= index < ends[-1]:
        raise ValueError(f"the network has parameters 0 to {ends[-1] - 1}, got {index}")
    row = int(np.searchsorted(ends, index, side="right"))
    place = np.unravel_index(index - int(ds["tensor_offset"].values[row]), _shape(ds, row))
    inside = ", ".join(str(int(n)) for n in place)
    return f"{ds['tensor'].values[row]}[{inside}]"


def parameter_index(ds: xr.Dataset, name: str) -> int:
    """Return the index in the whole network of a parameter by its name: the inverse of :func:`parameter_name`."""
    tensor, _, inside = name.rstrip("]").partition("[")
    names = [str(n) for n in ds["tensor"].values]
    if tensor not in names:
        raise unknown("tensor", tensor, names)
    row = names.index(tensor)
    shape = _shape(ds, row)
    try:
        place = tuple(int(n) for n in inside.split(",")) if inside else ()
        return int(ds["tensor_offset"].values[row]) + int(np.ravel_multi_index(place, shape))
    except ValueError as error:
        raise ValueError(f"{name!r} is not an entry of {tensor!r}, which has the shape {shape}") from error


def _shape(ds: xr.Dataset, row: int) -> tuple[int, ...]:
    return tuple(int(n) for n in ds["tensor_shape"].values[row] if n)


def tensor_shapes(ds: xr.Dataset) -> dict[str, tuple[int, ...]]:
    """Return the natural shape of every parameter tensor of a trajectory, by name and in order."""
    if "tensor" not in ds.coords or "tensor_shape" not in ds.coords:
        raise TrajectoryError("the dataset has no tensor table, so it is not a trajectory in the lcakit format")
    shapes = ds["tensor_shape"].values
    names = [str(name) for name in ds["tensor"].values]
    return {name: tuple(int(n) for n in row if n) for name, row in zip(names, shapes, strict=True)}


def runs_of(ids: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and the values of the runs of equal neighbours: ``[3,3,5] -> [0,2], [3,5]``."""
    array = np.asarray(ids)
    if array.size == 0:
        return np.zeros(0, np.int64), array
    starts = np.flatnonzero(np.r_[True, array[1:] != array[:-1]])
    return starts, array[starts]
