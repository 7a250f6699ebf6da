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

from lcakit.errors import TrajectoryError
from lcakit.storage.guard.blocks import CorruptError, OtherFormatError
from lcakit.text import printable

__all__ = ["lazily", "reading"]


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
