"""Trajectories written, whole or not at all: to a file or store, from a dataset or from the segments of a recording."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from lcakit.errors import RecordingError, TrajectoryError, unknown
from lcakit.packages import package
from lcakit.storage import netcdf, segments
from lcakit.storage.atomic import Lock, remove_stale
from lcakit.storage.blocks import windows
from lcakit.storage.checked import check_writable
from lcakit.storage.early_chunks import EarlyChunks, remove_early
from lcakit.storage.npz import damage
from lcakit.storage.partial import open_partial
from lcakit.storage.paths import Pathlike, is_zarr, unfinished, writable_path
from lcakit.trajectory import schema
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.columns import LABELS, is_held

__all__ = ["COMPRESSIONS", "check_compression", "finish", "merge", "save"]


def __dir__() -> list[str]:
    return __all__


COMPRESSIONS = (None, "zlib")

_GIVEN = "the dataset to save"

_OF_STORAGE = ("partial", "all_chunks_written")
"""Attributes that say how a trajectory was stored, not what it is: they are not copied."""


def check_compression(compression: str | None) -> None:
    """Raise ValueError for a compression that files do not have."""
    if compression not in COMPRESSIONS:
        raise unknown("compression", compression, COMPRESSIONS)


@checks_arguments
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
        (:mod:`lcakit.storage.zarr_cluster`). They must see the store, and the file that ``ds`` was opened from, under
        the same paths; what ``ds`` has in memory is written by this process.

    Raises
    ------
    RecordingError
        If the file exists (and not ``overwrite``) or cannot be written, also by a worker; an older file is then as it
        was.
    TrajectoryError
        If the dataset is not a trajectory of this format, or one that could not be opened again, because its parts
        contradict each other. Nothing is written then.
    """
    schema.check_version(ds.attrs, _GIVEN)
    check_writable(ds, _GIVEN)
    return _save(ds, path, overwrite, compression, quiet, cluster)


def _save(
    ds: xr.Dataset,
    path: Pathlike,
    overwrite: bool,
    compression: str | None,
    quiet: bool,
    cluster: Any,
    early: EarlyChunks | None = None,
) -> Path:
    path = writable_path(path)
    if cluster is not None and path.suffix != ".zarr":
        raise ValueError(f"a cluster writes Zarr stores, a netCDF file has one writer; got {path}. Name it ….zarr")
    check_compression(compression)
    if path.exists() and not overwrite:
        raise RecordingError(f"{path} exists already. Choose another name, or pass overwrite=True to replace it.")
    schema.check_version(ds.attrs, _GIVEN)
    large = [str(name) for name in ds.data_vars if ds[name].ndim > 1 or "parameter" in ds[name].dims]
    columns = [name for name in LABELS if path.suffix != ".zarr" and name in ds.coords and not is_held(ds[name].size)]
    small = ds.drop_vars([*large, *columns]).load()
    small.attrs = {k: v for k, v in ds.attrs.items() if k not in _OF_STORAGE} | schema.names_stored(ds)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path)
        if path.suffix == ".zarr":
            _save_zarr(ds, small, path, compression, quiet, cluster)
            return path
        netcdf.write(ds, small, path, compression, quiet, early)
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
    from lcakit.storage import zarr_store

    if path.exists() and not is_zarr(path):
        raise RecordingError(f"{path} exists and is not a Zarr store, so it is not replaced. Choose another name.")
    writer = zarr_store.write_here
    if cluster is not None:
        from lcakit.storage import zarr_cluster

        zarr_cluster.check_workers(cluster)
        writer = partial(zarr_cluster.write_pieces, cluster)
    zarr_store.write(ds, small, path, windows, compression, quiet, writer)


@checks_arguments
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
        If there is no unfinished recording, or a segment differs from its checksum.
    RecordingError
        As in :func:`save`; and where running statistics would be lost.
    """
    return merge(path, overwrite=overwrite, compression=compression, quiet=quiet, cluster=cluster)


def merge(
    path: Pathlike,
    *,
    overwrite: bool = False,
    compression: str | None = None,
    quiet: bool = True,
    cluster: Any = None,
    early: EarlyChunks | None = None,
) -> Path:
    """Do what :func:`finish` does, with the chunks of a file that the recorder has begun (``early``)."""
    folder = unfinished(path)
    target = folder.with_name(folder.name.removesuffix(".partial"))
    if segments.is_rest(folder):
        with Lock(folder):
            segments.remove(folder)
        return target if target.exists() else unfinished(path)
    ds = open_partial(folder, once=True)
    lost = set(str(ds.attrs.get("statistics", "")).split()) & set(schema.STATISTICS) - set(ds.data_vars)
    if lost:
        raise RecordingError(
            f"{folder} was interrupted while its running statistics were counted ({', '.join(sorted(lost))}), and its "
            "file would not have them. Continue it with resume=True, which goes back one block; or save what is there "
            "with lk.save(lk.open_trajectory(…), …), which leaves the recording as it is."
        )
    with Lock(folder):
        if early is None and compression is None and target.suffix != ".zarr":
            early = EarlyChunks.left(folder)
        if early is None or not early.complete(ds):
            early = None
            remove_early(folder)
            _check_sums(folder)
        _save(ds, target, overwrite, compression, quiet, cluster, early)
        segments.remove(folder)
    return target


def _check_sums(folder: Path) -> None:
    """Raise for a segment that differs from its checksum: the file will have no such checksum."""
    for segment in segments.segment_paths(folder):
        if damaged := damage(segment):
            raise TrajectoryError(
                f"{segment}: {damaged}. Restore it; or remove it and all that follow, and finish the rest."
            )
