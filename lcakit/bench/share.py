"""How small a compact copy is, by the order of its numbers and the level of zlib: ``lcakit bench share``."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from lcakit.bench.machine import machine
from lcakit.errors import DataError
from lcakit.sharing.copies import CHUNK_ENTRIES, CHUNK_ROWS, KEEPBITS, LEVEL, ROUNDED
from lcakit.sharing.rounding import rounded
from lcakit.storage.opening import open_trajectory
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import build_dataset

__all__ = ["Form", "run", "to_text"]


def __dir__() -> list[str]:
    return __all__


_VARIABLES = ("theta", "gradient", "lca")
_COLUMNS, _PIECES = 8_192, 8  # parameters that are measured, and places they are taken from
_ITERATIONS = 880


@dataclass(frozen=True)
class Form:
    """A way to store a variable: with time last or first, rows and entries of a chunk, the level of zlib."""

    name: str
    time_last: bool
    rows: int
    level: int
    shuffle: bool = True


_FORMS = (
    Form("as recorded, level 1", False, 64, 1),
    Form("as recorded", False, 64, LEVEL),
    Form("time last, no shuffle", True, CHUNK_ROWS, LEVEL, False),
    Form("time last, level 1", True, CHUNK_ROWS, 1),
    Form("time last (lk.share)", True, CHUNK_ROWS, LEVEL),
    Form("time last, level 6", True, CHUNK_ROWS, 6),
    Form("whole series", True, 2**20, LEVEL),
)


def run(file: str | os.PathLike[str] | None = None, scale: float = 1.0, directory: str | None = None) -> dict[str, Any]:
    """Store a sample of a trajectory in several forms; report how much smaller and how fast.

    Parameters
    ----------
    file
        A recorded trajectory; some of its parameters are taken. By default a synthetic one: noise that is smoothed as
        by momentum, which packs better than the real thing.
    scale
        Size of the synthetic one against 880 iterations × 8 192 parameters.
    directory
        Folder for the files, which are removed at the end.

    Returns
    -------
    dict
        ``machine``, sizes, and for each form ``ratio`` (by variable, and of all) to raw float32, and
        ``megabytes_per_second`` of the numbers, written and read. Gradient and LCA are rounded as ``lk.share`` does.
    """
    if not 0 < scale <= 100:
        raise DataError(f"scale must be between 0 and 100, got {scale}")
    if file is None:
        sample = _sample(_synthetic(max(50, round(_ITERATIONS * scale)), _COLUMNS))
    else:
        with open_trajectory(file) as ds:
            sample = _sample(ds)
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        forms = {form.name: _measure(sample, form, Path(folder)) for form in _FORMS}
    rows, columns = next(iter(sample.values())).shape
    return {
        "machine": machine(),
        "source": "synthetic" if file is None else os.fspath(file),
        "iterations": rows,
        "parameters": columns,
        "keepbits": KEEPBITS,
        "forms": forms,
    }


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    names = [name for name in _VARIABLES if name in next(iter(result["forms"].values()))["ratio"]]
    lines = [
        f"{result['machine']['cpu']}, {result['machine']['cores']} cores",
        f"{result['source']}: {result['iterations']} iterations × {result['parameters']} parameters, "
        f"{result['keepbits']} bits of the mantissa; times smaller than raw float32",
        f"{'':24}{'all':>8}{''.join(f'{name:>10}' for name in names)}{'write MB/s':>12}{'read MB/s':>12}",
    ]
    for form, found in result["forms"].items():
        ratios = "".join(f"{found['ratio'][name]:10.2f}" for name in names)
        speed = found["megabytes_per_second"]
        lines.append(f"{form:24}{found['ratio']['all']:8.2f}{ratios}{speed['write']:12.0f}{speed['read']:12.0f}")
    return "\n".join(lines)


def _synthetic(iterations: int, parameters: int) -> xr.Dataset:
    rng = np.random.default_rng(0)
    strength = 10.0 ** rng.uniform(-7, -3, parameters)
    gradient = np.zeros((iterations + 1, parameters))
    for t in range(iterations):
        gradient[t + 1] = 0.97 * gradient[t] + rng.normal(size=parameters) * strength
    move = -0.1 * gradient
    theta = rng.normal(size=parameters) * 0.1 + np.cumsum(move, axis=0)
    table = Labels((TensorSpec("fc.weight", (parameters,), "kernel", "fc", "linear"),))
    steps = {"snapshot": np.arange(iterations + 1), "iteration": np.arange(iterations)}
    coords = table.coords() | {name: ((name,), values) for name, values in steps.items()}
    lca = (gradient[:-1] + gradient[1:]) / 2 * move[1:]
    return build_dataset(coords, {"theta": theta, "gradient": gradient, "lca": lca})


def _sample(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """Return some columns of each variable, rounded as in a copy."""
    names = [name for name in _VARIABLES if name in ds]
    if not names:
        raise DataError(f"the trajectory has none of {', '.join(_VARIABLES)}, so nothing to measure")
    width = min(_COLUMNS, ds.sizes["parameter"]) // _PIECES or 1
    starts = np.linspace(0, ds.sizes["parameter"] - width, _PIECES).astype(int)
    rows = min(ds.sizes["iteration"], _ITERATIONS)
    out = {}
    for name in names:
        array = ds[name].transpose(..., "parameter")
        parts = [np.asarray(array[:rows, start : start + width].values, np.float32) for start in starts]
        values = np.concatenate(parts, axis=1)
        out[name] = rounded(values, KEEPBITS) if name in ROUNDED else values
    return out


def _measure(sample: dict[str, np.ndarray], form: Form, folder: Path) -> dict[str, Any]:
    path, sizes = folder / "sample.nc", {}
    written = read = 0.0
    for name, values in sample.items():
        began = time.perf_counter()
        _write(path, values.T if form.time_last else values, form)
        middle = time.perf_counter()
        with netCDF4.Dataset(path) as file:
            file["x"].set_auto_maskandscale(False)
            file["x"][:]
        written, read = written + middle - began, read + time.perf_counter() - middle
        sizes[name] = path.stat().st_size
    total = sum(values.nbytes for values in sample.values())
    ratio = {name: values.nbytes / sizes[name] for name, values in sample.items()}
    return {
        "ratio": {"all": total / sum(sizes.values()), **ratio},
        "megabytes_per_second": {"write": total / written / 1e6, "read": total / read / 1e6},
    }


def _write(path: Path, values: np.ndarray, form: Form) -> None:
    time_axis = 1 if form.time_last else 0
    rows = min(form.rows, values.shape[time_axis])
    others = min(max(1, CHUNK_ENTRIES // rows), values.shape[1 - time_axis])
    chunk = (others, rows) if form.time_last else (rows, others)
    with netCDF4.Dataset(path, "w") as file:
        for name, size in zip("ab", values.shape, strict=True):
            file.createDimension(name, size)
        options: dict[str, Any] = {"compression": "zlib", "complevel": form.level, "shuffle": form.shuffle}
        file.createVariable("x", "f4", ("a", "b"), chunksizes=chunk, **options)[:] = values
