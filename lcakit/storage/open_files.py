"""One open handle for each netCDF file, however often it is opened.

The netCDF library crashes where several handles of one file are open and some are closed (a segmentation fault in
netCDF-C 4.10 with HDF5 2.2, from plain xarray too). In a notebook, running a cell again does that. So
opening a file that is open gives the same handle, which is closed with the last dataset that uses it. A file that was
replaced is another file.

The library tolerates no second thread either, so files are also opened and closed under its lock. A handle that is no
longer used is garbage-collected in any thread at any moment: its file then stays open, because the library may be
working, and the next one to open it gets that handle.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import netCDF4
import xarray as xr
from xarray.backends import CachingFileManager, NetCDF4DataStore
from xarray.backends.locks import HDF5_LOCK

__all__ = ["open_netcdf", "write_netcdf"]


def __dir__() -> list[str]:
    return __all__


class _Handle(NetCDF4DataStore):
    """An open file, and how many datasets have it. It lives as long as a lazy array of one of them does."""

    __slots__ = ("__weakref__", "users")

    def __init__(self, path: Path, key: tuple[Any, ...]) -> None:
        # the id makes two managers of one file, in whatever process, look for the same open handle
        manager: Any = CachingFileManager
        super().__init__(manager(netCDF4.Dataset, str(path), mode="r", lock=HDF5_LOCK, manager_id=key))  # type: ignore[no-untyped-call]
        self.users: set[object] = set()

    def release(self, user: object) -> None:
        """Close the file, if nobody else has it."""
        with _LOCK:
            self.users.discard(user)
            if not self.users:
                _OPEN.pop(self._manager._manager_id, None)
                self.close()  # type: ignore[no-untyped-call]


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
        user = object()
        handle.users.add(user)
    # of a dataset that nobody closes; no lock: it is collected in any thread, which may hold the library's
    weakref.finalize(ds, handle.users.discard, user)
    ds.set_close(partial(handle.release, user))
    ds.encoding["source"] = str(path.absolute())
    return ds


def write_netcdf(ds: xr.Dataset, path: Path, encoding: Mapping[Any, Any] | None = None) -> None:
    """Write a dataset that is in memory as a new file.

    As ``to_netcdf`` does, which also asks for a client of Dask and imports ``dask.distributed`` for that (0.5 s).
    """
    new = NetCDF4DataStore.open(str(path), mode="w", lock=HDF5_LOCK)
    try:
        ds.dump_to_store(new, encoding=encoding)
    finally:
        new.close()
