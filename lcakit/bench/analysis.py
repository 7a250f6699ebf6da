"""How close the analysis functions come to the speed of reading the file: ``lcakit bench analysis``."""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lcakit.analysis import (
    correlation,
    freezing,
    layerwise,
    noise,
    oscillation,
    ranking,
    synchronization,
    tails,
    windows,
)
from lcakit.analysis.aggregate import rms_lca, window_lca
from lcakit.analysis.computing import compute
from lcakit.bench import reading
from lcakit.bench.machine import machine, peak_memory
from lcakit.errors import DataError
from lcakit.storage import opening, saving
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import build_dataset

__all__ = ["Study", "run", "to_text"]


def __dir__() -> list[str]:
    return __all__


_ITERATIONS, _PARAMETERS = 5_000, 273_066  # ResNet-20 of the paper
_BOUND = 0.5  # streaming studies: at least this share of the sequential reading speed
_MEMORY_BOUND = 2**30
_UNITS, _TAPS = 16, 9

Study = Callable[[xr.Dataset], Any]

# Studies that need each number once, as it comes past: these have a bound.
_STREAMING: dict[str, Study] = {
    "help, hurt, zero": noise.help_hurt_zero,
    "layer LCA": layerwise.layer_lca,
    "iterations helped": noise.iterations_helped,
    "weight turns": oscillation.weight_turns,
    "histogram": tails.histogram,
}
_OTHERS: dict[str, Study] = {
    "fraction helping by unit": lambda ds: noise.fraction_helping(ds, "unit"),
    "RMS LCA": rms_lca,
    "windows of 10, helping": lambda ds: windows.helping_by_window(ds, [10]),
    "windows of 500": lambda ds: window_lca(ds, max(1, ds.sizes["iteration"] // 10)).sum("parameter"),
    "argmin of each parameter": lambda ds: freezing.argmin_iteration(ds, "parameter"),
    "extremes": lambda ds: ranking.extremes(ds, "parameter"),
    "excess kurtosis": tails.excess_kurtosis,
    "tail share": tails.tail_share,
    "synchronization": lambda ds: synchronization.synchronization_test(ds, classes=False, trials=100),
    "correlation in a layer": lambda ds: correlation.correlation_test(ds, str(ds["layer"].values[0])),
}
_BY_HAND: dict[str, Callable[[Path], object]] = {
    "help, hurt, zero, by hand": reading.help_hurt_zero,
    "layer LCA, by hand": reading.tensor_sums,
}
_BYTES_OF = {"weight turns": "theta"}  # what a study reads, where it is not lca


def run(scale: float = 1.0, repeats: int = 3, directory: str | None = None) -> dict[str, Any]:
    """Write a synthetic trajectory, and time each study on it and on all at once.

    Parameters
    ----------
    scale
        Size against 5 000 iterations × 273 066 parameters; both are scaled by its root. At 1 the file has 11.1 GB.
    repeats
        Measurements of each, in turns; medians are reported.
    directory
        Folder for the file, which is removed at the end; by default one for temporary files.

    Returns
    -------
    dict
        ``machine``, sizes, ``gigabytes_per_second`` (of the variable read) and ``peak_bytes`` by study; ``memory map``
        is a plain NumPy sum over the bytes of the file, ``sequential`` reading and decoding all of ``lca`` with the
        netCDF library, block by block, in one thread; ``…, by hand`` a plain loop of netCDF and NumPy for the study of
        that name. Peaks are anonymous memory of the whole process.
    """
    if not 0 < scale <= 100 or repeats < 1:
        raise DataError(f"scale must be between 0 and 100 and repeats at least 1, got {scale} and {repeats}")
    root = scale**0.5
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        path = Path(folder) / "synthetic.nc"
        ds = _synthetic(max(200, round(_ITERATIONS * root)), max(2_000, round(_PARAMETERS * root)))
        saving.save(ds, path, quiet=False)
        with opening.open_trajectory(path) as ds:
            return _measure(ds, path, repeats)


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    here, speed, peak = result["machine"], result["gigabytes_per_second"], result["peak_bytes"]
    floor = speed["sequential"]
    lines = [
        f"{here['cpu']}, {here['cores']} cores; numpy {here['numpy']}, dask {here['dask']}",
        f"{result['iterations']} iterations × {result['parameters']} parameters, {result['file_bytes'] / 1e9:.1f} GB; "
        f"medians of {result['repeats']} repeats",
        f"{'':28}{'GB/s':>8}{'/ sequential':>14}{'/ memory map':>14}{'peak MiB':>10}",
    ]
    for name, value in speed.items():
        verdict = ""
        if name in _STREAMING:
            slow, large = value < _BOUND * floor, peak[name] > _MEMORY_BOUND
            verdict = "  " + ("within the bounds" if not (slow or large) else "BEYOND the bounds")
        ratios = f"{value / floor:14.2f}{value / speed['memory map']:14.2f}"
        lines.append(f"{name:28}{value:8.2f}{ratios}{peak[name] / 2**20:10.0f}{verdict}")
    lines.append(f"bounds of streaming studies: {_BOUND} of sequential reading, {_MEMORY_BOUND / 2**20:.0f} MiB")
    return "\n".join(lines)


# ---- the trajectory -------------------------------------------------------------------------------------------------


def _synthetic(iterations: int, parameters: int) -> xr.Dataset:
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


# ---- measuring -------------------------------------------------------------------------------------------------------


def _measure(ds: xr.Dataset, path: Path, repeats: int) -> dict[str, Any]:
    contenders: dict[str, tuple[int, Callable[[], object]]] = {
        "memory map": (path.stat().st_size, lambda: reading.sum_memory_map(path)),
        "sequential": (ds["lca"].nbytes, lambda: reading.sum_sequentially(path)),
    }
    contenders |= {name: (ds["lca"].nbytes, functools.partial(study, path)) for name, study in _BY_HAND.items()}
    for name, study in (_STREAMING | _OTHERS).items():
        contenders[name] = (ds[_BYTES_OF.get(name, "lca")].nbytes, _timed(study, ds))
    together = [study(ds) for study in _STREAMING.values()]
    contenders["streaming, together"] = (ds["lca"].nbytes + ds["theta"].nbytes, lambda: compute(together, quiet=True))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    peaks: dict[str, int] = {}
    for turn in range(repeats + 1):  # the first turn warms the page cache
        for name, (_, work) in contenders.items():
            with peak_memory() as peak:
                began = time.perf_counter()
                work()
                taken = time.perf_counter() - began
            peaks[name] = max(peaks.get(name, 0), peak[0])
            if turn:
                seconds[name].append(taken)
    speed = {name: n / statistics.median(seconds[name]) / 1e9 for name, (n, _) in contenders.items()}
    return {
        "machine": {
            **machine(),
            "numpy": np.__version__,
            "dask": version("dask"),
        },
        "iterations": ds.sizes["iteration"],
        "parameters": ds.sizes["parameter"],
        "file_bytes": path.stat().st_size,
        "repeats": repeats,
        "gigabytes_per_second": speed,
        "peak_bytes": peaks,
        "bound": _BOUND,
        "memory_bound": _MEMORY_BOUND,
    }


def _timed(study: Study, ds: xr.Dataset) -> Callable[[], object]:
    return lambda: compute(study(ds), quiet=True)
