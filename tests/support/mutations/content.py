"""Changes of what a file says: attributes, names, tables, sizes, types."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from tests.support.mutations.common import FILES, Mutation, Skip, file_of, mutated, rewritten

TEXTS = (
    "<script>alert(1)</script>",
    "\x1b[2J\x1b]0;gone\x07",
    "fc1\n\nall checks passed",
    "\u202egnp.exe",
    "../../../etc/passwd",
    "a" * 10_000,
    "b" * 10_000_000,
    "",
    "nan",
    "{}[%s]%n\\",
    "🙂\u200d漢字",
)


VALUES = (0, -1, 2**62, 1e308, float("nan"), float("inf"), np.arange(5), np.zeros(3, "f4"), ["a", "b"], *TEXTS)


def change_attribute(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of, data, path = file_of(rng, truths, folder)
    path.write_bytes(data)
    with netCDF4.Dataset(path, "a") as file:
        owner = file if rng.random() < 0.8 else file[rng.choice(list(file.variables))]
        name = rng.choice([*owner.ncattrs(), "extra"])
        value = rng.choice(VALUES)
        if rng.random() < 0.2 and name in owner.ncattrs():
            owner.delncattr(name)
        elif isinstance(value, str) and rng.random() < 0.5:
            owner.setncattr_string(name, value)
        else:
            owner.setncattr(name, value)
    return mutated(of, f"attribute {name} of {of}: {str(value)[:30]!r}", path)


def change_name(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of = rng.choice(FILES)
    ds = truths[of].data.copy(deep=True)
    table = rng.choice(["tensor", "layer", "class", "layer_kind", "tensor_role", "config"])
    if table not in ds.variables:
        raise Skip
    values = ds[table].values.astype(object)
    text = rng.choice(TEXTS)
    if values.ndim:
        values[rng.randrange(values.size)] = text
    else:
        values = np.array(text, object)
    ds = ds.assign_coords({table: (ds[table].dims, values)}) if values.ndim else ds.assign({table: text})
    return rewritten(truths, of, ds, folder, f"{table} of {of}: {text[:30]!r}")


LABELS = ("tensor_index", "layer_index", "unit_index", "input_index", "tap_index")


ROWS = ("tensor_layer", "tensor_offset", "tensor_size", "tensor_shape", "unit", "unit_layer", "unit_channel")


def change_table(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of = rng.choice(FILES)
    ds = truths[of].data.copy(deep=True)
    name = rng.choice([*LABELS, *ROWS, "kernel_layer", "snapshot", "iteration", "parameter"])
    if name not in ds.coords or (of == "selected" and name in ("tensor_layer", "tensor_shape")):
        raise Skip  # a selection has no parameters of the other tensors, to compare them with
    values = ds[name].values.copy()
    place = tuple(rng.randrange(n) for n in values.shape)
    old = values[place]
    largest = np.iinfo(values.dtype).max
    values[place] = rng.choice([0, -1, 1, int(old) + 1, int(old) - 1, int(largest), int(rng.choice(list(values.flat)))])
    if values[place] == old:
        raise Skip
    ds = ds.assign_coords({name: (ds[name].dims, values)})
    partial = of == "selected" and name in ("input_index", "tap_index")  # of a part of a tensor anything may be left
    return rewritten(
        truths,
        of,
        ds,
        folder,
        f"{name}{list(place)} of {of}: {old} -> {values[place]}",
        spoilt=name != "kernel_layer" and not partial,
    )


def shorten_variable(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Give one variable other sizes than the rest: a dimension of its own, shorter or longer."""
    of = rng.choice(FILES)
    ds = truths[of].data.copy(deep=True)
    name = rng.choice([n for n in ds.variables if ds[n].ndim])
    dim = rng.choice(ds[name].dims)
    variable = ds[name].variable
    variable = variable.isel({dim: slice(0, variable.sizes[dim] - 1)}) if rng.random() < 0.5 else variable
    ds = ds.drop_vars(name).assign(
        {name: xr.Variable([d if d != dim else f"{dim}2" for d in variable.dims], variable.values)}
    )
    return rewritten(truths, of, ds, folder, f"{name} of {of} along {dim}2", spoilt=True)


def shorten_dimension(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of = rng.choice(FILES)
    ds = truths[of].data
    dim = rng.choice(["snapshot", "iteration", "parameter", "tensor", "layer", "unit"])
    if dim == "parameter" and of == "selected":
        raise Skip
    keep = slice(1, None) if rng.random() < 0.5 else slice(0, ds.sizes[dim] - 1)
    return rewritten(truths, of, ds.isel({dim: keep}), folder, f"{dim} of {of} kept {keep}", spoilt=True)


def drop_variables(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of = rng.choice(FILES)
    ds = truths[of].data
    names = rng.sample(list(ds.coords), rng.choice([1, 1, 2]))
    names = [n for n in names if n not in ("parameter",)]
    if not names:
        raise Skip
    return rewritten(truths, of, ds.drop_vars(names), folder, f"{of} without {', '.join(map(str, names))}", spoilt=True)


def change_type(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    of = rng.choice(FILES)
    ds = truths[of].data
    name = rng.choice([n for n in ds.variables if ds[n].dtype.kind in "if" and n != "parameter"])
    dtype = rng.choice(["f8", "f4", "i8", "i2", "u1", "S1", "str"])
    if np.dtype(dtype) == ds[name].dtype or (dtype in ("i8", "i2", "i4") and ds[name].dtype.kind == "i"):
        raise Skip
    with np.errstate(invalid="ignore"):
        values = ds[name].values.astype(str).astype(object) if dtype == "str" else ds[name].values.astype(dtype)
    changed = (
        ds.assign_coords({name: (ds[name].dims, values)})
        if name in ds.coords
        else ds.assign({name: (ds[name].dims, values)})
    )
    return rewritten(truths, of, changed, folder, f"{name} of {of} as {dtype}", spoilt=True)


def declare_huge(rng: random.Random, truths: dict[str, Any], folder: Path) -> Mutation:
    """Declare far more than there is: sizes that were never written, a table with very many names."""
    of, path = "plain", folder / "mutated.nc"
    ds = truths[of].data
    small = ds.drop_dims("parameter")
    if rng.random() < 0.2:
        names = np.array([f"l{k}" for k in range(70_000)], object)
        many = small.drop_dims("layer").assign_coords(layer=names)
        return rewritten(truths, of, many, folder, "70 000 layers", spoilt=True)
    small.to_netcdf(path, engine="netcdf4")
    size = rng.choice([10**7, 10**9, 10**12, 2**40])
    options: dict[str, Any] = {"compression": "zlib"} if rng.random() < 0.5 else {}
    wanted = (("tensor_index", "i4"), ("snapshot theta", "f4"), ("iteration lca", "f4"))
    with netCDF4.Dataset(path, "a") as file:
        file.createDimension("parameter", size)
        for text, kind in rng.sample(wanted, rng.choice([1, 2, 3])):
            *dims, name = text.split()
            chunk = [1] * len(dims) + [min(size, 10**6)]
            file.createVariable(name, kind, (*dims, "parameter"), chunksizes=chunk, **options)
    return mutated(of, f"{size:,} parameters declared", path, spoilt=True)
