"""One open handle for each netCDF file, however often it is opened.

The netCDF library crashes where several handles of one file are open and some are closed (a segmentation fault in
netCDF-C 4.10 with HDF5 2.2, from plain xarray too). In a notebook that is a cell that is run again. So whoever opens a
file that is open gets the same handle, and it is closed by the last who has it. A file that was replaced is another.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import netCDF4
import xarray as xr
from xarray.backends import CachingFileManager, NetCDF4DataStore


class _Handle(NetCDF4DataStore):
    """An open file, and how many datasets have it. It lives as long as a lazy array of one of them does."""

    __slots__ = ("__weakref__", "users")

    def __init__(self, path: Path, key: tuple[Any, ...]) -> None:
        # the id makes two managers of one file, in whatever process, look for the same open handle
        super().__init__(CachingFileManager(netCDF4.Dataset, str(path), mode="r", manager_id=key))
        self.users = 0

    def forget(self) -> None:
        """Count a user less; the file is closed when the handle itself is no more."""
        with _LOCK:
            self.users -= 1

    def release(self) -> None:
        """Close the file, if nobody else has it."""
        with _LOCK:
            self.forget()
            if self.users <= 0:
                _OPEN.pop(self._manager._manager_id, None)
                self.close()


_OPEN: WeakValueDictionary[tuple[Any, ...], _Handle] = WeakValueDictionary()
_LOCK = threading.RLock()


def open_netcdf(path: Path) -> xr.Dataset:
    """Open a netCDF file as it is: variables not decoded, nothing read but what describes them."""
    place = path.resolve()  # links and .. lead to the same file
    state = place.stat()
    key = (str(place), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    with _LOCK:
        handle = _OPEN.get(key)
        if handle is None:
            handle = _OPEN[key] = _Handle(place, key)
        ds = xr.open_dataset(handle, engine="store", decode_cf=False)
        handle.users += 1
    gone = weakref.finalize(ds, handle.forget)  # a dataset that nobody closes; lazy arrays of it may live on
    ds.set_close(lambda: handle.release() if gone.detach() else None)
    ds.encoding["source"] = str(path.absolute())
    return ds
