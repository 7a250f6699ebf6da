"""A made-up trajectory of any size, without a network: what benchmarks of reading run on."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import build_dataset

__all__ = ["trajectory"]


def __dir__() -> list[str]:
    return __all__


_UNITS, _TAPS = 16, 9


def trajectory(iterations: int, parameters: int) -> xr.Dataset:
    """Return random walks whose LCA has heavy tails and a fifth of zeros; lazy."""
    table = Labels(_tensors(parameters))
    rows, columns = 64, 65_536
    options = {"dtype": np.float32, "meta": np.empty((0, 0), np.float32)}

    def array(n: int, kind: str) -> da.Array:
        empty = da.empty((n, parameters), chunks=(rows, columns), dtype=np.float32)
        filled: da.Array = empty.map_blocks(_random_block, kind=kind, **options)
        return filled

    steps = {"snapshot": np.arange(iterations + 1), "iteration": np.arange(iterations)}
    coords = table.coords() | {name: ((name,), values) for name, values in steps.items()}
    return build_dataset(coords, {"theta": array(iterations + 1, "theta"), "lca": array(iterations, "lca")})


def _random_block(block: np.ndarray, kind: str, block_info: Any = None) -> np.ndarray:
    place = block_info[0]["chunk-location"] if block_info else (0, 0)
    rng = np.random.default_rng([*place, kind == "lca"])
    values = rng.standard_normal(block.shape, np.float32)
    if kind == "theta":
        return values
    values *= np.float32(1e-6) * values**2
    values[:, ::5] = 0
    return values


def _tensors(parameters: int) -> tuple[TensorSpec, ...]:
    """Return some twenty convolutions of growing width, and a last kernel that takes what is left."""
    specs, left, k = [], parameters, 0
    share = parameters // 22
    while left > 2 * share:
        inputs = max(1, share // (_UNITS * _TAPS))
        specs.append(TensorSpec(f"conv{k}.weight", (_UNITS, inputs, 3, 3), "kernel", f"conv{k}", "conv2d"))
        left -= specs[-1].size
        k += 1
    specs.append(TensorSpec("fc.weight", (1, left), "kernel", "fc", "linear"))
    return tuple(specs)
