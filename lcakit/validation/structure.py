"""Checks of structure: version, attributes, variables, sizes, and label tables that agree with each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from lcakit import schema
from lcakit.errors import TrajectoryError
from lcakit.validation.checks import Check, Status, listed

ESSENTIAL = (
    "format version",
    "variables",
    "sizes",
    "tensor table",
    "layer table",
    "unit table",
    "parameter labels",
)
"""Checks without which the numbers cannot be judged."""

DAMAGED = "The file is damaged, or was not written by lcakit: record or convert it again."
SHARED_BY_RUNS = ("Conventions", "schema_version", "loss_unit", "sign_convention")
"""Attributes in which runs that are analysed together must agree."""

TENSOR_TABLE = ("tensor", "tensor_layer", "tensor_role", "tensor_offset", "tensor_size", "tensor_shape")
LAYER_TABLE = ("layer", "layer_kind", "kernel_layer")
UNIT_TABLE = ("unit", "unit_layer", "unit_channel")


def checks(ds: xr.Dataset) -> Iterator[Check]:
    """Yield the checks of structure."""
    yield _version(ds)
    yield _attributes(ds)
    variables = _variables(ds)
    yield variables
    yield _sizes(ds)
    if variables.status == "pass":  # tables of the wrong shape cannot be compared
        yield from _table_checks(ds)


def _table_checks(ds: xr.Dataset) -> Iterator[Check]:
    tables = [_tensor_table(ds), _layer_table(ds), _unit_table(ds)]
    yield from tables
    if "parameter" in ds.dims and all(table.status == "pass" for table in tables):
        yield _parameter_labels(ds)
        if not is_whole(ds):
            yield _selection(ds)


def is_whole(ds: xr.Dataset) -> bool:
    """Say whether the dataset holds every parameter of its tensor table (a selection does not)."""
    return "tensor_size" in ds.variables and ds.sizes.get("parameter") == int(ds["tensor_size"].values.sum())


def _version(ds: xr.Dataset) -> Check:
    status: Status = "pass"
    figure = str(ds.attrs.get("schema_version"))
    try:
        warning = schema.check_version(ds.attrs, "the dataset")
        status, figure = ("warn", warning) if warning else (status, figure)
    except TrajectoryError as error:
        status, figure = "fail", str(error)
    meaning = f"This lcakit understands format {schema.SCHEMA_VERSION} and what came before."
    return Check("format version", "structure", status, figure, meaning, "Install a newer lcakit to read all of it.")


def _attributes(ds: xr.Dataset) -> Check:
    missing = [name for name in schema.REQUIRED_ATTRIBUTES if name not in ds.attrs]
    fine = f"{len(schema.REQUIRED_ATTRIBUTES) - len(missing)} of {len(schema.REQUIRED_ATTRIBUTES)} there"
    if "run" in ds.dims:  # lk.open_runs keeps what the runs have in common
        missing = [name for name in missing if name in SHARED_BY_RUNS]
    problems = [f"missing: {', '.join(missing)}"] if missing else []
    meaning = "Attributes say which loss, data and rule the numbers belong to."
    return listed("attributes", "structure", problems, fine, meaning, "Add them: ds.attrs[name] = value, then lk.save.")


def _variables(ds: xr.Dataset) -> Check:
    problems = [text for name in ds.variables for text in _variable_problems(ds, str(name))]
    problems += [] if len(ds.data_vars) else ["the dataset has no data variables"]
    fine = f"{len(ds.data_vars)} variables with the dimensions and types of the format"
    return listed("variables", "structure", problems, fine, "Each variable has one shape and one type.", DAMAGED)


def _variable_problems(ds: xr.Dataset, name: str) -> Iterator[str]:
    base, _ = schema.split_name(name)
    spec = schema.VARIABLES.get(base) or schema.COORDINATES.get(name)
    if spec is None:
        return
    array = ds[name].variable
    dims = tuple(d for d in array.dims if d != "run")
    # a selection of one class (ds.lk.sel(cls=…)) has no class dimension any more
    allowed = tuple(d for d in spec.dims if d != "class" or "class" in ds.dims)
    if dims != allowed:
        yield f"{name} has dimensions {dims}, not {allowed}"
    if not _same_type(array.dtype, spec.dtype):
        yield f"{name} is {array.dtype}, not {spec.dtype}"


def _same_type(dtype: np.dtype, wanted: str) -> bool:
    """Compare types; integer labels may have any width, strings any length or be objects."""
    if wanted == "U":
        return dtype.kind in "UOT"
    return dtype.kind == "i" if wanted.startswith("i") else dtype == np.dtype(wanted)


def _sizes(ds: xr.Dataset) -> Check:
    snapshots, iterations = ds.sizes.get("snapshot"), ds.sizes.get("iteration")
    if snapshots is None or iterations is None:
        problems = [f"no dimension {name!r}" for name in ("snapshot", "iteration") if name not in ds.dims]
    else:
        bad = snapshots != iterations + 1
        problems = [f"{snapshots} snapshots for {iterations} iterations, not {iterations + 1}"] if bad else []
    fine = f"{iterations} iterations between {snapshots} snapshots"
    meaning = "Iteration t is the move from snapshot t to snapshot t+1, so there is one snapshot more."
    return listed("sizes", "structure", problems, fine, meaning, DAMAGED)


def _missing(ds: xr.Dataset, names: tuple[str, ...]) -> list[str]:
    return [f"no {name!r}" for name in names if name not in ds.variables]


def _outside(ds: xr.Dataset, name: str, size: int, least: int = 0) -> list[str]:
    """Report a column of row numbers that points outside its table."""
    values = ds[name].values
    bad = (values < least) | (values >= size)
    return [f"{name} points outside its table ({values[bad][0]} of {size} rows)"] if bad.any() else []


def _repeated(ds: xr.Dataset, name: str) -> list[str]:
    values = [str(v) for v in ds[name].values]
    return [f"{name} has repeated names"] if len(set(values)) < len(values) else []


def _tensor_table(ds: xr.Dataset) -> Check:
    problems = _missing(ds, (*TENSOR_TABLE, "layer")) or list(_tensor_problems(ds))
    fine = "" if problems else f"{ds.sizes['tensor']} tensors, {int(ds['tensor_size'].values.sum()):,} parameters"
    meaning = "The table says where each tensor lies on the parameter axis, and its shape."
    return listed("tensor table", "structure", problems, fine, meaning, DAMAGED)


def _tensor_problems(ds: xr.Dataset) -> Iterator[str]:
    offset, size, shape = (ds[name].values for name in ("tensor_offset", "tensor_size", "tensor_shape"))
    if not np.array_equal(offset, np.cumsum([0, *size])[:-1]):
        yield "tensor_offset is not the running sum of tensor_size"
    products = np.where(shape == 0, 1, shape).prod(axis=1)
    if not np.array_equal(products, size):
        yield "tensor_size is not the product of tensor_shape"
    roles = {str(role) for role in ds["tensor_role"].values} - set(schema.ROLES)
    if roles:
        yield f"unknown tensor_role {sorted(roles)}"
    yield from _outside(ds, "tensor_layer", ds.sizes["layer"])
    yield from _repeated(ds, "tensor")


def _layer_table(ds: xr.Dataset) -> Check:
    problems = _missing(ds, LAYER_TABLE)
    problems = problems or _outside(ds, "kernel_layer", ds.sizes["layer"]) + _repeated(ds, "layer")
    fine = "" if problems else f"{ds.sizes['layer']} layers"
    meaning = "The table names the layers, and the layer whose kernel each is counted with."
    return listed("layer table", "structure", problems, fine, meaning, DAMAGED)


def _unit_table(ds: xr.Dataset) -> Check:
    problems = _missing(ds, (*UNIT_TABLE, "layer")) or list(_unit_problems(ds))
    fine = "" if problems else f"{ds.sizes['unit']:,} units"
    meaning = "The table says to which layer each neuron or channel belongs."
    return listed("unit table", "structure", problems, fine, meaning, DAMAGED)


def _unit_problems(ds: xr.Dataset) -> Iterator[str]:
    yield from _outside(ds, "unit_layer", ds.sizes["layer"])
    if (np.diff(ds["unit"].values) <= 0).any():
        yield "unit is not strictly increasing"
    pairs = np.stack([ds["unit_layer"].values, ds["unit_channel"].values])
    if np.unique(pairs, axis=1).shape[1] < pairs.shape[1]:
        yield "two units have the same unit_layer and unit_channel"


def _parameter_labels(ds: xr.Dataset) -> Check:
    names = tuple(f"{n}_index" for n in ("tensor", "layer", "unit", "input", "tap"))
    problems = _missing(ds, (*names, *TENSOR_TABLE, *LAYER_TABLE, *UNIT_TABLE)) or _label_problems(ds)
    fine = f"{ds.sizes['parameter']:,} parameters labelled as the tables say"
    meaning = "Every parameter points to its tensor, layer and unit."
    return listed("parameter labels", "structure", problems, fine, meaning, DAMAGED)


def _label_problems(ds: xr.Dataset) -> list[str]:
    problems = _outside(ds, "tensor_index", ds.sizes["tensor"]) + _outside(ds, "layer_index", ds.sizes["layer"])
    for name in ("input_index", "tap_index"):
        problems += _outside(ds, name, int(ds["tensor_size"].values.max(initial=1)), least=-1)
    return problems or [*_tensor_label_problems(ds), *_unit_label_problems(ds)]


def _tensor_label_problems(ds: xr.Dataset) -> Iterator[str]:
    total = int(ds["tensor_size"].values.sum())
    tensor = ds["tensor_index"].values
    selected = "parameter" in ds.coords  # the index in the whole network, kept by ds.lk.sel
    if not selected and tensor.size != total:
        yield f"{tensor.size} parameters, but the tensor table has {total}"
        return
    where = ds["parameter"].values if selected else np.arange(total)
    expected = np.searchsorted(ds["tensor_offset"].values, where, side="right") - 1
    if not np.array_equal(expected, tensor):
        yield "tensor_index disagrees with tensor_offset"
    elif not np.array_equal(ds["tensor_layer"].values[tensor], ds["layer_index"].values):
        yield "layer_index disagrees with tensor_layer"


def _unit_label_problems(ds: xr.Dataset) -> Iterator[str]:
    units, index = ds["unit"].values, ds["unit_index"].values
    row = np.searchsorted(units, index).clip(max=units.size - 1)
    if not np.array_equal(units[row], index):
        yield "unit_index names units that are not in the unit table"
    elif not np.array_equal(ds["unit_layer"].values[row], ds["layer_index"].values):
        yield "unit_index points to units of other layers"


def _selection(ds: xr.Dataset) -> Check:
    figure = f"{ds.sizes['parameter']:,} parameters of {int(ds['tensor_size'].values.sum()):,}"
    meaning = "A selection of parameters cannot add up to the loss, so its sums are not checked."
    return Check("selection", "structure", "warn", figure, meaning, "Validate the whole trajectory for that.")
