"""Trajectories as netCDF-4 files: what is small at once, what is large in windows of whole chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from xarray.backends.locks import HDF5_LOCK

from lcakit import schema, segments
from lcakit.blocks import windows
from lcakit.progress import progress


def write(ds: xr.Dataset, small: xr.Dataset, path: Path, compression: str | None, quiet: bool) -> None:
    """Write a trajectory as one file, whole or not at all.

    Parameters
    ----------
    ds
        The trajectory; its large variables are read and written window by window.
    small
        What of it is in memory, with the attributes of the file.
    compression
        None or ``"zlib"``.
    """
    large = [str(name) for name in ds.data_vars if name not in small.variables]
    with segments.written_whole(path) as temporary:
        encoding = {name: {"_FillValue": None} for name in small.variables}
        small.to_netcdf(temporary, engine="netcdf4", encoding=encoding)
        total = sum(ds[name].nbytes for name in large)
        with progress(total, f"writing {path.name}", unit="B", quiet=quiet) as bar:
            _create(temporary, ds, large, compression)
            for name in large:
                for window in windows(ds[name]):
                    block = np.asarray(ds[name][window].values)
                    write_window(temporary, name, window, block)
                    bar.update(block.nbytes)


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


def write_window(path: Path, name: str, window: tuple[slice, ...], block: np.ndarray) -> None:
    """Write one window of a variable; the file is open for that long only, so that it is never left half open."""
    with HDF5_LOCK, netCDF4.Dataset(path, "a") as file:
        file.set_fill_off()
        variable = file[name]
        variable.set_auto_maskandscale(False)
        variable[window] = block
