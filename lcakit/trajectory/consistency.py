"""Do the parts of a trajectory contradict each other? Dimensions, types, sizes, tables and labels.

Opening refuses a file with any of these, :mod:`lcakit.sharing.validation` reports them one by one. A whole table that
is absent is not a contradiction: an aggregated copy lacks several, and the analysis that needs one says so.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr

from lcakit.text import printable
from lcakit.trajectory import schema
from lcakit.trajectory.columns import LABELS
from lcakit.trajectory.label_consistency import label_problems
from lcakit.trajectory.labels import runs_of

__all__ = [
    "LABELS",
    "LAYER_TABLE",
    "TENSOR_TABLE",
    "UNIT_TABLE",
    "class_problems",
    "contradictions",
    "label_problems",
    "layer_problems",
    "missing",
    "size_problems",
    "tensor_problems",
    "unit_problems",
    "variable_problems",
]


def __dir__() -> list[str]:
    return __all__


TENSOR_TABLE = ("tensor", "tensor_layer", "tensor_role", "tensor_offset", "tensor_size", "tensor_shape")
LAYER_TABLE = ("layer", "layer_kind", "kernel_layer")
UNIT_TABLE = ("unit", "unit_layer", "unit_channel")

_MOST_PARAMETERS, _MOST_UNITS = 2**40, 2**30


def contradictions(ds: xr.Dataset) -> Iterator[str]:
    """Yield every contradiction in a trajectory. Only labels and tables are read."""
    shapes = [text for name in ds.variables for text in variable_problems(ds, str(name), exact=False)]
    for table in (TENSOR_TABLE, LAYER_TABLE, UNIT_TABLE, LABELS):
        lost = missing(ds, table)
        shapes += lost if len(lost) < len(table) else []  # a table that is absent altogether is fine
    yield from shapes or _value_problems(ds)


def _value_problems(ds: xr.Dataset) -> Iterator[str]:
    """Compare tables that are of the right shapes; each comparison needs the ones before it to hold."""
    yield from size_problems(ds)
    tables: dict[tuple[str, ...], Callable[[xr.Dataset], Iterator[str]]] = {
        (*TENSOR_TABLE, "layer"): tensor_problems,
        LAYER_TABLE: layer_problems,
        (*UNIT_TABLE, "layer"): unit_problems,
        ("class",): class_problems,
        ("buffers", "buffer", "buffer_size"): buffer_problems,
    }
    found = [text for names, check in tables.items() if not missing(ds, names) for text in check(ds)]
    yield from found
    if not found and not missing(ds, (*LABELS, *TENSOR_TABLE, *LAYER_TABLE, *UNIT_TABLE)):
        yield from label_problems(ds)


def missing(ds: xr.Dataset, names: tuple[str, ...]) -> list[str]:
    """Return a problem for each variable that is not there."""
    return [f"no {name!r}" for name in names if name not in ds.variables]


# ---- shapes and types ------------------------------------------------------------------------------------------


def variable_problems(ds: xr.Dataset, name: str, exact: bool = True) -> Iterator[str]:
    """Compare a variable's dimensions and type with the format; not ``exact``: in any order, of any precision."""
    base, _ = schema.split_name(name)
    spec = schema.VARIABLES.get(base) or schema.COORDINATES.get(name)
    if spec is None:
        return
    array = ds[name].variable
    dims = tuple(d for d in array.dims if d != "run")
    # a selection of one class (ds.lk.sel(cls=…)) has no class dimension any more
    allowed = tuple(d for d in spec.dims if d != "class" or "class" in ds.dims)
    if dims != allowed if exact else set(dims) != set(allowed):
        yield f"{printable(name)} has dimensions {printable(dims)}, not {allowed}"
    if not (_same_type if exact else _same_kind)(array.dtype, spec.dtype):
        yield f"{printable(name)} is {array.dtype}, not {spec.dtype}"


def _same_type(dtype: np.dtype, wanted: str) -> bool:
    """Compare types; integer labels may have any width, strings any length or be objects."""
    if wanted == "U":
        return dtype.kind in "UOT"
    return dtype.kind == "i" if wanted.startswith("i") else dtype == np.dtype(wanted)


def _same_kind(dtype: np.dtype, wanted: str) -> bool:
    kinds = {"U": "UOT", "i": "iu", "f": "f"}
    return dtype.kind in kinds[wanted[0]]


def size_problems(ds: xr.Dataset) -> Iterator[str]:
    """Compare the numbers of snapshots and iterations, where the trajectory has both."""
    snapshots, iterations = ds.sizes.get("snapshot"), ds.sizes.get("iteration")
    if snapshots is not None and iterations is not None and snapshots != iterations + 1:
        yield f"{snapshots} snapshots for {iterations} iterations, not {iterations + 1}"


# ---- tables ----------------------------------------------------------------------------------------------------


def _outside(ds: xr.Dataset, name: str, size: int, least: int = 0) -> list[str]:
    """Report a column of row numbers that points outside its table."""
    values = ds[name].values
    bad = (values < least) | (values >= size)
    return [f"{name} points outside its table ({values[bad][0]} of {size} rows)"] if bad.any() else []


def _repeated(ds: xr.Dataset, name: str) -> list[str]:
    values = [unicodedata.normalize("NFC", str(v)) for v in ds[name].values]  # é and é would look the same
    return [f"{name} has repeated names"] if len(set(values)) < len(values) else []


def buffer_problems(ds: xr.Dataset) -> Iterator[str]:
    """Compare the table of buffers with their numbers."""
    yield from _repeated(ds, "buffer")
    sizes, entries = ds["buffer_size"].values, ds.sizes.get("buffer_entry", 0)
    if (sizes < 0).any() or sizes.sum() != entries:
        yield f"buffer_size adds up to {sizes.sum()}, and there are {entries} numbers of buffers"


def tensor_problems(ds: xr.Dataset) -> Iterator[str]:
    """Compare the columns of the tensor table."""
    columns = {name: ds[name].values for name in ("tensor_offset", "tensor_size", "tensor_shape")}
    wild = [name for name, v in columns.items() if v.size and (v.min() < 0 or v.max() > _MOST_PARAMETERS)]
    if wild:
        yield f"{', '.join(wild)} holds numbers below 0 or above {_MOST_PARAMETERS:,}"
        return
    offset, size, shape = (values.astype(np.int64) for values in columns.values())
    if not np.array_equal(offset, np.cumsum([0, *size])[:-1]):
        yield "tensor_offset is not the running sum of tensor_size"
    products = np.where(shape == 0, 1, shape).astype(np.float64).prod(axis=1)  # exact far beyond any network
    if not np.array_equal(products, size):
        yield "tensor_size is not the product of tensor_shape"
    if (np.diff((shape == 0).astype(int), axis=1) < 0).any():
        yield "tensor_shape has a 0 before its end"
    roles = {str(role) for role in ds["tensor_role"].values} - set(schema.ROLES)
    if roles:
        yield f"unknown tensor_role {printable(sorted(roles))}"
    yield from _outside(ds, "tensor_layer", ds.sizes["layer"])
    yield from _repeated(ds, "tensor")


def layer_problems(ds: xr.Dataset) -> Iterator[str]:
    """Compare the columns of the layer table."""
    yield from _outside(ds, "kernel_layer", ds.sizes["layer"])
    yield from _repeated(ds, "layer")


def unit_problems(ds: xr.Dataset) -> Iterator[str]:
    """Compare the columns of the unit table."""
    yield from _outside(ds, "unit_layer", ds.sizes["layer"])
    if (np.diff(ds["unit"].values.astype(np.int64)) <= 0).any():
        yield "unit is not strictly increasing"
    yield from _outside(ds, "unit_channel", _MOST_UNITS)
    layer, channel = ds["unit_layer"].values, ds["unit_channel"].values
    pairs = np.stack([layer, channel])
    if np.unique(pairs, axis=1).shape[1] < pairs.shape[1]:
        yield "two units have the same unit_layer and unit_channel"
    elif np.array_equal(ds["unit"].values, np.arange(layer.size)) and _out_of_place(layer, channel):
        yield "unit_channel does not count the units of each layer"


def _out_of_place(layer: np.ndarray, channel: np.ndarray) -> bool:
    """Say whether the units of the first layers are not those of one layer after the other, each counted from 0."""
    starts, _ = runs_of(layer)
    count = np.arange(layer.size) - np.repeat(starts, np.diff(np.append(starts, layer.size)))
    return bool((np.diff(layer.astype(np.int64)) < 0).any() or not np.array_equal(count, channel))


def class_problems(ds: xr.Dataset) -> Iterator[str]:
    """Look for repeated names of classes."""
    if ds["class"].ndim:
        yield from _repeated(ds, "class")
