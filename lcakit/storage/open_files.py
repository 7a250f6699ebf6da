"""One open handle for each netCDF file, however often it is opened.

The netCDF library crashes where several handles of one file are open and some are closed (a segmentation fault in
netCDF-C 4.10 with HDF5 2.2, from plain xarray too). In a notebook, running a cell again does that. So
opening a file that is open gives the same handle, which is closed with the last dataset that uses it. A file that was
replaced by renaming another one to its name is another file, and the old one stays readable.

A file that something else was copied over is neither: the library would mix what it holds of the old file with bytes of
the new one. So the state of a file (device, inode, size, time of the last change) is compared when it is opened again
and after every read, and a read of a changed file is an error.

The library tolerates no second thread either, so files are also opened and closed under its lock. A handle that is no
longer used is garbage-collected in any thread at any moment: its file then stays open, because the library may be
working, and the next one to open it gets that handle.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import netCDF4
import xarray as xr
from xarray.backends import CachingFileManager, NetCDF4DataStore
from xarray.backends.file_manager import FILE_CACHE
from xarray.backends.locks import HDF5_LOCK
from xarray.core.indexing import LazilyIndexedArray

from lcakit.errors import TrajectoryError
from lcakit.storage.chunked import ChunkArray, Chunks
from lcakit.storage.local import LocalFile
from lcakit.storage.state import State

__all__ = ["open_netcdf", "write_netcdf"]


def __dir__() -> list[str]:
    return __all__


def _open_unchanged(path: str, state: State, mode: str) -> netCDF4.Dataset:
    """Open a file for reading: now, in a worker, or again, always the same file."""
    file = netCDF4.Dataset(path, mode=mode)  # type: ignore[arg-type]
    if State.of(path) != state:
        file.close()
        raise TrajectoryError(f"{path} was replaced since it was opened. Open it again.")
    return file


class _Handle(NetCDF4DataStore):
    """An open file, and how many datasets have it. It lives as long as a lazy array of one of them does."""

    __slots__ = ("__weakref__", "chunks", "file", "loading", "path", "state", "users")

    def __init__(self, path: Path, state: State, chunks: Mapping[str, Chunks]) -> None:
        self.path, self.state, self.chunks = str(path), state, chunks
        self.file = LocalFile(str(path), state) if chunks else None
        self.loading: int | None = None
        # the id makes two managers of one file, in whatever process, look for the same open handle
        manager: Any = CachingFileManager
        key = (str(path), *state)
        super().__init__(  # type: ignore[no-untyped-call]
            manager(_open_unchanged, str(path), state, mode="r", lock=HDF5_LOCK, manager_id=key)
        )
        self.users: set[object] = set()

    def load(self) -> Any:
        """Return what describes the variables."""
        with self._at_once():
            return super().load()  # type: ignore[no-untyped-call]

    def get_encoding(self) -> Any:
        """Return what xarray wants to know of the dimensions."""
        with self._at_once():
            return super().get_encoding()  # type: ignore[no-untyped-call]

    def open_store_variable(self, name: str, var: Any) -> Any:
        """Return a variable that is not read yet: numbers are read without the library."""
        variable = super().open_store_variable(name, var)
        if self.file is None or name not in self.chunks:
            return variable
        array = ChunkArray(self.file, self.chunks[name], f"{self.path}, {name!r}")
        return xr.Variable(variable.dims, LazilyIndexedArray(array), variable.attrs, variable.encoding)

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """Hold the library's lock for many small questions to it."""
        with HDF5_LOCK:
            self.loading = threading.get_ident()
            try:
                yield
            finally:
                self.loading = None

    def _acquire(self, needs_lock: bool = True) -> Any:
        held = self.loading == threading.get_ident()
        return super()._acquire(needs_lock and not held)  # type: ignore[no-untyped-call]

    def check(self) -> None:
        """Raise TrajectoryError if the file was overwritten."""
        self.state.check(self.path, self.path)

    def release(self, user: object) -> None:
        """Close the file, if nobody else has it."""
        with _LOCK:
            self.users.discard(user)
            if not self.users:
                _OPEN.pop(self._manager._manager_id, None)
                self.close()  # type: ignore[no-untyped-call]
                if self.file is not None:
                    self.file.close()


_OPEN: WeakValueDictionary[tuple[Any, ...], _Handle] = WeakValueDictionary()
_LOCK = threading.RLock()


def open_netcdf(
    path: Path, state: State | None = None, chunks: Mapping[str, Chunks] | None = None
) -> tuple[xr.Dataset, Callable[[], None]]:
    """Open a netCDF file as it is: variables not decoded, nothing read but what describes them.

    Parameters
    ----------
    state
        Of the file that was checked before; another one is refused.
    chunks
        Where the chunks of variables lie that are read without the library.

    Returns
    -------
    tuple
        The dataset, and a function to call after each read, which raises TrajectoryError if the file was overwritten.
    """
    place = path.resolve()  # links and .. lead to the same file
    state = State.of(place) if state is None else state
    with _LOCK:
        handle = _handle_of(place, state, chunks or {})
        ds = xr.open_dataset(handle, engine="store", decode_cf=False)
        user = object()
        handle.users.add(user)
    # of a dataset that nobody closes; no lock: it is collected in any thread, which may hold the library's
    weakref.finalize(ds, handle.users.discard, user)
    ds.set_close(partial(handle.release, user))
    ds.encoding["source"] = str(path.absolute())
    return ds, handle.check


def _handle_of(place: Path, state: State, chunks: Mapping[str, Chunks]) -> _Handle:
    """Return the handle of an open file, or a new one: never two of one file, as it was and as it is."""
    for handle in list(_OPEN.values()):
        if handle.state[:2] == state[:2]:
            handle.check()
            return handle
    _close_dropped(state)
    handle = _OPEN[(str(place), *state)] = _Handle(place, state, chunks)
    return handle


def _close_dropped(state: State) -> None:
    """Close what was left open of an older state of the file when its last dataset was collected."""
    with HDF5_LOCK:
        for key in list(FILE_CACHE):
            if key[0] is _open_unchanged and key[1][1][:2] == state[:2]:
                FILE_CACHE.pop(key).close()


def write_netcdf(ds: xr.Dataset, path: Path, encoding: Mapping[Any, Any] | None = None) -> None:
    """Write a dataset that is in memory as a new file.

    As ``to_netcdf`` does, which also asks for a client of Dask and imports ``dask.distributed`` for that (0.5 s).
    """
    with HDF5_LOCK:  # for all of it: also making a variable or an attribute is the library's work
        new = NetCDF4DataStore.open(str(path), mode="w", lock=False)
        try:
            ds.dump_to_store(new, encoding=encoding)
        finally:
            new.close()
