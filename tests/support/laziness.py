"""Shared by the analysis tests: nothing may be computed before it is asked for; one dataset in any chunks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dask
import numpy as np
import xarray as xr
from hypothesis import strategies as st

from lcakit.testing import chunked


@contextmanager
def nothing_computed() -> Iterator[None]:
    """Fail if Dask computes anything inside."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed early")

    with dask.config.set(scheduler=refuse):
        yield


def any_chunks() -> st.SearchStrategy[dict[str, int] | None]:
    """Chunk sizes for every dimension, or None for NumPy.

    Small in iterations or in parameters: small in both would be hundreds of blocks that tell no more, at 0.1 ms each.
    """
    small, large = st.integers(2, 70), st.integers(8, 70)
    others = {"unit": small, "class": small}
    short = st.fixed_dictionaries({"iteration": small, "snapshot": small, "parameter": large, **others})
    narrow = st.fixed_dictionaries({"iteration": large, "snapshot": large, "parameter": small, **others})
    return st.none() | short | narrow


def rechunked(ds: xr.Dataset, chunks: dict[str, int] | None) -> xr.Dataset:
    return ds if chunks is None else chunked(ds, chunks)


def is_lazy(result: xr.DataArray) -> bool:
    return result.chunks is not None


def two_runs(ds: xr.Dataset, other: xr.Dataset) -> xr.Dataset:
    """Join two runs as lk.open_runs does."""
    return xr.concat(
        [ds, other],
        dim=xr.DataArray(["x", "y"], dims="run", name="run"),
        data_vars="all",
        coords="minimal",
        compat="override",
    )


def loop_sums(values: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """Slow twin of sum_by: add one column at a time, in float64."""
    out: dict[str, np.ndarray] = {}
    for column, name in zip(np.moveaxis(values.astype(np.float64), -1, 0), names, strict=True):
        out[name] = out.get(name, 0.0) + column
    return out
