"""Selections of a trajectory by the names of its network: layers, tensors, units, classes, iterations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError, unknown
from lcakit.trajectory import schema
from lcakit.trajectory.labels import parameter_coord
from lcakit.trajectory.selection_notes import leave_out, size_before, with_size_before

__all__ = [
    "OF_WHOLE_UNITS",
    "TAPS",
    "Iterations",
    "Names",
    "Units",
    "select",
    "select_iterations",
    "unflatten",
    "with_class_dimension",
]


def __dir__() -> list[str]:
    return __all__


Names = str | Iterable[str] | None
Units = int | Iterable[int] | None
TAPS = ("kz", "ky", "kx")

_OF_ALL_CLASSES = frozenset(
    {"lca", "unit_lca", "gradient", "loss", "accuracy", "first_order", "residual", "unit_gradient_norm"}
    | set(schema.LAYER_COUNTS)
    | {name for name, series in schema.STATISTICS.items() if series != "theta"}
)
"""Variables that are summed or counted over all classes: a selection of some classes leaves them out."""

_SUMS_OF = {"lca": "lca_class", "loss": "loss_class"}
"""Those of them that can be summed again over the selected classes, and the variable by class to sum."""

Iterations = slice | int | Sequence[int]
"""One iteration, several that are neighbours, or a slice of labels."""

OF_WHOLE_UNITS = frozenset({"lca_unit_class", "unit_lca", *schema.UNIT_NORMS})
"""Variables that are sums or norms over all tensors of a unit: a selection of some tensors or roles leaves them out."""


def select(
    ds: xr.Dataset,
    layer: Names = None,
    kernel_layer: Names = None,
    tensor: Names = None,
    unit: Units = None,
    cls: Names = None,
    role: Names = None,
    iteration: Iterations | None = None,
) -> xr.Dataset:
    """Return the part of the trajectory that all given names have in common: see ``ds.lk.sel``. Lazy."""
    tables = {"layer": layer, "kernel_layer": kernel_layer, "tensor": tensor, "role": role}
    chosen = {key: _as_list(names) for key, names in tables.items() if names is not None}
    if chosen or unit is not None:
        ds = _sel_parameters(ds, chosen, unit)
    if cls is not None:
        ds = _sel_class(ds, cls)
    return ds if iteration is None else select_iterations(ds, iteration)


def _without(ds: xr.Dataset, bases: frozenset[str]) -> xr.Dataset:
    """Return ``ds`` without some variables of the format, of whatever objective."""
    return leave_out(ds, [str(name) for name in ds.data_vars if _base(name) in bases])


def with_class_dimension(ds: xr.Dataset) -> xr.Dataset:
    """Return ``ds`` with a dimension of classes again where a selection of one class has left only its name."""
    if "class" not in ds.coords or ds["class"].ndim:
        return ds
    dims = {name: schema.VARIABLES[base].dims for name in ds.data_vars if (base := _base(name)) in schema.VARIABLES}
    wide = {
        name: ds[name].drop_vars("class").expand_dims("class").transpose(..., *own, missing_dims="ignore")
        for name, own in dims.items()
        if "class" in own
    }
    return ds.drop_vars("class").assign(wide).assign_coords({"class": [str(ds["class"].values)]})


def _base(name: object) -> str:
    return schema.split_name(str(name))[0]


def _as_list(given: Any) -> list[Any]:
    """Return one value, or several, as a list: a text is one, an array any number."""
    if isinstance(given, np.ndarray | xr.DataArray):
        return list(np.asarray(given).ravel().tolist())
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else [given]


def _typed(value: object) -> str:
    """Return a value and its type, for messages: where the type is wrong, the value may look right."""
    return f"{value!r} ({type(value).__name__})"


def _rows(kind: str, names: list[Any], allowed: np.ndarray) -> np.ndarray:
    """Return the mask of the rows of a table whose entry is one of the names."""
    known = allowed.astype(str)
    for name in names:
        if not isinstance(name, str):
            many = list(dict.fromkeys(known.tolist()))
            shown = ", ".join(map(repr, many[:20])) + (f", … ({len(many)} in all)" if len(many) > 20 else "")
            hint = f" Did you mean {str(name)!r}?" if str(name) in many else ""
            raise ValueError(f"{kind} must be a name (text) or several, got {_typed(name)}.{hint} Allowed: {shown}.")
        if name not in known:
            raise unknown(kind, name, dict.fromkeys(known))
    return np.isin(known, names)


def _sel_parameters(ds: xr.Dataset, chosen: dict[str, list[str]], unit: Units) -> xr.Dataset:
    """Narrow the tensor table by each name, then keep the parameters and units of the tensors that remain."""
    tensor_layer = parameter_coord(ds, "tensor_layer")
    layer_names = ds["layer"].values
    columns = {
        "layer": layer_names[tensor_layer],
        "kernel_layer": layer_names[ds["kernel_layer"].values[tensor_layer]],
        "tensor": ds["tensor"].values,
        "role": ds["tensor_role"].values,
    }
    tensors = np.ones(tensor_layer.size, bool)
    for kind, names in chosen.items():
        tensors &= _rows(kind.replace("_", " "), names, columns[kind])
    units = np.isin(parameter_coord(ds, "unit_layer"), tensor_layer[tensors])
    if unit is not None:
        units &= _unit_rows(ds, units, unit, named=bool(set(chosen) - {"role"}))
    if "parameter" in ds.dims:
        keep = tensors[parameter_coord(ds, "tensor_index")]
        if unit is not None:
            keep &= np.isin(parameter_coord(ds, "unit_index"), ds["unit"].values[units])
        if "parameter" not in ds.coords:
            index = xr.Variable("parameter", np.arange(ds.sizes["parameter"]), {"long_name": "index in the network"})
            ds = ds.assign_coords(parameter=index)
        ds = ds.isel(parameter=_positions(keep, "parameter"))
    if not units.all():
        ds = with_size_before(ds, "unit", size_before(ds, "unit") or units.size)
    ds = ds.isel(unit=_positions(units, "unit"))
    whole = tensors.all() or not (np.isin(tensor_layer, tensor_layer[tensors]) & ~tensors).any()
    return ds if whole else _without(ds, OF_WHOLE_UNITS)


def _unit_rows(ds: xr.Dataset, among: np.ndarray, unit: int | Iterable[int], named: bool) -> np.ndarray:
    """Return the mask of units by channel number (``named``: inside layers) or coordinate value."""
    wanted = _as_list(unit)
    values = ds["unit_channel" if named else "unit"].values
    for number in wanted:
        if not isinstance(number, Real) or isinstance(number, bool | np.bool_):
            example = f"ds.lk.sel(layer={str(ds['layer'].values[0])!r}, unit={values[among][0]})"
            raise ValueError(
                f"unit must be a whole number or several, got {_typed(number)}. Allowed: channel numbers inside the "
                f"selected layers, as in {example}, or, where no layer or tensor is named, values of the coordinate "
                "'unit'."
            )
        if number not in values[among]:
            raise unknown("unit", number, dict.fromkeys(values[among].tolist()))
    return np.isin(values, wanted)


def _positions(mask: np.ndarray, dim: str) -> slice | np.ndarray:
    """Return where a mask is true: as a slice if that is one range, which reads much faster."""
    found = np.flatnonzero(mask)
    if found.size == 0:
        raise ValueError(f"the selection leaves no {dim}: the given names have nothing in common in this dataset")
    whole = found[-1] - found[0] + 1 == found.size
    return slice(int(found[0]), int(found[-1]) + 1) if whole else found


def _sel_class(ds: xr.Dataset, cls: str | Iterable[str]) -> xr.Dataset:
    """Narrow the classes; sums over all of them are made again from the selected ones, or left out."""
    ds = with_class_dimension(ds)
    if "class" not in ds.dims:
        raise TrajectoryError(
            'this dataset has no classes. Record with lk.Recorder(…, classes="unit") to split LCA by class.'
        )
    names = [str(name) for name in ds["class"].values]
    one = isinstance(cls, str) or not isinstance(cls, Iterable) or getattr(cls, "ndim", 1) == 0
    wanted = list(dict.fromkeys(str(name) for name in _as_list(cls)))  # classes are often numbers: 7 is '7'
    for name in wanted:
        if name not in names:
            raise unknown("class", name, names)
    if not wanted:
        raise ValueError(f"the selection leaves no class; allowed: one or more of {', '.join(map(repr, names[:20]))}")
    part = ds.isel({"class": names.index(wanted[0]) if one else [names.index(name) for name in wanted]})
    if len(wanted) == len(names):
        return part
    part = _without(part, _OF_ALL_CLASSES)
    part = part.assign(_sums_over_classes(part))
    return with_size_before(part, "class", size_before(ds, "class") or len(names))


def _sums_over_classes(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return LCA and losses summed over the classes that are there, from the variables by class. Lazy."""
    found = {}
    for suffix in dict.fromkeys(schema.split_name(str(name))[1] for name in ds.data_vars):
        for base, by_class in _SUMS_OF.items():
            name, held = (schema.with_suffix(n, suffix) for n in (base, by_class))
            if held in ds:
                attrs = schema.variable_attrs(name, schema.loss_unit(ds, name))
                total = ds[held]
                if "class" in total.dims:
                    total = total.sum("class", skipna=False, dtype=np.float64).astype(total.dtype)
                found[name] = total.assign_attrs(attrs)
    return found


def select_iterations(ds: xr.Dataset, iteration: Iterations) -> xr.Dataset:
    """Return the iterations of a label slice (both ends included), with the snapshots at both ends of each.

    A list is of neighbours, in their order.

    Raises
    ------
    ValueError
        For a step, numbers that are no neighbours, an end outside the run, or if nothing is left.
    """
    wanted = iteration if isinstance(iteration, slice) else _ends(ds, iteration)
    if any(isinstance(end, str) for end in (wanted.start, wanted.stop)):
        raise _no_iterations(iteration)
    if wanted.step not in (None, 1):
        raise ValueError(f"iterations must be neighbours to stay a trajectory, got a step of {wanted.step}; allowed: 1")
    labels = ds["iteration"].values
    has = f"the dataset has {labels[0]} to {labels[-1]}" if labels.size else "the dataset has none"
    for end in (wanted.start, wanted.stop):
        if end is not None and not (labels.size and labels[0] <= end <= labels[-1]):
            raise ValueError(f"iteration {end} is not in the run: {has}")
    place = ds["iteration"].to_index().slice_indexer(wanted.start, wanted.stop)
    if place.stop <= place.start:
        raise ValueError(f"no iteration in {iteration!r}; {has}")
    if place.stop - place.start < labels.size:  # running statistics are of the whole recording
        ds = ds.drop_vars([name for name in ds.data_vars if _base(name) in schema.STATISTICS])
    moves = {"iteration": slice(place.start, place.stop), "snapshot": slice(place.start, place.stop + 1)}
    return ds.isel({dim: part for dim, part in moves.items() if dim in ds.dims})


def unflatten(ds: xr.Dataset, tensor: str, array: xr.DataArray) -> xr.DataArray:
    """Return a variable of one tensor in its natural shape: see ``ds.lk.unflatten``. Lazy."""
    row = int(np.flatnonzero(_rows("tensor", [tensor], ds["tensor"].values))[0])
    if "parameter" not in array.dims:
        raise ValueError(f"{array.name!r} has dimensions {array.dims}; only what has 'parameter' can be unflattened")
    shape = tuple(int(n) for n in ds["tensor_shape"].values[row] if n)
    held = np.flatnonzero(parameter_coord(ds, "tensor_index") == row)
    if held.size != np.prod(shape, dtype=int):
        raise ValueError(
            f"the dataset holds {held.size} of the {np.prod(shape, dtype=int)} parameters of {tensor!r}; "
            "unflatten needs all of them: select less narrowly"
        )
    part = array.isel(parameter=slice(int(held[0]), int(held[-1]) + 1))
    data: Any = part.chunk(parameter=-1).data if part.chunks else part.data
    kind = str(ds["layer_kind"].values[ds["tensor_layer"].values[row]])
    dims = [*part.dims[:-1], *_natural_dims(shape, kind)]
    coords = {name: c for name, c in part.coords.items() if set(c.dims) <= set(dims)}
    data = data.reshape((*part.shape[:-1], *shape))
    return xr.DataArray(data, dims=dims, coords=coords, name=array.name, attrs=array.attrs)


def _natural_dims(shape: tuple[int, ...], kind: str) -> list[str]:
    """Name the axes of a tensor: output, input, then the taps of a kernel, the fastest being ``kx``."""
    ends = ["in", "out"] if kind.startswith("convtranspose") and len(shape) >= 2 else ["out", "in"]
    taps = len(shape) - 2
    names = list(TAPS[-taps:]) if 0 < taps <= len(TAPS) else [f"axis{n}" for n in range(taps)]
    return [*ends, *names][: len(shape)]


def _ends(ds: xr.Dataset, iteration: Any) -> slice:
    """Return the slice that one iteration, or several neighbours, stand for."""
    given = np.asarray(iteration)
    if given.dtype.kind not in "iu" or given.ndim > 1 or not given.size:
        raise _no_iterations(iteration)
    numbers = np.atleast_1d(given)
    ends = slice(int(numbers[0]), int(numbers[-1]))
    between = ds["iteration"].values[(ds["iteration"].values >= ends.start) & (ds["iteration"].values <= ends.stop)]
    if numbers.size > 1 and not np.array_equal(numbers, between):
        raise ValueError(
            f"iterations must be neighbours to stay a trajectory, in their order, got {iteration!r}. Allowed: a slice, "
            "as in ds.lk.sel(iteration=slice(10, 20)); of results take any, result.sel(iteration=[3, 1])"
        )
    return ends


def _no_iterations(iteration: Any) -> ValueError:
    return ValueError(
        f"iteration must be a whole number, several that are neighbours, or a slice of them, got {iteration!r}. "
        "Allowed: as in ds.lk.sel(iteration=slice(10, 20)), both ends included"
    )
