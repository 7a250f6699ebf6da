"""Trajectories as Zarr stores (version 3): a folder, or an address, with one small file for each chunk.

The schema, the names and the chunks are those of the netCDF file. Zarr reads a chunk whose file is not there as fill
values; every chunk is therefore written, an attribute of the store says so, and reading a missing chunk is an error.
Only known codecs of numbers and text are accepted; one of the others unpickles.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import FsspecStore, LocalStore

from lcakit.progress import progress
from lcakit.storage.atomic import behind_links, swap, sync, temporary_name
from lcakit.storage.remote import is_web, url_errors, web_files
from lcakit.storage.urls import is_url
from lcakit.storage.zarr_guard import CheckedStore, check_array, check_labels, check_root
from lcakit.trajectory import schema

__all__ = [
    "Piece",
    "Windows",
    "Writer",
    "chunk_files",
    "open_raw",
    "whole_folder",
    "write",
    "write_here",
    "write_piece",
]


def __dir__() -> list[str]:
    return __all__


_ALL_CHUNKS = "all_chunks_written"
"""Root attribute of stores in which a chunk that is not there was lost."""

_SYNCS = 16  # files flushed at a time: a disk takes many together in little more than the time of one

Windows = Callable[[xr.DataArray], Iterable[tuple[slice, ...]]]


# ---- reading ---------------------------------------------------------------------------------------------------


def open_raw(source: str, timeout: float | None = None) -> xr.Dataset:
    """Open a Zarr store as it is: variables not decoded, nothing read but metadata and indexes.

    Parameters
    ----------
    source
        A folder or a URL; behind a URL the store needs consolidated metadata, as ``lk.save`` writes them.

    Raises
    ------
    TrajectoryError
        If there is no store, or it holds what cannot be read safely.
    """
    with _quiet(), url_errors(source) if is_url(source) else contextlib.nullcontext():
        if is_url(source):
            store: Any = CheckedStore(_remote_store(source, timeout), source)
        else:
            folder = Path(source).resolve()  # of a link that leads elsewhere later, and for workers elsewhere
            store = CheckedStore(LocalStore(folder, read_only=True), source, folder)
        check_root(store)
        group = zarr.open_group(store, mode="r")
        arrays = dict(group.arrays())
        for name, array in arrays.items():
            check_array(store, name, array)
        check_labels(store, arrays)
        store.whole = _ALL_CHUNKS in group.attrs or schema.STORED in group.attrs
        consolidated = group.metadata.consolidated_metadata is not None
        options: dict[str, Any] = {"chunks": None, "decode_cf": False, "consolidated": consolidated}
        return _plain(xr.open_dataset(store, engine="zarr", **options))


def _remote_store(source: str, timeout: float | None) -> FsspecStore:
    if is_web(source):
        return FsspecStore(web_files(source, timeout, asynchronous=True), read_only=True, path=source.rstrip("/"))
    return FsspecStore.from_url(source, read_only=True)


def _plain(ds: xr.Dataset) -> xr.Dataset:
    """Return the dataset without Zarr's own attributes, and with text as objects, as from netCDF."""
    out = ds.drop_attrs(deep=False).assign_attrs({k: v for k, v in ds.attrs.items() if k != _ALL_CHUNKS})
    texts = {name: array.astype(object) for name, array in out.variables.items() if array.dtype.kind == "T"}
    out = out.assign(texts)
    for name in out.variables:
        out[name].attrs.pop("_FillValue", None)
    out.set_close(ds.close)
    return out


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Zarr's notes of what is not part of its specification: metadata in one place, text of fixed length."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Cc]onsolidated metadata.*")
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
        warnings.filterwarnings("ignore", message=".*not part in the Zarr format 3 specification.*")  # of zarr 3.0
        yield


# ---- writing ---------------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """A part of an array that is made of whole chunks: its place in the store, and its values."""

    stored: zarr.Array[Any]
    window: tuple[slice, ...]
    block: xr.Variable


Writer = Callable[[Path, Iterable[Piece], Callable[[int], object]], None]


def write_here(folder: Path, pieces: Iterable[Piece], done: Callable[[int], object]) -> None:
    """Write pieces one after the other; ``done`` gets the bytes of each."""
    for piece in pieces:
        done(write_piece(piece))


def write_piece(piece: Piece, scheduler: str | None = None) -> int:
    """Compute a piece and write it; return its bytes."""
    values = np.asarray(piece.block.compute(scheduler=scheduler).values)
    piece.stored[piece.window] = values
    return values.nbytes


def chunk_files(piece: Piece) -> Iterator[str]:
    """Yield the files of a piece's chunks, inside the store."""
    chunks = zip(piece.window, piece.stored.chunks, strict=True)
    for index in itertools.product(*(range(s.start // n, -(-s.stop // n)) for s, n in chunks)):
        yield f"{piece.stored.path}/{piece.stored.metadata.encode_chunk_key(index)}"


def write(
    ds: xr.Dataset,
    small: xr.Dataset,
    path: Path,
    windows: Windows,
    compression: str | None = None,
    quiet: bool = True,
    writer: Writer = write_here,
) -> None:
    """Write a trajectory as a Zarr store, window by window, whole or not at all.

    Parameters
    ----------
    small
        Everything of ``ds`` but its large variables, in memory.
    windows
        Cuts a large variable into pieces of whole chunks.
    writer
        Writes the pieces of the large variables.
    """
    codecs = [BloscCodec(cname="zlib", clevel=1, shuffle="shuffle")] if compression else None
    large = [ds[name] for name in ds.data_vars if name not in small]
    sizes = {str(k): v for k, v in ds.sizes.items()}
    with _quiet(), whole_folder(path) as folder:
        _write_small(small, folder)
        root = zarr.open_group(folder.absolute(), mode="r+")
        stored = {array.name: _create_array(root, array, sizes, codecs) for array in large}
        pieces = (Piece(stored[a.name], window, a.variable[window]) for a in large for window in windows(a))
        with progress(sum(a.nbytes for a in large), f"writing {path.name}", unit="B", quiet=quiet) as bar:
            writer(folder, pieces, bar.update)
        zarr.consolidate_metadata(LocalStore(folder))


def _write_small(small: xr.Dataset, folder: Path) -> None:
    texts = {name: small[name].astype(object) for name in small.variables if small[name].dtype.kind == "U"}
    out = small.drop_encoding().assign_attrs({_ALL_CHUNKS: 1})
    out = out.assign({name: text for name, text in texts.items() if name not in small.coords})
    out = out.assign_coords({name: text for name, text in texts.items() if name in small.coords})
    with zarr.config.set({"array.write_empty_chunks": True}):  # some xarray have no way to say it
        out.to_zarr(folder, mode="w-", zarr_format=3, consolidated=False)


def _create_array(root: zarr.Group, array: xr.DataArray, sizes: dict[str, int], codecs: Any) -> zarr.Array[Any]:
    dims = tuple(map(str, array.dims))
    coords = " ".join(str(c) for c in array.coords if c not in array.dims)
    return root.create_array(
        str(array.name),
        shape=array.shape,
        chunks=schema.chunk_sizes(dims, sizes),
        dtype=array.dtype,
        compressors=codecs,
        fill_value=np.nan if array.dtype.kind == "f" else 0,
        dimension_names=dims,
        attributes={**array.attrs, **({"coordinates": coords} if coords else {})},
        config={"write_empty_chunks": True},
    )


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to write to; at the end flush it to the disk and rename it to ``path``.

    On an error the temporary folder is removed and ``path`` is left unchanged. Where ``path`` is a symbolic link, the
    folder that it leads to is replaced, and the link stays.
    """
    path = behind_links(path)
    temporary = temporary_name(path)
    try:
        yield temporary
        with ThreadPoolExecutor(_SYNCS) as pool:
            list(pool.map(sync, temporary.rglob("*")))
        if path.exists():
            swap(temporary, path)
        else:
            temporary.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
