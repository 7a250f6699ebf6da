"""Reading later: whatever goes wrong when a block is read says which file it was, and where."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from lcakit.errors import TrajectoryError
from lcakit.storage.guard.blocks import CorruptError, OtherFormatError
from lcakit.text import printable

__all__ = ["as_type", "column", "lazily", "reading"]


def __dir__() -> list[str]:
    return __all__


_FAILURES = (
    CorruptError,
    OSError,
    RuntimeError,  # also the netCDF library's own errors, and nesting that is too deep
    ValueError,  # also text that cannot be decoded
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,  # from the header of an array
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""Everything that reading a damaged file is known to raise."""


@contextmanager
def reading(where: object, remedy: str = "Get the file again, or record it again.") -> Iterator[None]:
    """Raise what goes wrong inside as a TrajectoryError that names the file."""
    try:
        yield
    except TrajectoryError:
        raise
    except OtherFormatError as error:
        raise TrajectoryError(f"{where}: {printable(error, 600)}.") from error
    except MemoryError as error:
        raise TrajectoryError(f"{where}: there is not enough memory to read it. Close what else is open.") from error
    except _FAILURES as error:
        why = printable(error, 400) or type(error).__name__
        raise TrajectoryError(f"{where}: damaged, or not what it claims to be: {why}. {remedy}") from error


class _FileArray:
    """A variable of an open file: reads what it is asked for, and tells what could not be read, and where."""

    def __init__(self, variable: xr.Variable, where: str) -> None:
        self._variable, self._where = variable, where
        self.shape, self.dtype, self.ndim = variable.shape, variable.dtype, variable.ndim

    def __getitem__(self, key: Any) -> np.ndarray:
        with reading(self._where):
            return np.asarray(self._variable[key].values)


def lazily(variable: xr.Variable, chunks: dict[str, int], where: str) -> xr.Variable:
    """Return a variable of an open file as a Dask array, in chunks by dimension."""
    sizes = tuple(chunks.get(str(dim), -1) for dim in variable.dims)
    array = da.from_array(
        _FileArray(variable, where),
        chunks=sizes,
        name=False,
        meta=np.empty((0,) * variable.ndim, variable.dtype),
    )
    return xr.Variable(variable.dims, array, variable.attrs, variable.encoding)


class _FileColumn(BackendArray):
    """A column of whole numbers of an open file, for xarray, in the type that the format has for it."""

    def __init__(self, variable: xr.Variable, dtype: np.dtype[Any], where: str) -> None:
        self._variable, self._where = variable, where
        self.shape, self.dtype = variable.shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        with reading(self._where):
            return as_type(self._variable[key].values, self.dtype, self._where)


def column(variable: xr.Variable, dtype: np.dtype[Any], where: str) -> xr.Variable:
    """Return a column of an open file that is read, each time anew, where it is used."""
    array = indexing.LazilyIndexedArray(_FileColumn(variable, dtype, where))
    return xr.Variable(variable.dims, array, variable.attrs, variable.encoding)


def as_type(values: np.ndarray, dtype: np.dtype[Any], where: str) -> np.ndarray:
    """Return whole numbers in another type.

    Raises
    ------
    ValueError
        If they do not fit.
    """
    out = values.astype(dtype, copy=False)
    if out is not values and not np.array_equal(out, values):
        raise ValueError(f"{where} holds numbers that do not fit into {dtype.kind}{dtype.itemsize}")
    return out
