"""The trajectory format, version 1, as data.

A trajectory file is one netCDF-4 file. Parameters are one flat ``parameter`` dimension, in the order of
``named_parameters()`` (C order inside a tensor), with small integer labels and lookup tables::

    dimensions   snapshot (T+1)  iteration (T)  parameter (K)  unit (U)  class (C)  layer  tensor  axis
    data         theta, gradient (snapshot, parameter)      lca (iteration, parameter)
                 lca_unit_class (iteration, unit, class)    lca_class (iteration, class, parameter)
                 loss, accuracy (snapshot)                  loss_class (snapshot, class)
                 first_order, residual, splits, buffer_change, batch_loss, learning_rate (iteration)
    in place of  unit_lca (iteration, unit)                 layer_helped, layer_hurt (iteration, layer)
    a series     total_lca, total_square_lca, helped_count, hurt_count, turn_count, crossing_count (parameter)
    of a vector  unit_gradient_norm (snapshot, unit)        unit_movement_norm (iteration, unit)
                 unit_effective_norm (iteration, unit, class)
    labels       tensor_index, layer_index, unit_index, input_index, tap_index (parameter)
    tables       tensor, tensor_layer, tensor_role, tensor_offset, tensor_size (tensor), tensor_shape (tensor, axis)
                 layer, layer_kind, kernel_layer (layer)    unit_layer, unit_channel (unit)
    where they   buffers (snapshot, buffer_entry)           buffer, buffer_size (buffer)
    move
    optional     tensor_unit (tensor): what the units of a tensor are where any are not neurons, channels or rows

Iteration ``t`` is the move from snapshot ``t`` to snapshot ``t+1``. Any data variable may exist a second time with a
suffix (``lca_val``): the same quantity of another objective along the same trajectory. What stands in place of a series
is of the whole recording; it came with version 1.1, under names that no suffix makes of those before.

A compact copy may keep L2 norms of the vectors that it leaves out, taken over the parameters of each unit. The
effective gradient is LCA over movement, by class.

``buffer_change`` is there where buffers of the model (an EMA codebook, the vectors of spectral norm) may move the loss:
L(θ', b') - L(θ', b) of each iteration, whose buffers were b before and are b' after it. LCA is of the path at b, and
sums to the loss change minus ``buffer_change``, up to ``residual``. Where any has moved, ``buffers`` holds all that
the loss is computed with at each snapshot, float64, one after the other: ``buffer`` has their names, ``buffer_size``
how many numbers each has (an allocation along the file uses them; older files do not have it). While a recording goes
on, its header has ``first_buffers``, and the rows of ``buffers`` begin where the first one moves.

The dimension ``class`` holds the classes of the examples, or other groups of them, or of positions inside them (the
tokens of a sequence): the root attribute ``class_kind`` is the word for one, ``class`` where it is not there
(:func:`lcakit.trajectory.class_kind.class_kind`). ``noise_seed`` says that an objective evaluates with fixed noise.

The root attribute ``stored_variables`` of a file names its variables, so that one whose name was changed is noticed;
older files do not have it.

Chunks are about 64 iterations × 16 384 parameters, because both directions are read: sums over parameters for
each iteration, and the series of one parameter. A file may hold a variable with its dimensions in another order, since
readers go by names: compact copies (:mod:`lcakit.sharing.copies`) have time last, in chunks of about 256 × 1 024.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.trajectory.variables import (
    COORDINATES,
    LAYER_COUNTS,
    ROLES,
    SIGNS,
    STATISTICS,
    UNIT_NORMS,
    VARIABLES,
    Variable,
    split_name,
    with_suffix,
)

__all__ = [
    "CHUNK_ITERATIONS",
    "CHUNK_PARAMETERS",
    "CONVENTIONS",
    "COORDINATES",
    "LAYER_COUNTS",
    "REQUIRED_ATTRIBUTES",
    "ROLES",
    "SCHEMA_VERSION",
    "SIGNS",
    "SIGN_CONVENTION",
    "STATISTICS",
    "STORED",
    "UNIT_NORMS",
    "UNSTATED_NUMBERS",
    "VARIABLES",
    "Variable",
    "build_dataset",
    "check_version",
    "chunk_sizes",
    "creator",
    "is_known",
    "loss_unit",
    "names_stored",
    "now",
    "split_name",
    "stamp",
    "variable_attrs",
    "with_suffix",
]


def __dir__() -> list[str]:
    return __all__


SCHEMA_VERSION = "1.1"
CONVENTIONS = f"lcakit-{SCHEMA_VERSION}"
CHUNK_ITERATIONS = 64
CHUNK_PARAMETERS = 16_384
SIGN_CONVENTION = "negative LCA helps (lowers the loss), positive LCA hurts"

REQUIRED_ATTRIBUTES = (
    "Conventions",
    "schema_version",
    "created_at",
    "creator",
    "loss_name",
    "loss_unit",
    "n_examples",
    "norm_mode",
    "evaluation_batch_size",
    "rule",
    "tolerance",
    "precision",
    "sign_convention",
    "data_fingerprint",
    "model_fingerprint",
)

UNSTATED_NUMBERS = ("n_examples", "evaluation_batch_size", "tolerance")
"""Attributes that are -1 in a file made of a source that does not state them."""


_INDEXES = ("parameter", "run", "axis")
"""Dimensions that get a coordinate where something is selected or joined."""

STORED = "stored_variables"
"""Root attribute of files: the names of their variables, so that one that got lost, or another name, is noticed. It is
of the file, and datasets in memory do not have it."""


def names_stored(ds: xr.Dataset) -> dict[str, str]:
    """Return the attribute that says which variables a file has."""
    return {STORED: " ".join(sorted(str(name) for name in ds.variables))}


def is_known(name: str) -> bool:
    """Say whether the format has a variable or coordinate of this name, with a suffix or without."""
    return name in COORDINATES or name in _INDEXES or split_name(name)[0] in VARIABLES


def variable_attrs(name: str, loss_unit: str) -> dict[str, str]:
    """Return ``long_name`` and ``units`` of a data variable or coordinate of the format ({} if unknown)."""
    if name in COORDINATES:
        return COORDINATES[name].attrs(loss_unit)
    base, suffix = split_name(name)
    return VARIABLES[base].attrs(loss_unit, suffix) if base in VARIABLES else {}


def loss_unit(ds: xr.Dataset, variable: str = "loss") -> str:
    """Return the unit of the loss that a variable is of: a further objective may have one of its own."""
    _, suffix = split_name(variable)
    return str(ds.attrs.get(with_suffix("loss_unit", suffix), ds.attrs.get("loss_unit", "")))


def creator() -> str:
    """Return the library and version that write a file."""
    from lcakit.version import __version__

    return f"lcakit {__version__}"


def now() -> str:
    """Return the time as it stands in files."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def stamp(ds: xr.Dataset, attrs: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Return ``ds`` with the root attributes of the format and ``long_name``/``units`` on every known variable."""
    defaults = {
        "Conventions": CONVENTIONS,
        "schema_version": SCHEMA_VERSION,
        "created_at": now(),
        "creator": creator(),
        "loss_unit": "nats",
        "sign_convention": SIGN_CONVENTION,
    }
    ds = ds.assign_attrs({**defaults, **ds.attrs, **(attrs or {})})
    for name in ds.variables:
        ds[name].attrs.update(variable_attrs(str(name), loss_unit(ds, str(name))))
    return ds


def build_dataset(
    coords: Mapping[str, tuple[tuple[str, ...], Any]],
    variables: Mapping[str, Any],
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Make a stamped trajectory dataset.

    Parameters
    ----------
    coords
        Label coordinates and tables as ``name -> (dims, values)``, from :meth:`lcakit.trajectory.labels.Labels.coords`,
        with ``snapshot``, ``iteration`` and ``class`` where the file has them.
    variables
        Arrays (NumPy or Dask) by the names of the format; dims and dtypes come from the schema.
    attrs
        Root attributes that are added to the stamp.

    Raises
    ------
    TrajectoryError
        For a name the format does not have.
    """
    data = {}
    for name, values in variables.items():
        base, _ = split_name(name)
        if base not in VARIABLES:
            raise TrajectoryError(f"the format has no variable {name!r}; it has {', '.join(VARIABLES)}")
        spec = VARIABLES[base]
        array = values if hasattr(values, "dask") else np.asarray(values)
        data[name] = (spec.dims, array.astype(spec.dtype, copy=False))
    return stamp(xr.Dataset(data, coords=dict(coords)), attrs)


def check_version(attrs: Mapping[str, Any], source: str) -> str | None:
    """Check that this library can read a file with these root attributes.

    Returns a warning text for a newer minor version, None where all is well.

    Raises
    ------
    TrajectoryError
        If the file is not a trajectory, or of a newer major version.
    """
    text = str(attrs.get("schema_version", ""))
    try:
        major, minor = (int(part) for part in text.split("."))
    except ValueError:
        raise TrajectoryError(
            f"{source}: not an lcakit trajectory (schema_version is {text!r}, expected a version such as "
            f"{SCHEMA_VERSION!r}). Files are written by lcakit.Recorder or lcakit.save."
        ) from None
    ours = tuple(int(part) for part in SCHEMA_VERSION.split("."))
    if major < 1 or minor < 0:
        raise TrajectoryError(f"{source}: there is no format {text!r}; the first was 1.0, this is {SCHEMA_VERSION}.")
    if major > ours[0]:
        raise TrajectoryError(
            f"{source}: written in format {text}; this lcakit reads up to format {SCHEMA_VERSION}. "
            "Install a newer lcakit to open it."
        )
    if (major, minor) > ours:
        return (
            f"{source}: written in format {text}, newer than {SCHEMA_VERSION}; what is new in it is not understood. "
            "Install a newer lcakit to see everything."
        )
    return None


def chunk_sizes(dims: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the file's chunk shape for a variable: about 64 iterations × 16 384 parameters, never over 64 MB.

    Chunks are as even as can be, since the last one is stored whole: a quarter of a file could be empty. A large
    recording is cut into chunks before its length is known for certain (:mod:`lcakit.storage.early_chunks`); at most a
    twentieth of it is empty then.
    """
    shape = {dim: sizes[dim] for dim in dims}
    chunk = dict(shape)
    for dim, further in (("snapshot", 0), ("iteration", 1)):  # one iteration less than snapshots, in the same chunks
        if dim in chunk:
            chunk[dim] = min(shape[dim], _even(shape[dim] + further, CHUNK_ITERATIONS))
    if "parameter" in chunk:
        chunk["parameter"] = _even(shape["parameter"], CHUNK_PARAMETERS)
        if "class" in chunk:
            chunk["class"] = 1
    elif "buffer_entry" in chunk:
        chunk["buffer_entry"] = _even(shape["buffer_entry"], CHUNK_PARAMETERS // 2)
    elif "unit" in chunk:
        others = int(np.prod([n for dim, n in chunk.items() if dim != "unit"]))
        chunk["unit"] = max(1, min(shape["unit"], CHUNK_ITERATIONS * CHUNK_PARAMETERS // max(others, 1)))
    return tuple(max(1, chunk[dim]) for dim in dims)


def _even(size: int, most: int) -> int:
    """Return the length of parts, as even as can be and none above ``most``."""
    return -(-size // max(1, -(-size // most)))
