"""Trajectory files: open lazily, save whole, merge what a recording left."""

from __future__ import annotations

import contextlib
import glob
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import netCDF4
import numpy as np
import xarray as xr
from xarray.backends.locks import HDF5_LOCK

from lcakit import accessor as _accessor  # noqa: F401  (registers ds.lk)
from lcakit import guard, remote, schema, segments
from lcakit.blocks import dask_chunks, in_order
from lcakit.errors import LcakitWarning, RecordingError, TrajectoryError
from lcakit.join import join
from lcakit.packages import package
from lcakit.progress import progress

WINDOW_BYTES = 64 * 2**20
COMPRESSIONS = (None, "zlib")
STATES = ("partial", "all_chunks_written")  # attributes that say how something is stored, not what
Pathlike = str | os.PathLike[str]


def partial_path(path: Pathlike) -> Path:
    """Return the folder that holds the segments of a recording to ``path``."""
    path = Path(path)
    return path if path.name.endswith(".partial") else path.with_name(path.name + ".partial")


def allocation_partial(path: Pathlike, name: str | None = None) -> Path:
    """Return the folder of the segments while an allocation is added to the file ``path``."""
    path = Path(path)
    return path.with_name(path.name + (f".{name}" if name else "") + ".allocation.partial")


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
    pattern, path = os.fspath(path), Path(path)
    if remote.is_url(pattern):
        return _open_url(pattern, check)
    if path.is_file():
        return _open_file(path, check)
    if is_zarr(path):
        return _open_zarr(str(path), check)
    if path.is_dir() or partial_path(path).is_dir():
        return open_partial(partial_path(path), check=check)
    if glob.has_magic(pattern):
        found = sorted(glob.glob(pattern))
        if not found:
            raise TrajectoryError(f"{path}: no file matches this pattern")
        return open_runs(found, align=align)
    raise TrajectoryError(f"{path}: there is no such file, and no unfinished recording to it")


def open_runs(paths: Iterable[Pathlike], *, align: str = "exact") -> xr.Dataset:
    """Open several runs of one network as one dataset with a leading ``run`` dimension, named after the files.

    Parameters
    ----------
    align
        ``"exact"``: the runs must have the same iterations. ``"shortest"``: keep the iterations that all have.

    Raises
    ------
    TrajectoryError
        If the runs have other parameters, variables or iterations; the message names the first that differs.
    """
    files = [os.fspath(p) for p in paths]
    if not files:
        raise TrajectoryError("no runs to open: the list of files is empty")
    names = [_run_name(f) for f in files]
    names = names if len(set(names)) == len(names) else files
    return join({name: open_trajectory(f) for name, f in zip(names, files, strict=True)}, align)


def _run_name(path: str) -> str:
    name = remote.url_name(path) if remote.is_url(path) else Path(path).name
    return name.removesuffix(".partial").removesuffix(".nc").removesuffix(".zarr")


def _open_file(path: Path, check: bool = True, source: str = "") -> xr.Dataset:
    source = source or str(path)
    with path.open("rb") as handle:
        stored = guard.check_file(source, handle)
    with guard.reading(source):
        ds = xr.open_dataset(path, engine="netcdf4", decode_cf=False)
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
    with guard.reading(source):
        return ds.assign_coords({name: ds[name].variable.load() for name in ds.coords if name not in ds.dims})


def open_partial(directory: Path, *, check: bool = True) -> xr.Dataset:
    """Open the segments of an unfinished recording as one lazy dataset.

    Raises
    ------
    TrajectoryError
        If no segment is finished yet, or one is missing or damaged.
    """
    header = _checked(_read_header(directory), str(directory))
    with guard.reading(directory):
        paths = segments.segment_paths(directory)
    if not paths:
        raise TrajectoryError(
            f"{directory}: the recording stopped before its first segment was finished; nothing is in it"
        )
    for path in paths:
        guard.check_segment(path, header.sizes)
    parts = [segments.open_segment(path) for path in paths]
    with guard.reading(directory):
        ds = _from_segments(header, parts)
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


def _from_segments(header: xr.Dataset, parts: list[dict[str, segments.StoredArray]]) -> xr.Dataset:
    names = list(dict.fromkeys(name for part in parts for name in part))
    arrays = {name: _joined([part[name] for part in parts if name in part]) for name in names}
    coords: dict[str, Any] = {str(name): header[name].variable for name in header.coords}
    coords |= {name: ((name,), np.asarray(arrays.pop(name))) for name in ("snapshot", "iteration") if name in arrays}
    long = {name: values for name, values in arrays.items() if values.shape[0]}
    ds = schema.build_dataset(coords, long, header.attrs | {"partial": 1})
    extra = {name: header[name] for name in header.data_vars}
    return ds.assign(extra)


def _joined(blocks: list[segments.StoredArray]) -> Any:
    """Join the blocks of a variable: lazily where it is large."""
    if blocks[0].ndim == 1:
        return np.concatenate([block[:] for block in blocks])
    return da.concatenate([da.from_array(block, chunks=-1, name=False) for block in blocks])


# ---- writing ---------------------------------------------------------------------------------------------------


def writable_parent(path: Path) -> None:
    """Make the folder of a file to write; raise RecordingError if that, or writing there, is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(path.parent, os.W_OK)
    except OSError as error:
        raise RecordingError(f"{path.parent} cannot be made: {error}. Choose another place.") from error
    if not writable:
        raise RecordingError(f"{path.parent} cannot be written. Choose another place, or change its permissions.")


def save(
    ds: xr.Dataset,
    path: Pathlike,
    *,
    overwrite: bool = False,
    compression: str | None = None,
    quiet: bool = True,
) -> Path:
    """Write a trajectory as one netCDF-4 file, in windows of at most about 64 MB, whole or not at all.

    Parameters
    ----------
    path
        A name that ends in ``.zarr`` makes a Zarr store of the same layout (needs ``lcakit[share]``).
    compression
        None (fast to read and write), or ``"zlib"``: about 1.2-1.7 times smaller, several times slower.

    Raises
    ------
    RecordingError
        If the file exists (and not ``overwrite``) or cannot be written; an older file is then as it was.
    TrajectoryError
        If the dataset is no trajectory of this format.
    """
    path = Path(path)
    if compression not in COMPRESSIONS:
        raise ValueError(f"compression must be one of {COMPRESSIONS}, got {compression!r}")
    if path.exists() and not overwrite:
        raise RecordingError(f"{path} exists already. Choose another name, or pass overwrite=True to replace it.")
    schema.check_version(ds.attrs, "the dataset to save")
    large = [str(name) for name in ds.data_vars if ds[name].ndim > 1]
    small = ds.drop_vars(large).load()
    small.attrs = {k: v for k, v in ds.attrs.items() if k not in STATES}
    total = sum(ds[name].nbytes for name in large)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".zarr":
            _save_zarr(ds, small, path, compression, quiet)
            return path
        with segments.written_whole(path) as temporary:
            encoding = {name: {"_FillValue": None} for name in small.variables}
            small.to_netcdf(temporary, engine="netcdf4", encoding=encoding)
            with progress(total, f"writing {path.name}", unit="B", quiet=quiet) as bar:
                _create(temporary, ds, large, compression)
                for name in large:
                    for window in _windows(ds[name]):
                        block = np.asarray(ds[name][window].values)
                        _write(temporary, name, window, block)
                        bar.update(block.nbytes)
    except (OSError, RuntimeError) as error:  # the netCDF library's own errors are RuntimeErrors
        raise RecordingError(
            f"cannot write {path}: {error}. Nothing was changed; free some space and try again."
        ) from error
    return path


def _save_zarr(ds: xr.Dataset, small: xr.Dataset, path: Path, compression: str | None, quiet: bool) -> None:
    package("zarr", "writing a Zarr store")
    from lcakit import zarrstore

    if path.exists() and not is_zarr(path):
        raise RecordingError(f"{path} is there and no Zarr store, so it is not replaced. Choose another name.")
    zarrstore.write(ds, small, path, _windows, compression, quiet)


def _create(path: Path, ds: xr.Dataset, names: list[str], compression: str | None) -> None:
    with HDF5_LOCK, netCDF4.Dataset(path, "a") as file:
        file.set_fill_off()
        for dim, size in ds.sizes.items():
            if dim not in file.dimensions:
                file.createDimension(str(dim), size)
        for name in names:
            array = ds[name]
            options: dict[str, Any] = {"compression": "zlib", "complevel": 1, "shuffle": True} if compression else {}
            dims = tuple(map(str, array.dims))
            chunk = schema.chunk_sizes(dims, {str(k): v for k, v in ds.sizes.items()})
            variable = file.createVariable(
                name, array.dtype.newbyteorder("="), dims, chunksizes=chunk, fill_value=False, **options
            )
            coords = " ".join(str(c) for c in array.coords if c not in array.dims)
            variable.setncatts(array.attrs | ({"coordinates": coords} if coords else {}))


def _write(path: Path, name: str, window: tuple[slice, ...], block: np.ndarray) -> None:
    with HDF5_LOCK, netCDF4.Dataset(path, "a") as file:
        file.set_fill_off()
        variable = file[name]
        variable.set_auto_maskandscale(False)
        variable[window] = block


def _windows(array: xr.DataArray) -> Iterator[tuple[slice, ...]]:
    """Cut a variable into windows of whole file chunks, at most WINDOW_BYTES each: long rows first, then many rows."""
    sizes = {str(k): v for k, v in array.sizes.items()}
    dims = tuple(map(str, array.dims))
    window = list(schema.chunk_sizes(dims, sizes))
    for axis in reversed(range(len(window))):
        room = WINDOW_BYTES // (array.dtype.itemsize * int(np.prod(window)))
        if room > 1:
            window[axis] = min(array.shape[axis], window[axis] * room)
    for index in np.ndindex(*(-(-n // w) for n, w in zip(array.shape, window, strict=True))):
        yield tuple(slice(i * w, min((i + 1) * w, n)) for i, w, n in zip(index, window, array.shape, strict=True))


def finish(path: Pathlike, *, overwrite: bool = False, compression: str | None = None, quiet: bool = True) -> Path:
    """Merge an unfinished recording into its file: the segments go only after the file has its name.

    Parameters
    ----------
    path
        ``run.nc`` or ``run.nc.partial``.
    """
    partial = partial_path(path)
    target = partial.with_name(partial.name.removesuffix(".partial"))
    ds = open_partial(partial)
    with segments.Lock(partial):
        segments.remove_stale(target)
        save(ds, target, overwrite=overwrite, compression=compression, quiet=quiet)
        segments.remove(partial)
    return target
