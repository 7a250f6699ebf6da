"""An unfinished recording, opened from its segments."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lcakit.errors import LcakitWarning, TrajectoryError
from lcakit.storage import continuing, guard, segments
from lcakit.storage.blocks import MERGED_BYTES, WINDOW_BYTES, window_shape
from lcakit.storage.checked import checked
from lcakit.storage.npz import JoinedArray, StoredArray, open_segment
from lcakit.trajectory import schema

__all__ = ["open_partial"]


def __dir__() -> list[str]:
    return __all__


def open_partial(directory: Path, *, check: bool = True, once: bool = False) -> xr.Dataset:
    """Open the segments of an unfinished recording as one lazy dataset; ``once``: to read it one time, in order.

    Raises
    ------
    TrajectoryError
        If no segment is finished yet, or one is missing or damaged.
    """
    directory = directory.absolute()  # also for workers with another working directory
    header = checked(_read_header(directory), str(directory))
    with guard.reading(directory):
        paths = segments.segment_paths(directory)
    if not paths:
        raise TrajectoryError(
            f"{directory}: the recording stopped before its first segment was finished; nothing is in it"
        )
    for path in paths:
        guard.check_segment(path, header.sizes)
    running = paths[-1].with_suffix(segments.RUNNING)
    if running.exists() or running.is_symlink():
        guard.check_running(running, header.sizes)
    parts = [open_segment(path) for path in paths]
    with guard.reading(directory):
        ds = _from_segments(header, parts, once).assign(_statistics(directory, header))
    if check:
        guard.check_tables(ds, str(directory))
    return ds


def _read_header(directory: Path) -> xr.Dataset:
    path = directory / segments.HEADER
    if segments.is_rest(directory):
        raise TrajectoryError(
            f"{directory}: the rest of a recording that was merged into its file, or removed; lk.finish clears it away"
        )
    with guard.reading(path):
        if path.exists() or path.is_symlink():
            guard.check_plain(path)
    stored = guard.check_file(path) if path.exists() else {}
    with guard.reading(path):
        header = segments.read_header(directory)
    guard.check_declared(header, stored, str(path))
    return header


def _from_segments(header: xr.Dataset, parts: list[dict[str, StoredArray]], once: bool) -> xr.Dataset:
    names = list(dict.fromkeys(name for part in parts for name in part))
    arrays = {name: _joined(name, [part[name] for part in parts if name in part], once) for name in names}
    header = _with_buffers(header, arrays)
    coords: dict[str, Any] = {str(name): header[name].variable for name in header.coords}
    coords |= {name: ((name,), np.asarray(arrays.pop(name))) for name in ("snapshot", "iteration") if name in arrays}
    coords.setdefault("iteration", (("iteration",), np.zeros(0, np.int64)))  # stopped before the first
    rows = arrays["loss"].shape[0] if "loss" in arrays else 0
    long = {
        name: values
        for name, values in arrays.items()
        # the accuracy of a task that has none is NaN in blocks of older versions, and missing in others
        if values.shape[0] and (schema.split_name(name)[0] != "accuracy" or values.shape[0] == rows)
    }
    ds = schema.build_dataset(coords, long, header.attrs | {"partial": 1})
    extra = {name: header[name] for name in header.data_vars}
    return ds.assign(extra)


def _with_buffers(header: xr.Dataset, arrays: dict[str, Any]) -> xr.Dataset:
    """Let ``buffers`` begin at the first snapshot, in place; return the header without what only they need."""
    if "first_buffers" not in header.coords:
        return header
    if "buffers" in arrays:  # rows begin where the first buffer moves
        rows, first = arrays["buffers"], header["first_buffers"].values
        before = len(arrays["snapshot"]) - len(rows)
        arrays["buffers"] = da.concatenate([da.broadcast_to(first, (before, len(first)), (1, -1)), rows])
        return header.drop_vars("first_buffers")
    return header.drop_vars(["first_buffers", "buffer", "buffer_size"])


def _statistics(directory: Path, header: xr.Dataset) -> dict[str, Any]:
    """Return the running statistics of a recording as variables; small ones in memory, since their file is replaced."""
    wanted = [name for name in str(header.attrs.get("statistics", "")).split() if name in schema.STATISTICS]
    if not wanted:
        return {}
    found = continuing.running_statistics(directory)
    if found is None:
        why = "the recording was interrupted while its running statistics were counted, so it opens without them"
        warnings.warn(f"{directory}: {why}. resume=True brings them back.", LcakitWarning, stacklevel=4)
        return {}
    arrays = {name: found[name] for name in wanted if name in found}
    small = sum(array.dtype.itemsize * array.shape[0] for array in arrays.values()) <= WINDOW_BYTES
    unit, out = str(header.attrs.get("loss_unit", "")), {}
    for name, array in arrays.items():
        data = array[:] if small else da.from_array(array, chunks=WINDOW_BYTES // 8, name=False)
        out[name] = (("parameter",), data, schema.variable_attrs(name, unit))
    return out


def _joined(name: str, blocks: list[StoredArray], once: bool) -> Any:
    """Join the blocks of a variable: lazily where it is large, in the windows that its file will be written in."""
    whole = JoinedArray(blocks, once)
    if whole.ndim == 1:
        return whole[:]
    dims = schema.VARIABLES[schema.split_name(name)[0]].dims
    chunks = window_shape(dims, whole.shape, whole.dtype.itemsize, MERGED_BYTES)
    return da.from_array(whole, chunks=tuple(chunks), name=False)
