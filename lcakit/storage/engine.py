"""Trajectories for users of plain xarray: ``xr.open_dataset("run.nc", engine="lcakit")``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint

from lcakit.errors import TrajectoryError
from lcakit.packages import register_accessor
from lcakit.storage import netcdf_reading, urls
from lcakit.storage.checked import labelled
from lcakit.storage.paths import given_path, no_file

__all__ = ["TrajectoryBackend"]


def __dir__() -> list[str]:
    return __all__


class TrajectoryBackend(BackendEntrypoint):
    """Opens a file, or a URL, as :func:`lcakit.open_trajectory` does: checked, with labels, and ``ds.lk``.

    Other than there, data is not in Dask unless ``chunks`` is given, and dimensions stay in the order of the file.

    Examples
    --------
    >>> import tempfile
    >>> import lcakit as lk
    >>> from lcakit.testing import tiny_trajectory
    >>> path = lk.save(tiny_trajectory(5), f"{tempfile.mkdtemp()}/run.nc", quiet=True)
    >>> with xr.open_dataset(path, engine="lcakit") as ds:  # doctest: +SKIP
    ...     ds["lca"].isel(iteration=2).load()
    >>> with xr.open_dataset(path, engine=TrajectoryBackend) as ds:  # the same, also where lcakit is not installed
    ...     ds["lca"].isel(iteration=2).load().shape
    (61,)
    """

    description = "Trajectories of lcakit, checked and labelled, read without the netCDF library"
    open_dataset_parameters = (
        *("filename_or_obj", "drop_variables", "check", "mask_and_scale", "decode_times", "decode_timedelta"),
        *("concat_characters", "decode_coords", "use_cftime"),
    )

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        check: bool = True,
        **decoding: Any,
    ) -> xr.Dataset:
        """Open a trajectory.

        Parameters
        ----------
        filename_or_obj
            A path or a URL.
        drop_variables
            Names of variables to leave out.
        check
            False opens it even if its tables contradict each other.
        decoding
            As for ``xr.decode_cf``: ``decode_times``, ``mask_and_scale``, …

        Raises
        ------
        TrajectoryError
            If there is no such file, or it is damaged, contradicts itself or is not a trajectory.
        """
        if not isinstance(filename_or_obj, str | os.PathLike):
            raise TrajectoryError(
                f"engine 'lcakit' opens a path or a URL, got {type(filename_or_obj).__name__}. Write what you have to "
                "a file first."
            )
        register_accessor()  # where lcakit was imported before xarray, and nothing of it used since
        ds = _opened(os.fspath(filename_or_obj), check)
        return xr.decode_cf(ds, drop_variables=drop_variables, **decoding)

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return False: other files than trajectories end in ``.nc`` too."""
        return False


def _opened(source: str, check: bool) -> xr.Dataset:
    local = urls.local_path(source) if urls.is_url(source) else source
    if local is None:
        ds, structure = netcdf_reading.open_url(source)
        return labelled(ds, source, check, structure)
    path = given_path(local)
    if path.is_dir():
        raise TrajectoryError(f"{path} is a folder. lk.open_trajectory opens unfinished recordings and Zarr stores.")
    if not path.is_file():
        raise no_file(path)
    ds, structure = netcdf_reading.open_local(path)
    return labelled(ds, str(path), check, structure)
