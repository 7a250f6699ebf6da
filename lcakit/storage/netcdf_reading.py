"""netCDF-4 files as xarray shows them, read without the netCDF library: on disk and behind URLs.

What :func:`lcakit.storage.guard.check_file` found in a file is all that is needed: names, dimensions, attributes, and
where numbers lie. So nothing is asked of a library that knows one thread and one lock, and that trusts what it reads.
Attributes, dimensions and encodings are those that xarray gets from netCDF4-python, to be compared in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends.common import AbstractDataStore
from xarray.core.indexing import LazilyIndexedArray

from lcakit.storage.chunked import ChunkArray, Source, chunks_of
from lcakit.storage.guard import NOT_A_COORDINATE, check_file, reading
from lcakit.storage.guard.blocks import CorruptError
from lcakit.storage.guard.hdf5 import Stored, Structure
from lcakit.storage.guard.messages import NUMBERS, SEQUENCE, TEXT, Attribute
from lcakit.storage.local import LocalFile
from lcakit.storage.packed import DEFLATE, FLETCHER32, SHUFFLE
from lcakit.storage.range_file import RangeFile
from lcakit.storage.remote import Remote, downloaded
from lcakit.text import printable
from lcakit.trajectory import schema

__all__ = ["NetCDFStore", "open_local", "open_url"]


def __dir__() -> list[str]:
    return __all__


_UNLIMITED = 2**64 - 1
_HIDDEN = frozenset(
    ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties")
)
"""How HDF5 and netCDF note dimensions; not shown."""

_OTHER_FILTERS = dict.fromkeys(("szip", "zstd", "bzip2", "blosc"), False)

_TEXT_DTYPE = np.dtype("O", metadata={"element_type": str})
"""By this xarray knows text of any length."""


class NetCDFStore(AbstractDataStore):
    """A checked file, for xarray: ``xr.open_dataset(store, engine="store")``.

    Parameters
    ----------
    structure
        What the file holds.
    file
        Where its numbers are read.
    where
        Its name, for messages.
    small
        Where small variables are read, if elsewhere.

    Raises
    ------
    CorruptError
        For a variable that does not say its dimensions, or of a kind that netCDF has not.
    """

    def __init__(self, structure: Structure, file: Source, where: str, small: Source | None = None) -> None:
        self._structure, self._file, self._small, self._where = structure, file, small or file, where
        self._shown = {
            name.removeprefix(NOT_A_COORDINATE): stored
            for name, stored in structure.items()
            if "/" not in name and stored.is_variable
        }
        self._names = {stored.address: name for name, stored in structure.items()}
        scales = {
            name: stored for name, stored in structure.items() if {"CLASS", "_Netcdf4Dimid"} <= set(stored.attributes)
        }
        numbered = {_integers(stored, "_Netcdf4Dimid")[0]: name for name, stored in scales.items()}
        self._dims = {name: self._dims_of(name, stored, numbered) for name, stored in self._shown.items()}
        self._check_lengths()

    def _dims_of(self, name: str, stored: Stored, numbered: Mapping[int, str]) -> tuple[str, ...]:
        """Return the names of a variable's dimensions; those of a dimension's own variable are noted otherwise."""
        attributes = stored.attributes
        if not stored.shape:
            dims: tuple[str, ...] = ()
        elif "DIMENSION_LIST" in attributes:
            targets = (int.from_bytes(pointer, "little") for pointer in attributes["DIMENSION_LIST"].held)
            dims = tuple(self._names.get(target, "") for target in targets)
        elif "_Netcdf4Coordinates" in attributes:
            dims = tuple(numbered.get(number, "") for number in _integers(stored, "_Netcdf4Coordinates"))
        else:
            dims = (name,) if "CLASS" in attributes else ()
        if len(dims) != len(stored.shape) or "" in dims:
            raise CorruptError(f"{name!r} does not say what its dimensions are, so it is not a variable of netCDF")
        return dims

    def _check_lengths(self) -> None:
        """Refuse variables that are shorter than others along a dimension that grows."""
        sizes: dict[str, int] = {}
        for name, dims in self._dims.items():
            for dim, size in zip(dims, self._shown[name].shape, strict=True):
                sizes[dim] = max(size, sizes.get(dim, 0))
        for name, stored in self._shown.items():
            shape = tuple(sizes[dim] for dim in self._dims[name])
            if shape != stored.shape:
                raise CorruptError(f"{name!r} declares shape {shape}, but shape {stored.shape} is stored")

    def get_variables(self) -> Any:
        """Return the variables: text in memory, numbers not read yet."""
        return {name: self._variable(name, stored) for name, stored in self._shown.items()}

    def _variable(self, name: str, stored: Stored) -> xr.Variable:
        chunks = chunks_of(stored)
        data: Any
        if chunks is not None:
            file = self._small if len(stored.shape) < 2 or name in schema.COORDINATES else self._file
            data = LazilyIndexedArray(ChunkArray(file, chunks, f"{self._where}, {printable(name, 80)!r}"))
        elif stored.dtype.kind == SEQUENCE:
            texts = [_text(held) for held in stored.texts] or [""] * math.prod(stored.shape)
            data = np.array(texts, _TEXT_DTYPE).reshape(stored.shape)
        elif stored.data is not None and stored.dtype.kind in NUMBERS:
            data = np.frombuffer(stored.data, stored.dtype.number).reshape(stored.shape)
        else:
            raise CorruptError(f"{name!r} holds text of {stored.dtype.size} bytes each, which netCDF has not")
        attributes = _shown(stored.attributes)
        if data.dtype.kind == "S" and "_FillValue" in attributes:
            attributes["_FillValue"] = np.bytes_(attributes["_FillValue"])
        dims = self._dims[name]
        return xr.Variable(dims, data, attributes, self._encoding(stored, dims, attributes))

    def _encoding(self, stored: Stored, dims: tuple[str, ...], attributes: dict[str, Any]) -> dict[str, Any]:
        """Return how a variable is stored, in the words of netCDF4-python: one of them is an attribute."""
        levels = {step.number: step.settings for step in stored.filters}
        encoding: dict[str, Any] = {
            "dtype": str if stored.dtype.kind == SEQUENCE else np.dtype(stored.dtype.number or "S1"),
            "zlib": DEFLATE in levels,
            **_OTHER_FILTERS,
            "shuffle": SHUFFLE in levels,
            "complevel": (levels.get(DEFLATE) or (0,))[0],
            "fletcher32": FLETCHER32 in levels,
            "contiguous": stored.layout != "chunked",
            "chunksizes": stored.chunk if stored.layout == "chunked" else None,
        }
        if stored.layout == "chunked":
            encoding["preferred_chunks"] = dict(zip(dims, stored.chunk, strict=True))
        if "least_significant_digit" in attributes:
            encoding["least_significant_digit"] = attributes.pop("least_significant_digit")
        return encoding | {"source": self._where, "original_shape": stored.shape}

    def get_attrs(self) -> Any:
        """Return the attributes of the file."""
        return _shown(self._structure.attributes)

    def get_dimensions(self) -> Any:
        """Return the lengths of dimensions."""
        return {
            dim: size
            for name, dims in self._dims.items()
            for dim, size in zip(dims, self._shown[name].shape, strict=True)
        }

    def get_encoding(self) -> Any:
        """Return which dimensions may grow."""
        scales = {name: s for name, s in self._structure.items() if "/" not in name and "CLASS" in s.attributes}
        return {"unlimited_dims": {name for name, scale in scales.items() if _UNLIMITED in scale.limits[:1]}}

    def close(self) -> None:
        """Close the file."""
        close = getattr(self._file, "close", None)
        if close is not None:
            close()


def _opened(structure: Structure, file: Source, where: str, small: Source | None = None) -> xr.Dataset:
    """Open a checked file as it is: variables not decoded, and not read."""
    ds = xr.open_dataset(NetCDFStore(structure, file, where, small), engine="store", decode_cf=False)
    ds.encoding["source"] = where
    return ds


def open_local(path: Path, source: str = "") -> tuple[xr.Dataset, Structure]:
    """Check a file on disk, and open it as it is; return also what it holds.

    Parameters
    ----------
    source
        How to call it in messages; by default by its path.

    Raises
    ------
    TrajectoryError
        If it is damaged, or was overwritten while it is open.
    """
    source = source or str(path)
    file = LocalFile(str(path.resolve()))  # links and .. lead to the same file
    try:
        with file.handle() as handle:
            structure = check_file(source, handle)
        with reading(source):
            return _opened(structure, file, str(path.absolute())), structure
    except BaseException:
        file.close()
        raise


def open_url(url: str) -> tuple[xr.Dataset, Structure]:
    """Check a file behind a URL, and open it as it is, with small variables in memory; return also what it holds.

    Nothing of the structure is asked for again, so a server cannot change it later. Where the server sends no parts of
    files, all of it is downloaded first.

    Raises
    ------
    TrajectoryError
        If the server fails, or the file is damaged.
    """
    remote = Remote(url)
    if not remote.in_parts:
        return open_local(downloaded(url), url)
    file = RangeFile(remote)
    structure = check_file(url, file)  # type: ignore[arg-type]
    with reading(url):
        ds = _opened(structure, remote, url, small=file)
        for name, variable in ds.variables.items():
            if variable.ndim < 2 or name in schema.COORDINATES:
                variable.load()
    return ds, structure


# ---- attributes ------------------------------------------------------------------------------------------------


def _integers(stored: Stored, name: str) -> list[int]:
    attribute = stored.attributes[name]
    return [int(number) for number in np.frombuffer(attribute.value, attribute.dtype.number)]


def _shown(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    return {name: _value(attribute) for name, attribute in attributes.items() if name not in _HIDDEN}


def _value(attribute: Attribute) -> Any:
    """Return an attribute as netCDF4-python does: text, or a number, or several of them."""
    kind = attribute.dtype.kind
    if kind == TEXT:
        return attribute.value if attribute.name == "_FillValue" else _text(attribute.value)
    if kind == SEQUENCE:
        texts = [_text(held) for held in attribute.held]
        return texts[0] if len(texts) == 1 else texts
    numbers = np.frombuffer(attribute.value, attribute.dtype.number).astype(attribute.dtype.number[1:])
    return numbers[0] if numbers.size == 1 else numbers


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\0", "")
