"""How close the analysis functions come to the speed of memory: ``lcakit bench analysis``."""

from __future__ import annotations

import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
from lcakit.bench import reading, synthetic
from lcakit.bench.machine import machine, peak_memory
from lcakit.bench.timing import Work
from lcakit.errors import DataError
from lcakit.storage import opening, saving

__all__ = ["Study", "run", "to_text"]


def __dir__() -> list[str]:
    return __all__


_ITERATIONS, _PARAMETERS = 5_000, 273_066  # ResNet-20 of the paper
_PACKED_SHARE = 20  # of the iterations are in the packed file: zlib writes slowly
_BOUNDS = {"memory map": 0.5, "C library": 1.6}
_PACKED_BOUND, _SLICE_BOUND = 1.7, 1.0
_MEMORY_BOUND = 2**30
_OTHER_WAYS = ("memory map", "C library")

Study = Callable[[xr.Dataset], Any]

# Studies that need each number once, as it comes past: these have a bound.
_STREAMING: dict[str, Study] = {
    "help, hurt, zero": noise.help_hurt_zero,
    "layer LCA": layerwise.layer_lca,
    "iterations helped": noise.iterations_helped,
    "histogram": tails.histogram,
    "weight turns": oscillation.weight_turns,
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
_SLICES = {"one parameter": "parameter", "one iteration": "iteration"}
_STEP = 7_919  # a prime: from one place of a slice to the next, so that nothing finds the last one's chunk
_PACKED = "help, hurt, zero, zlib"


def run(scale: float = 1.0, repeats: int = 3, directory: str | None = None) -> dict[str, Any]:
    """Write a synthetic trajectory, and time each study on it and on all at once.

    Parameters
    ----------
    scale
        Size against 5 000 iterations × 273 066 parameters; both are scaled by its root. At 1 the file has 11.1 GB, and
        its numbers for the memory map 5.5 GB more.
    repeats
        Measurements of each, in turns; medians are reported.
    directory
        Folder for the files, which are removed at the end; by default one for temporary files.

    Returns
    -------
    dict
        ``machine``, sizes, and by study ``gigabytes_per_second`` (of the variable read) and, of ours, ``peak_bytes`` of
        anonymous memory of the whole process. ``memory map`` is a plain NumPy sum over the bytes of the file,
        ``sequential`` reading and decoding all of ``lca`` with the netCDF library, block by block, in one thread;
        ``…, by hand`` a plain loop of netCDF and NumPy for the study of that name. ``ratios`` compares the speed of a
        study with that of the same study, with the same kernels and blocks, on a NumPy memory map of its numbers and
        on a file opened by the netCDF C library through xarray; ``processor_ratios`` the same by processor time. Both
        are medians over pairs that ran one after the other.

    Raises
    ------
    DataError
        For a scale outside 0 … 100 or fewer than one repeat.
    """
    if not 0 < scale <= 100 or repeats < 1:
        raise DataError(f"scale must be between 0 and 100 and repeats at least 1, got {scale} and {repeats}")
    root = scale**0.5
    iterations, parameters = max(200, round(_ITERATIONS * root)), max(2_000, round(_PARAMETERS * root))
    taken = _Taken()
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        path, packed = Path(folder) / "synthetic.nc", Path(folder) / "packed.nc"
        saving.save(synthetic.trajectory(iterations, parameters), path, quiet=False)
        few = max(100, iterations // _PACKED_SHARE)
        saving.save(synthetic.trajectory(few, parameters), packed, quiet=False, compression="zlib")
        size = path.stat().st_size
        with opening.open_trajectory(path) as ds:
            own = {name: _work(study, ds, _BYTES_OF.get(name, "lca")) for name, study in (_STREAMING | _OTHERS).items()}
            own["streaming, together"] = _all_together(ds)
            for name, (_, work) in own.items():
                taken.watch(name, work)
            taken.in_turns(_floors(path, ds) | {name: own[name] for name in own if name not in _STREAMING}, repeats)
            with closing(reading.by_library(path)) as library:
                _time_streaming(taken, ds, library, Path(folder), repeats)
                for name, dim in _SLICES.items():
                    ways = {"": ds, "C library": library}
                    taken.in_turns({_named(name, way): _slices(of, dim) for way, of in ways.items()}, repeats)
        taken.in_turns(_packed(packed), repeats)
    return {
        "machine": {**machine(), "numpy": np.__version__, "dask": version("dask")},
        "iterations": iterations,
        "parameters": parameters,
        "file_bytes": size,
        "repeats": repeats,
        "gigabytes_per_second": taken.speeds(),
        "seconds": {name: statistics.median(taken.seconds[name]) for name in taken.seconds},
        "ratios": taken.ratios(taken.seconds),
        "processor_ratios": taken.ratios(taken.processor),
        "peak_bytes": taken.peaks,
        "bounds": {**_BOUNDS, "zlib": _PACKED_BOUND, "slices": _SLICE_BOUND},
        "memory_bound": _MEMORY_BOUND,
    }


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    here, speed, peak = result["machine"], result["gigabytes_per_second"], result["peak_bytes"]
    lines = [
        f"{here['cpu']}, {here['cores']} cores; numpy {here['numpy']}, dask {here['dask']}",
        f"{result['iterations']} iterations × {result['parameters']} parameters, {result['file_bytes'] / 1e9:.1f} GB; "
        f"medians of {result['repeats']} repeats; ratios of speed, in brackets by processor time",
        f"{'':28}{'GB/s':>8}{'/ memory map':>16}{'/ C library':>16}{'peak MiB':>10}",
    ]
    for name, value in speed.items():
        if name.endswith(_OTHER_WAYS) and name != "memory map":
            continue
        found, processor = result["ratios"].get(name, {}), result["processor_ratios"].get(name, {})
        cells = [f"{found[way]:.2f} ({processor[way]:.2f})" if way in found else "" for way in _OTHER_WAYS]
        line = f"{name:28}{value:8.2f}{cells[0]:>16}{cells[1]:>16}"
        line += f"{peak[name] / 2**20:10.0f}" if name in peak else " " * 10
        lines.append(f"{line}{_verdict(name, result)}".rstrip())
    lines.append(
        f"bounds: streaming studies {_BOUNDS['memory map']} of a memory map, {_BOUNDS['C library']} × the C library, "
        f"{_MEMORY_BOUND / 2**20:.0f} MiB; packed files {_PACKED_BOUND} ×, slices {_SLICE_BOUND:.0f} × the C library"
    )
    return "\n".join(lines)


def _verdict(name: str, result: dict[str, Any]) -> str:
    """Say whether a study is within its bounds; nothing where it has none."""
    if name in _STREAMING:
        bounds = _BOUNDS
    elif name == _PACKED or name in _SLICES:
        bounds = {"C library": _PACKED_BOUND if name == _PACKED else _SLICE_BOUND}
    else:
        return ""
    missed = [way for way, bound in bounds.items() if result["ratios"][name][way] < bound]
    missed += ["memory"] * (result["peak_bytes"].get(name, 0) > _MEMORY_BOUND)
    return f"  BEYOND the bounds: {', '.join(missed)}" if missed else "  within the bounds"


# ---- what is timed ---------------------------------------------------------------------------------------------------


def _floors(path: Path, ds: xr.Dataset) -> dict[str, tuple[int, Work]]:
    size = ds["lca"].nbytes
    floors: dict[str, tuple[int, Work]] = {
        "memory map": (path.stat().st_size, lambda: reading.sum_memory_map(path)),
        "sequential": (size, lambda: reading.sum_sequentially(path)),
    }
    return floors | {name: (size, functools.partial(study, path)) for name, study in _BY_HAND.items()}


def _time_streaming(taken: _Taken, ds: xr.Dataset, library: xr.Dataset, folder: Path, repeats: int) -> None:
    """Time the streaming studies of one variable after the other, so that the page cache holds one of them twice."""
    for variable in ("lca", "theta"):
        with _mapped(ds, variable, folder) as mapped:
            for name, study in _STREAMING.items():
                if _BYTES_OF.get(name, "lca") == variable:
                    ways = {"": ds, "memory map": mapped, "C library": library}
                    taken.in_turns(_ways(name, study, ways), repeats)


@contextmanager
def _mapped(ds: xr.Dataset, variable: str, folder: Path) -> Iterator[xr.Dataset]:
    """Give a trajectory one variable of which is a NumPy memory map of its numbers."""
    path = folder / f"{variable}.npy"
    try:
        yield reading.memory_mapped(ds, variable, path)
    finally:
        path.unlink()


def _ways(name: str, study: Study, ways: Mapping[str, xr.Dataset]) -> dict[str, tuple[int, Work]]:
    """Return a study by each way of reading, the first of which is ours."""
    return {_named(name, way): _work(study, ds, _BYTES_OF.get(name, "lca")) for way, ds in ways.items()}


def _named(name: str, way: str) -> str:
    return f"{name}, {way}" if way else name


def _work(study: Study, ds: xr.Dataset, variable: str) -> tuple[int, Work]:
    return ds[variable].nbytes, lambda: compute(study(ds), quiet=True)


def _slices(ds: xr.Dataset, dim: str) -> tuple[int, Work]:
    """Return the reading of one slice after the other."""
    size, numbers = ds.sizes[dim], itertools.count(1)
    return ds["lca"].nbytes // size, lambda: compute(ds["lca"].isel({dim: next(numbers) * _STEP % size}), quiet=True)


def _packed(path: Path) -> dict[str, tuple[int, Work]]:
    """Return a study of a packed file, which is opened each time: the C library keeps chunks that it has unpacked."""

    def work(opened: Callable[[Path], xr.Dataset]) -> None:
        with opened(path) as ds:
            compute(noise.help_hurt_zero(ds), quiet=True)

    with opening.open_trajectory(path) as ds:
        size = ds["lca"].nbytes
    ways = {"": opening.open_trajectory, "C library": reading.by_library}
    return {_named(_PACKED, way): (size, functools.partial(work, opened)) for way, opened in ways.items()}


def _all_together(ds: xr.Dataset) -> tuple[int, Work]:
    size = ds["lca"].nbytes + ds["theta"].nbytes
    return size, lambda: compute([study(ds) for study in _STREAMING.values()], quiet=True)


@dataclass
class _Taken:
    """What each contender took: by name, one number a repeat."""

    sizes: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)

    def watch(self, name: str, work: Work) -> None:
        """Do work once, to see its memory: before the C library is used, which keeps some."""
        with peak_memory() as peak:
            work()
        self.peaks[name] = peak[0]

    def in_turns(self, contenders: Mapping[str, tuple[int, Work]], repeats: int) -> None:
        """Time contenders in turns, after one turn that is not timed: it fills the page cache."""
        for turn in range(repeats + 1):
            for name, (size, work) in contenders.items():
                began, used = time.perf_counter(), time.process_time()
                work()
                taken, used = time.perf_counter() - began, time.process_time() - used
                self.sizes[name] = size
                if turn:
                    self.seconds.setdefault(name, []).append(taken)
                    self.processor.setdefault(name, []).append(used)

    def speeds(self) -> dict[str, float]:
        """Return gigabytes per second by name."""
        return {name: size / statistics.median(self.seconds[name]) / 1e9 for name, size in self.sizes.items()}

    def ratios(self, times: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
        """Return, by study and other way, how many times as fast ours is."""
        found: dict[str, dict[str, float]] = {}
        for name, ours in times.items():
            for way in _OTHER_WAYS:
                if theirs := times.get(f"{name}, {way}"):
                    pairs = [other / own for other, own in zip(theirs, ours, strict=True)]
                    found.setdefault(name, {})[way] = statistics.median(pairs)
        return found
