"""Data for the tests of distributions of LCA: arrays of any floats as trajectories, in any chunks."""

from __future__ import annotations

import numpy as np
import xarray as xr
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import build_dataset

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 2.0, 1.4e-45, -1.4e-45, 2.0**-126, -(2.0**-127), 3.4028234663852886e38]
)
VALUES = hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 8)), elements=FLOATS)
SIZES = st.none() | st.tuples(st.integers(1, 12), st.integers(1, 8))


def dataset(values: np.ndarray) -> xr.Dataset:
    """A trajectory of one tensor with the given LCA (iteration, parameter)."""
    n, k = values.shape
    coords = Labels((TensorSpec("w", (k,), "bias", "w"),)).coords() | {"iteration": (("iteration",), np.arange(n))}
    return build_dataset(coords, {"lca": values})


def chunked(values: np.ndarray, sizes: tuple[int, int] | None) -> xr.Dataset:
    ds = dataset(values)
    return ds if sizes is None else ds.chunk(iteration=sizes[0], parameter=sizes[1])


def as_counts(h: xr.Dataset) -> dict[tuple[str, float], int]:
    count = h["count"].values
    return {
        (str(h["outcome"].values[o]), float(h["left"].values[b])): int(count[o, b]) for o, b in np.argwhere(count > 0)
    }
