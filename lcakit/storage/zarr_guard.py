"""Zarr stores of strangers: what a store declares, and each file of it, is checked before it is read.

A store is a folder, and what looks like a chunk can be a pipe, a device, a link to another file, or a megabyte that
inflates to a gigabyte. So only plain files inside the store are read, none longer than its chunk can be, and what they
inflate to is counted before it is inflated, or while it is.

A store can also change while it is open, file by file or as a whole. No file of it may be newer than its opening, and
its folder and descriptions must be those that were opened; otherwise a read is refused, never a mix of old and new.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import stat
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import WrapperStore

from lcakit.errors import TrajectoryError
from lcakit.storage.state import State
from lcakit.text import printable
from lcakit.trajectory import schema

__all__ = ["CheckedStore", "check_array", "check_labels", "check_root", "codec_names"]


def __dir__() -> list[str]:
    return __all__


_PLAIN = ("bytes", "crc32c", "delta", "fixedscaleoffset", "fletcher32", "numcodecs.shuffle", "shuffle", "transpose")
_PACKING = ("blosc", "gzip", "lz4", "numcodecs.blosc", "numcodecs.zlib", "zlib", "zstd")
_CODECS = (*_PLAIN, *_PACKING, "vlen-utf8")
_METADATA = ("zarr.json", ".zmetadata", ".zarray", ".zgroup")
_MOST_CODECS, _MOST_DIMENSIONS = 8, 32
_MOST_ARRAYS = 500
_MOST_METADATA = 2**24  # bytes of one file of metadata
_MOST_CHUNK, _MOST_CHUNKS = 2**27, 4_000_000
_MOST_TEXT = 2**26  # bytes of a chunk of text
_LABELS, _LABEL_RATIO, _MOST_REMOTE_LABELS = 2**26, 16, 2**28
"""Labels are loaded on opening: at most 64 MB, or 16 times what is stored of them; 256 MB behind a URL."""


class _Limit(NamedTuple):
    """What a chunk of an array may be: most bytes as they are used, and the codec that packs them."""

    size: int
    packing: str

    @property
    def stored(self) -> int:
        """Most bytes of the file: packing makes nothing much longer."""
        return self.size + self.size // 64 + 65_536


class _Opened:
    """What a store in a folder was when it was opened, to compare it with what it is at every read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.time = folder, time.time_ns()
        found = [path for name in _METADATA for path in (folder / name, *folder.glob(f"*/{name}"))]
        states = {path: State.of(path) for path in found if path.is_file()}
        self.states = {str(path.relative_to(folder)): state for path, state in states.items()}
        self.inode = folder.stat().st_ino
        # by the clock of the disk, where that is another machine's and ahead: descriptions are written last
        self.time = max([self.time, *(path.stat().st_ctime_ns for path in states)])

    def changed(self, key: str, found: os.stat_result | None) -> bool:
        """Say whether a file, or a description that it is read by, is another one than when the store was opened."""
        descriptions = set(_METADATA) | {f"{key.partition('/')[0]}/{name}" for name in _METADATA}
        try:
            same = self.folder.stat().st_ino == self.inode and all(
                State.of(self.folder / name) == self.states[name] for name in descriptions & self.states.keys()
            )
        except OSError:
            return True
        return not same or (found is not None and max(found.st_ctime_ns, found.st_mtime_ns) > self.time)


class CheckedStore(WrapperStore[Any]):
    """A store of which only plain files are read, none of which is, or inflates to, more than it should.

    Parameters
    ----------
    source
        Its address, for messages.
    folder
        Where it lies; None behind a URL.
    """

    def __init__(self, store: Any, source: str = "", folder: Path | None = None) -> None:
        super().__init__(store)
        self.source, self.folder = source, None if folder is None else folder.resolve()
        self.opened: _Opened | None = None
        self.whole = False
        """A chunk that is missing is an error, not a block of fill values."""

        self.limits: dict[str, _Limit] = {}
        files: Any = getattr(store, "fs", None)
        if hasattr(files, "most_of"):  # behind a URL: no more is taken from the server
            files.most_of = lambda url: self._most(url.removeprefix(store.path).lstrip("/"))

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return what is stored under a key."""
        limit, most = self._limit(key), self._most(key)
        if self.folder is not None:
            await asyncio.to_thread(self._check_file, self.folder / key, key, most)
        found: Buffer | None = await self._store.get(key, prototype, byte_range)
        if self.folder is not None:
            await asyncio.to_thread(self._check_unchanged, self.folder / key, key)
        if found is None:
            if self.whole and _is_chunk(key):
                raise TrajectoryError(f"{self._store}: the chunk {key} is missing. Get the store again.")
            return None
        if len(found) > most:
            raise self._error(f"{key} has {len(found):,} bytes; at most {most:,} are read")
        if limit is None and key.endswith(_METADATA):
            self._check_metadata(key, found.to_bytes())
        if limit is not None and limit.packing:
            await asyncio.to_thread(self._check_inflated, found.to_bytes(), key, limit)
        return found

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of values, each checked."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    def _limit(self, key: str) -> _Limit | None:
        return self.limits.get(key.partition("/")[0]) if _is_chunk(key) else None

    def _most(self, key: str) -> int:
        """Return how many bytes a file of the store may have."""
        limit = self._limit(key)
        return _MOST_METADATA if limit is None else limit.stored

    def _check_file(self, path: Path, key: str, most: int) -> None:
        try:
            found = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        inside = self.folder is not None and path.parent.resolve().is_relative_to(self.folder)
        if not stat.S_ISREG(found.st_mode) or not inside:
            raise self._error(f"{key} is a link, a pipe, a device or lies elsewhere; only plain files in it are read")
        if found.st_size > most:
            raise self._error(f"{key} has {found.st_size:,} bytes; at most {most:,} are read")

    def _check_unchanged(self, path: Path, key: str) -> None:
        try:
            found = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            found = None
        if self.opened is not None and self.opened.changed(key, found):
            raise TrajectoryError(
                f"{self.source} was overwritten or replaced while it is open ({printable(key, 60)}), so a read would "
                "mix the old store with the new one. Open it again with lk.open_trajectory."
            )

    def _check_metadata(self, key: str, data: bytes) -> None:
        """Count what is declared before the library builds it, which may take longer than anyone waits; check codecs.

        Older versions of zarr say of a codec that they do not know only that there is no group.
        """
        described: Any = json.loads(data)
        inner = described.get("consolidated_metadata") or described
        several = inner.get("metadata") or {}
        entries = {key.rpartition("/")[0]: described, **several}
        arrays = {name: one for name, one in entries.items() if isinstance(one, Mapping) and "shape" in one}
        long = any(
            len(_codecs(entry)) > _MOST_CODECS or len(entry["shape"]) > _MOST_DIMENSIONS for entry in arrays.values()
        )
        if len(several) > 2 * _MOST_ARRAYS or long:
            raise self._error(f"{key} declares over {_MOST_ARRAYS:,} arrays, or one of very many codecs or dimensions")
        for name, entry in arrays.items():
            _check_codecs(self.source, name, list(codec_names(_codecs(entry))))

    def _check_inflated(self, data: bytes, key: str, limit: _Limit) -> None:
        size = _inflated(limit.packing, data, limit.size)
        if size is None or size > limit.size:
            told = "does not say how much it holds" if size is None else f"would inflate to {size:,} bytes or more"
            raise self._error(f"{key} {told}; a chunk has {limit.size:,}")

    def _error(self, what: str) -> TrajectoryError:
        return TrajectoryError(f"{self.source}: {printable(what, 300)}. Ask for a netCDF file, or get the store again.")


def _is_chunk(key: str) -> bool:
    """Say whether a key is that of a chunk, in whatever way an array says that its keys are written."""
    return re.search(r"/c([/.]\d+)*$|/\d+([/.]\d+)*$", key) is not None


def _inflated(packing: str, data: bytes, most: int) -> int | None:
    """Return how many bytes a chunk inflates to; of streams that do not say it, no more than ``most`` are counted."""
    kind = packing.removeprefix("numcodecs.")
    if kind == "blosc":
        return int.from_bytes(data[4:8], "little") if len(data) >= 16 else None
    if kind == "lz4":
        return int.from_bytes(data[:4], "little") if len(data) >= 4 else None
    if kind == "zstd":
        return _zstd_size(data)
    size = 0
    while data:
        stream = zlib.decompressobj(47)  # zlib or gzip
        while not stream.eof and size <= most:
            part = stream.decompress(data, 2**20)
            size, data = size + len(part), stream.unconsumed_tail
            if not part and not stream.eof:
                return size if size > most else None  # it breaks off
        data = stream.unused_data if size <= most else b""
    return size


def _zstd_size(data: bytes) -> int | None:
    """Read the size of the content from the header of a zstd frame."""
    if len(data) < 6 or data[:4] != b"\x28\xb5\x2f\xfd":
        return None
    flags = data[4]
    single = bool(flags & 32)
    length = (int(single), 2, 4, 8)[flags >> 6]
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    if not length or len(data) < start + length:
        return None
    return int.from_bytes(data[start : start + length], "little") + (256 if length == 2 else 0)


# ---- what a store declares -------------------------------------------------------------------------------------


def check_root(store: CheckedStore) -> None:
    """Refuse a store with more arrays than a trajectory has, before all of them are looked at."""
    if store.folder is not None and any(count > _MOST_ARRAYS for count, _ in enumerate(store.folder.iterdir())):
        raise TrajectoryError(
            f"{store.source}: holds over {_MOST_ARRAYS:,} arrays, which no trajectory has. Ask for a netCDF file."
        )
    if store.folder is not None:
        store.opened = _Opened(store.folder)
    for key in ("zarr.json", ".zmetadata"):
        sync(store.get(key, default_buffer_prototype()))


def check_array(store: CheckedStore, name: str, array: zarr.Array[Any]) -> None:
    """Refuse codecs that are not known to be harmless, and sizes that would not fit into memory; note the limits."""
    codecs = list(codec_names(_codecs(array.metadata.to_dict())))
    _check_codecs(store.source, name, codecs)
    packing = [codec for codec in codecs if codec in _PACKING]
    if len(codecs) > _MOST_CODECS or len(packing) > 1:
        raise TrajectoryError(
            f"{store.source}: {name!r} is stored with {len(codecs)} codecs, {len(packing)} of which pack; at most "
            f"{_MOST_CODECS} are used, one of which packs. Ask for a netCDF file."
        )
    text = array.dtype.kind in "OTUS"
    size = math.prod(array.chunks) * array.dtype.itemsize
    count = math.prod(-(-n // chunk) for n, chunk in zip(array.shape, array.chunks, strict=True) if chunk)
    if size > _MOST_CHUNK or count > _MOST_CHUNKS or 0 in array.chunks:
        raise TrajectoryError(
            f"{store.source}: {name!r} declares the shape {array.shape} in chunks of {array.chunks}, more than is "
            "loaded at once. Ask for a netCDF file."
        )
    most = max(size, _MOST_TEXT) if text else 2 * size + 4096
    store.limits[name] = _Limit(most, packing[0] if packing else "")


def _check_codecs(source: str, name: str, codecs: Sequence[str]) -> None:
    unknown = [codec for codec in codecs if codec not in _CODECS]
    if unknown:
        raise TrajectoryError(
            f"{source}: {printable(name, 80)!r} is stored with the codec {printable(unknown[0], 80)!r}, which may be "
            f"unsafe in a file from elsewhere. Allowed: {', '.join(_CODECS)}. Ask for a netCDF file, or for a store "
            "written by lk.save."
        )


def check_labels(store: CheckedStore, arrays: Mapping[str, zarr.Array[Any]]) -> None:
    """Refuse labels that would take more memory than what is stored of them explains: they are loaded on opening."""
    labels = {name: array for name, array in arrays.items() if name in schema.COORDINATES or array.ndim <= 1}
    declared = sum(array.nbytes for array in labels.values())
    most = _LABELS
    if declared > most and store.folder is not None:
        files = (path for name in labels for path in (store.folder / name).rglob("*"))
        most = max(most, _LABEL_RATIO * sum(path.lstat().st_size for path in files))
    elif declared > most:
        most = _MOST_REMOTE_LABELS
    if declared > most:
        largest = max(labels, key=lambda name: labels[name].nbytes)
        raise TrajectoryError(
            f"{store.source}: {largest!r} declares the shape {labels[largest].shape}; the labels would take "
            f"{declared:,} bytes of memory, and at most {most:,} are loaded. Ask for a netCDF file."
        )


def _codecs(described: Mapping[str, Any]) -> list[Any]:
    """Return the codecs of an array, in version 2 of Zarr or 3."""
    return [*described.get("codecs", ()), *(described.get("filters") or ()), described.get("compressor")]


def codec_names(codecs: Iterable[Any]) -> Iterator[str]:
    """Yield the names of codecs, also of those inside others."""
    for codec in codecs:
        if isinstance(codec, Mapping):
            yield str(codec.get("name", codec.get("id")))
            inner: Any = codec.get("configuration") or {}
            yield from codec_names([*inner.get("codecs", ()), *inner.get("index_codecs", ())])
