"""Trajectory files: open lazily, save whole, merge what a recording left."""

from __future__ import annotations

import contextlib
import glob
import os
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lcakit import accessor as _accessor  # noqa: F401  (registers ds.lk)
from lcakit import guard, netcdfstore, remote, schema, segments
from lcakit.archives import JoinedArray, StoredArray
from lcakit.blocks import MERGED_BYTES, WINDOW_BYTES, dask_chunks, in_order, window_shape, windows
from lcakit.errors import LcakitWarning, RecordingError, TrajectoryError, unknown
from lcakit.handles import open_netcdf
from lcakit.join import join
from lcakit.packages import package
from lcakit.paths import Pathlike, given_path, no_file, partial_path, run_names, unfinished, writable_path
from lcakit.paths import allocation_partial as allocation_partial
from lcakit.wholefiles import Lock, remove_stale

COMPRESSIONS = (None, "zlib")
STATES = ("partial", "all_chunks_written")  # attributes that say how something is stored, not what

# ---- opening ---------------------------------------------------------------------------------------------------


def open_trajectory(path: Pathlike | Iterable[Pathlike], *, align: str = "exact", check: bool = True) -> xr.Dataset:
    """Open a trajectory, or several runs, lazily.

    Parameters
    ----------
    path
        A file ``run.nc``; an unfinished recording (``run.nc`` or ``run.nc.partial``); a Zarr store of the same layout
        (``run.zarr``); the URL of a file or store (``https://``, ``s3://``, ``gs://``, …), read in place where the
        server sends parts of files; a glob pattern or a list of files, which are joined along a ``run`` dimension
        (:func:`open_runs`).
    align
        For several runs, see :func:`open_runs`.
    check
        False opens a file or recording even if its tables contradict each other, to see what is wrong with it.

    Returns
    -------
    xarray.Dataset
        Dask-backed, in the layout of :mod:`lcakit.schema`. A recording that is not finished has the attribute
        ``partial = 1``.

    Raises
    ------
    TrajectoryError
        If there is no such file, or it is damaged, contradicts itself, is no trajectory, or of a newer major format
        version. Nothing a file declares is believed unchecked (:mod:`lcakit.guard`).
    """
    if not isinstance(path, str | os.PathLike):
        return open_runs(path, align=align)
    if remote.is_url(os.fspath(path)):
        return _open_url(os.fspath(path), check)
    path = given_path(path)
    if path.is_file():
        return _open_file(path, check)
    if is_zarr(path):
        return _open_zarr(str(path), check)
    if path.name and partial_path(path).is_dir():
        return open_partial(partial_path(path), check=check)
    if glob.has_magic(str(path)) and not path.is_dir():
        found = sorted(glob.glob(str(path)))
        if not found:
            raise TrajectoryError(f"{path}: no file matches this pattern")
        return open_runs(found, align=align)
    raise no_file(path)


def open_runs(paths: Iterable[Pathlike], *, align: str = "exact") -> xr.Dataset:
    """Open several runs of one network as one dataset with a leading ``run`` dimension, named after the files.

    Parameters
    ----------
    paths
        Files, recordings, stores or URLs, each as :func:`open_trajectory` takes one; no pattern among them. Where two
        have the same name, all are named by their whole paths.
    align
        ``"exact"``: the runs must have the same iterations. ``"shortest"``: keep the iterations that all have.

    Raises
    ------
    TrajectoryError
        If the runs have other parameters, variables or iterations; the message names the first that differs. If a
        file is given twice.
    """
    files = [os.fspath(p) for p in paths]
    if not files:
        raise TrajectoryError("no runs to open: the list of files is empty")
    return join({name: open_trajectory(f) for name, f in zip(run_names(files), files, strict=True)}, align)


def _open_file(path: Path, check: bool = True, source: str = "") -> xr.Dataset:
    source = source or str(path)
    with path.open("rb") as handle:
        stored = guard.check_file(source, handle)
    with guard.reading(source):
        ds = open_netcdf(path)
    return _trajectory(ds, source, check, stored)


def _open_url(url: str, check: bool) -> xr.Dataset:
    path = remote.local_path(url)
    if path is not None:
        return open_trajectory(path, check=check)
    if url.rstrip("/").endswith(".zarr"):
        return _open_zarr(url, check)
    from lcakit import remote_netcdf

    file = remote.Remote(url)
    if file.in_parts:
        with contextlib.suppress(remote_netcdf.UnknownLayoutError):
            ds, stored = remote_netcdf.open_raw(url, file)
            return _trajectory(ds, url, check, stored)
    return _open_file(remote.downloaded(url), check, source=url)


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a Zarr store."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def _open_zarr(source: str, check: bool) -> xr.Dataset:
    package("zarr", "reading a Zarr store")
    from lcakit import zarrstore

    with guard.reading(source):
        ds = zarrstore.open_raw(source)
    return _trajectory(ds, source, check)


def _trajectory(ds: xr.Dataset, source: str, check: bool, stored: Any = None) -> xr.Dataset:
    """Check an opened file, load its labels, and put its data into Dask chunks, with dimensions in their order."""
    try:
        if stored is not None:
            guard.check_declared(ds, stored, source)
        out = _checked(ds, source)
        if check:
            guard.check_tables(out, source)
    except TrajectoryError:
        ds.close()
        raise
    chunks = dask_chunks(out)
    names = [str(name) for name in out.data_vars]
    ordered = {name: in_order(name, out[name].variable) for name in names}
    out = out.assign({name: guard.lazily(ordered[name], chunks, f"{source}, {name!r}") for name in names})
    out.set_close(ds.close)  # xarray does not hand the open file on to what is derived from it
    return out


def _checked(ds: xr.Dataset, source: str) -> xr.Dataset:
    """Check the version; load the labels and make coordinates of what the format says are coordinates."""
    ds = guard.clean_texts(ds, source)
    warning = schema.check_version(ds.attrs, source)
    if warning:
        warnings.warn(warning, LcakitWarning, stacklevel=4)
    for attrs in (ds.attrs, *(ds[name].attrs for name in ds.variables)):
        attrs.pop("coordinates", None)  # xarray's note of the same, kept for readers without a schema
    ds = guard.clean_tables(ds, source)
    ds = ds.set_coords([name for name in schema.COORDINATES if name in ds.variables])
    if "snapshot" in ds.dims and "iteration" not in ds.dims:  # older files without an iteration
        ds = ds.assign_coords(iteration=np.zeros(0, np.int64))
    with guard.reading(source):
        return ds.assign_coords({name: ds[name].variable.load() for name in ds.coords if name not in ds.dims})


def open_partial(directory: Path, *, check: bool = True, once: bool = False) -> xr.Dataset:
    """Open the segments of an unfinished recording as one lazy dataset; ``once``: to read it one time, in order.

    Raises
    ------
    TrajectoryError
        If no segment is finished yet, or one is missing or damaged.
    """
    directory = directory.absolute()  # also for workers that stand elsewhere
    header = _checked(_read_header(directory), str(directory))
    with guard.reading(directory):
        paths = segments.segment_paths(directory)
    if not paths:
        raise TrajectoryError(
            f"{directory}: the recording stopped before its first segment was finished; nothing is in it"
        )
    for path in paths:
        guard.check_segment(path, header.sizes)
    running = paths[-1].with_suffix(segments.RUNNING)
    if running.exists():
        guard.check_running(running, header.sizes)
    parts = [segments.open_segment(path) for path in paths]
    with guard.reading(directory):
        ds = _from_segments(header, parts, once).assign(_statistics(directory, header))
    if check:
        guard.check_tables(ds, str(directory))
    return ds


def _read_header(directory: Path) -> xr.Dataset:
    path = directory / segments.HEADER
    stored = guard.check_file(path) if path.exists() else {}
    with guard.reading(path):
        header = segments.read_header(directory)
    guard.check_declared(header, stored, str(path))
    return header


def _from_segments(header: xr.Dataset, parts: list[dict[str, StoredArray]], once: bool) -> xr.Dataset:
    names = list(dict.fromkeys(name for part in parts for name in part))
    arrays = {name: _joined(name, [part[name] for part in parts if name in part], once) for name in names}
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


def _statistics(directory: Path, header: xr.Dataset) -> dict[str, Any]:
    """Return the running statistics of a recording as variables; small ones in memory, since their file is replaced."""
    wanted = [name for name in str(header.attrs.get("statistics", "")).split() if name in schema.STATISTICS]
    if not wanted:
        return {}
    found = segments.running_statistics(directory)
    if found is None:
        told = "the recording was interrupted while its running statistics were counted, so it opens without them"
        warnings.warn(f"{directory}: {told}. resume=True brings them back.", LcakitWarning, stacklevel=4)
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


# ---- writing ---------------------------------------------------------------------------------------------------


def check_compression(compression: str | None) -> None:
    """Raise ValueError for a compression that files do not have."""
    if compression not in COMPRESSIONS:
        raise unknown("compression", compression, COMPRESSIONS)


def save(
    ds: xr.Dataset,
    path: Pathlike,
    *,
    overwrite: bool = False,
    compression: str | None = None,
    quiet: bool = True,
    cluster: Any = None,
) -> Path:
    """Write a trajectory as one netCDF-4 file, in windows of at most about 64 MB, whole or not at all.

    Parameters
    ----------
    ds
        Trajectory in this format, or a selection of one; its large variables are read window by window.
    path
        A name that ends in ``.zarr`` makes a Zarr store of the same layout (needs ``lcakit[share]``).
    overwrite
        Replace what is there under that name, once the new one is whole.
    compression
        None (fast to read and write), or ``"zlib"``: about 1.2-1.7 times smaller, several times slower.
    quiet
        No progress bar.
    cluster
        A ``dask.distributed.Client``, for a Zarr store: its workers write it together, each some windows at a time
        (:mod:`lcakit.zarrcluster`). They must see the store, and the file that ``ds`` was opened from, under the same
        paths; what ``ds`` has in memory is written by this process.

    Raises
    ------
    RecordingError
        If the file exists (and not ``overwrite``) or cannot be written, also by a worker; an older file is then as it
        was.
    TrajectoryError
        If the dataset is no trajectory of this format.
    """
    path = writable_path(path)
    if cluster is not None and path.suffix != ".zarr":
        raise ValueError(f"a cluster writes Zarr stores, a netCDF file has one writer; got {path}. Name it ….zarr")
    check_compression(compression)
    if path.exists() and not overwrite:
        raise RecordingError(f"{path} exists already. Choose another name, or pass overwrite=True to replace it.")
    schema.check_version(ds.attrs, "the dataset to save")
    large = [str(name) for name in ds.data_vars if ds[name].ndim > 1 or "parameter" in ds[name].dims]
    small = ds.drop_vars(large).load()
    small.attrs = {k: v for k, v in ds.attrs.items() if k not in STATES}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".zarr":
            _save_zarr(ds, small, path, compression, quiet, cluster)
            return path
        netcdfstore.write(ds, small, path, compression, quiet)
    except RecordingError:
        raise
    except (OSError, RuntimeError) as error:  # the netCDF library's own errors are RuntimeErrors
        raise RecordingError(
            f"cannot write {path}: {error}. Nothing was changed; free some space and try again."
        ) from error
    return path


def _save_zarr(
    ds: xr.Dataset, small: xr.Dataset, path: Path, compression: str | None, quiet: bool, cluster: Any
) -> None:
    package("zarr", "writing a Zarr store")
    from lcakit import zarrstore

    if path.exists() and not is_zarr(path):
        raise RecordingError(f"{path} is there and no Zarr store, so it is not replaced. Choose another name.")
    writer = zarrstore.write_here
    if cluster is not None:
        from lcakit import zarrcluster

        zarrcluster.check_workers(cluster)
        writer = partial(zarrcluster.write_pieces, cluster)
    zarrstore.write(ds, small, path, windows, compression, quiet, writer)


def finish(
    path: Pathlike,
    *,
    overwrite: bool = False,
    compression: str | None = None,
    quiet: bool = True,
    cluster: Any = None,
) -> Path:
    """Merge an unfinished recording into its file: the segments go only after the file has its name.

    Parameters
    ----------
    path
        ``run.nc`` or ``run.nc.partial``.
    overwrite, compression, quiet, cluster
        As in :func:`save`.

    Raises
    ------
    TrajectoryError
        If there is no unfinished recording.
    RecordingError
        As in :func:`save`; and where running statistics would be lost.
    """
    folder = unfinished(path)
    target = folder.with_name(folder.name.removesuffix(".partial"))
    ds = open_partial(folder, once=True)
    lost = set(str(ds.attrs.get("statistics", "")).split()) & set(schema.STATISTICS) - set(ds.data_vars)
    if lost:
        raise RecordingError(
            f"{folder} was interrupted while its running statistics were counted ({', '.join(sorted(lost))}), and its "
            "file would not have them. Continue it with resume=True, which goes back one block; or save what is there "
            "with lk.save(lk.open_trajectory(…), …), which leaves the recording as it is."
        )
    with Lock(folder):
        remove_stale(target)
        save(ds, target, overwrite=overwrite, compression=compression, quiet=quiet, cluster=cluster)
        segments.remove(folder)
    return target
