"""From a dataset as a library reads it to a trajectory: checked, with its labels loaded and its data in Dask chunks."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import LcakitWarning, TrajectoryError
from lcakit.storage import guard
from lcakit.storage.blocks import dask_chunks, in_order
from lcakit.text import printable
from lcakit.trajectory import schema
from lcakit.trajectory.columns import LABELS, is_held
from lcakit.trajectory.narrowed import faults

__all__ = ["as_trajectory", "check_writable", "checked", "labelled", "unreadable"]


def __dir__() -> list[str]:
    return __all__


def labelled(ds: xr.Dataset, source: str, check: bool, stored: Any = None) -> xr.Dataset:
    """Check an opened file against what it holds, and load its labels; close it if something is wrong."""
    try:
        if stored is not None:
            guard.check_declared(ds, stored, source)
        out = checked(ds, source)
        if check:
            guard.check_tables(out, source)
    except TrajectoryError:
        ds.close()
        raise
    out.set_close(ds.close)  # xarray does not hand the open file on to what is derived from it
    return out


def as_trajectory(ds: xr.Dataset, source: str, check: bool, stored: Any = None, far: bool = False) -> xr.Dataset:
    """Check an opened file, load its labels, and put its data into Dask chunks, with dimensions in their order.

    ``far`` says that it is behind a URL.
    """
    out = labelled(ds, source, check, stored)
    chunks = dask_chunks(out, far)
    names = [str(name) for name in out.data_vars]
    ordered = {name: in_order(name, out[name].variable) for name in names}
    out = out.assign({n: guard.lazily(ordered[n], chunks, f"{source}, {n!r}") for n in names})
    out.set_close(ds.close)
    return out


def checked(ds: xr.Dataset, source: str) -> xr.Dataset:
    """Check the version; load the labels and make coordinates of what the format says are coordinates."""
    ds = guard.clean_texts(ds, source)
    warning = schema.check_version(ds.attrs, source)
    if warning:
        warnings.warn(warning, LcakitWarning, stacklevel=4)
    for attrs in (ds.attrs, *(variable.attrs for variable in ds.variables.values())):
        attrs.pop("coordinates", None)  # xarray's note of the same, kept for readers without a schema
    written = ds.attrs.pop(schema.STORED, None)
    guard.check_names(ds, source, written if isinstance(written, str) else None)
    ds = guard.clean_tables(ds, source)
    ds = ds.set_coords([name for name in schema.COORDINATES if name in ds.variables])
    if "snapshot" in ds.dims and "iteration" not in ds.dims:  # older files without an iteration
        ds = ds.assign_coords(iteration=np.zeros(0, np.int64))
    return _with_labels(ds, source)


def _with_labels(ds: xr.Dataset, source: str) -> xr.Dataset:
    with guard.reading(source):
        labels = {str(name): ds[name].variable for name in ds.coords if name not in ds.dims}
        return ds.assign_coords({name: _label(name, label, source) for name, label in labels.items()})


def _label(name: str, label: xr.Variable, source: str) -> xr.Variable:
    """Load a label, or leave a long one in the file; whole numbers in the type of the format: narrow ones overflow."""
    spec = schema.COORDINATES.get(name)
    whole = spec is not None and label.dtype.kind == "i" and spec.dtype.startswith("i")
    dtype = np.dtype(spec.dtype) if spec is not None and whole else label.dtype
    if name in LABELS and whole and label.ndim == 1 and not is_held(label.size):
        return guard.column(label, dtype, f"{source}, {name!r}")
    loaded = label.load()
    if label.dtype == dtype:
        return loaded
    return xr.Variable(label.dims, guard.as_type(loaded.values, dtype, repr(name)), label.attrs, label.encoding)


def unreadable(ds: xr.Dataset, source: str) -> list[str]:
    """Return why a file of a dataset could not be opened again.

    Parts that contradict each other, nothing along a dimension, or text, names and attributes that files do not have.
    """
    wrong = [
        f"attribute {name!r} is no number of 64 bits"
        for name, value in ds.attrs.items()
        if isinstance(value, int) and not -(2**63) <= value < 2**63
    ]
    wrong += [
        f"{name!r} is {array.dtype}, which netCDF does not have (ds[{name!r}].astype('f4') does)"
        for name, array in ds.data_vars.items()
        if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8)
    ]
    if wrong:
        return wrong
    try:
        return faults(_with_labels(guard.clean_tables(guard.clean_texts(ds, source), source), source))
    except TrajectoryError as error:
        return [printable(error.__cause__ or error, 400)]


def check_writable(ds: xr.Dataset, source: str) -> None:
    """Raise TrajectoryError for a dataset of which the file could not be opened again."""
    if wrong := unreadable(ds, source):
        raise TrajectoryError(
            f"{source}: {'; '.join(wrong)}, so its file could not be opened again. Nothing was written. Narrow a "
            "trajectory with ds.lk.sel(iteration=…, layer=…, unit=…, cls=…), which keeps what belongs together; "
            "lk.validate(ds) tells all."
        )
