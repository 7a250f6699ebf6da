"""A trajectory read without lcakit: bare, mapped, by the netCDF library, by hand. For ``lcakit bench analysis``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import netCDF4
import numpy as np
import xarray as xr

from lcakit.storage.checked import as_trajectory

__all__ = ["by_library", "help_hurt_zero", "memory_mapped", "sum_memory_map", "sum_sequentially", "tensor_sums"]


def __dir__() -> list[str]:
    return __all__


_WINDOW = 64, 262_144  # rows and columns of one sequential read


def sum_memory_map(path: Path) -> float:
    """Add up the bytes of a file as float32."""
    values = np.memmap(path, np.float32, mode="r", shape=(path.stat().st_size // 4,))
    step = _WINDOW[0] * _WINDOW[1]
    with np.errstate(all="ignore"):  # the file's own tables are not float32
        return float(sum(values[start : start + step].sum() for start in range(0, values.size, step)))


def sum_sequentially(path: Path) -> float:
    """Read and decode all of ``lca`` with the netCDF library, block by block."""
    total = 0.0
    with _lca(path) as variable:
        rows, columns = variable.shape
        for top in range(0, rows, _WINDOW[0]):
            for left in range(0, columns, _WINDOW[1]):
                total += float(variable[top : top + _WINDOW[0], left : left + _WINDOW[1]].sum())
    return total


def by_library(path: Path) -> xr.Dataset:
    """Open a trajectory as :func:`lcakit.open_trajectory` does, but read it by the netCDF C library through xarray."""
    return as_trajectory(xr.open_dataset(path, engine="netcdf4", decode_cf=False), str(path), check=False)


def memory_mapped(ds: xr.Dataset, variable: str, path: Path) -> xr.Dataset:
    """Write the numbers of a variable to a file; return the trajectory with a memory map of it, in the same blocks."""
    lazy = ds[variable]
    numbers = np.lib.format.open_memmap(path, "w+", lazy.dtype, lazy.shape)
    for top in range(0, len(numbers), _WINDOW[0]):
        numbers[top : top + _WINDOW[0]] = lazy[top : top + _WINDOW[0]].values
    numbers.flush()
    blocks = da.from_array(np.load(path, mmap_mode="r"), chunks=lazy.chunks, name=False, asarray=True)
    return ds.assign({variable: (lazy.dims, blocks, lazy.attrs)})


def help_hurt_zero(path: Path) -> np.ndarray:
    """Return the fractions of parameters that help, hurt and do neither, (T, 3)."""
    rows = [np.stack([(lca < 0).mean(1), (lca > 0).mean(1), (lca == 0).mean(1)], axis=1) for lca in _rows(path)]
    return np.concatenate(rows)


def tensor_sums(path: Path) -> np.ndarray:
    """Return the LCA of each tensor (T, tensors); where all tensors are kernels, these are the layers."""
    with netCDF4.Dataset(path) as file:
        offsets = [*file["tensor_offset"][:].tolist(), file["lca"].shape[1]]
    columns = [slice(*ends) for ends in itertools.pairwise(offsets)]
    return np.concatenate([np.stack([lca[:, c].sum(1) for c in columns], axis=1) for lca in _rows(path)])


def _rows(path: Path) -> Iterator[np.ndarray]:
    with _lca(path) as variable:
        for top in range(0, len(variable), _WINDOW[0]):
            yield variable[top : top + _WINDOW[0]]


@contextmanager
def _lca(path: Path) -> Iterator[Any]:
    with netCDF4.Dataset(path) as file:
        variable = file["lca"]
        variable.set_auto_maskandscale(False)
        yield variable
