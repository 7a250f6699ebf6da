"""Selections of a trajectory by the names of its network: layers, tensors, units, classes, iterations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from lcakit import schema
from lcakit.errors import TrajectoryError, unknown
from lcakit.labels import parameter_coord

Names = str | Iterable[str] | None
Units = int | Iterable[int] | None
TAPS = ("kz", "ky", "kx")


def select(
    ds: xr.Dataset,
    layer: Names = None,
    kernel_layer: Names = None,
    tensor: Names = None,
    unit: Units = None,
    cls: Names = None,
    role: Names = None,
    iteration: slice | int | None = None,
) -> xr.Dataset:
    """Return the part of the trajectory that all given names have in common: see ``ds.lk.sel``. Lazy."""
    tables = {"layer": layer, "kernel_layer": kernel_layer, "tensor": tensor, "role": role}
    chosen = {key: _listed(names) for key, names in tables.items() if names is not None}
    if chosen or unit is not None:
        ds = _sel_parameters(ds, chosen, unit)
    if cls is not None:
        ds = _sel_class(ds, cls)
    return ds if iteration is None else select_iterations(ds, iteration)


def _listed(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else [str(name) for name in names]


def _rows(kind: str, names: list[str], allowed: np.ndarray) -> np.ndarray:
    """Return the mask of the rows of a table whose entry is one of the names."""
    known = allowed.astype(str)
    for name in names:
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
    return ds.isel(unit=_positions(units, "unit"))


def _unit_rows(ds: xr.Dataset, among: np.ndarray, unit: int | Iterable[int], named: bool) -> np.ndarray:
    """Return the mask of units by channel number (``named``: inside layers) or coordinate value."""
    wanted = [unit] if isinstance(unit, int | np.integer) else list(unit)
    values = ds["unit_channel" if named else "unit"].values
    for number in wanted:
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
    if "class" not in ds.dims:
        raise TrajectoryError(
            'this dataset has no classes. Record with lk.Recorder(…, classes="unit") to split LCA by class.'
        )
    names = [str(name) for name in ds["class"].values]
    one = isinstance(cls, str) or not isinstance(cls, Iterable)
    for name in [str(cls)] if one else _listed(cls):
        if name not in names:
            raise unknown("class", name, names)
    return ds.isel({"class": names.index(str(cls)) if one else [names.index(name) for name in _listed(cls)]})


def select_iterations(ds: xr.Dataset, iteration: slice | int) -> xr.Dataset:
    """Return the iterations of a label slice (both ends included), with the snapshots at both ends of each.

    Raises
    ------
    ValueError
        For a step, an end outside the run, or if nothing is left.
    """
    wanted = iteration if isinstance(iteration, slice) else slice(iteration, iteration)
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
        ds = ds.drop_vars([name for name in ds.data_vars if schema.split_name(str(name))[0] in schema.STATISTICS])
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
