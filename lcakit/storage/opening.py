"""Trajectories opened lazily, whatever they are stored in: a file, a store, a recording in progress, a URL, several."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.packages import package
from lcakit.storage import guard, netcdf_reading, urls
from lcakit.storage.checked import as_trajectory
from lcakit.storage.partial import open_partial
from lcakit.storage.paths import Pathlike, given_path, is_zarr, no_file, no_match, partial_path, run_names
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.join import join

__all__ = ["open_runs", "open_trajectory"]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
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
        Dask-backed, in the layout of :mod:`lcakit.trajectory.schema`. A recording that is not finished has the
        attribute ``partial = 1``.

    Raises
    ------
    TrajectoryError
        If there is no such file, or it is damaged, contradicts itself, is not a trajectory, or of a newer major format
        version. Nothing a file declares is believed unchecked (:mod:`lcakit.storage.guard`).
    """
    if not isinstance(path, str | os.PathLike):
        return open_runs(path, align=align)
    if urls.is_url(os.fspath(path)):
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
            raise no_match(path)
        return open_runs(found, align=align)
    raise no_file(path)


@checks_arguments
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


def _open_file(path: Path, check: bool) -> xr.Dataset:
    ds, structure = netcdf_reading.open_local(path)
    return as_trajectory(ds, str(path), check, structure)


def _open_url(url: str, check: bool) -> xr.Dataset:
    path = urls.local_path(url)
    if path is not None:
        return open_trajectory(path, check=check)
    if url.rstrip("/").endswith(".zarr"):
        return _open_zarr(url, check)
    ds, structure = netcdf_reading.open_url(url)
    return as_trajectory(ds, url, check, structure, far=True)


def _open_zarr(source: str, check: bool) -> xr.Dataset:
    package("zarr", "reading a Zarr store")
    from lcakit.storage import zarr_store

    with guard.reading(source):
        ds = zarr_store.open_raw(source)
    return as_trajectory(ds, source, check, far=urls.is_url(source))
