"""What it takes to open a trajectory and to look at one thing in it, as files grow: ``lcakit bench open``."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import netCDF4
import numpy as np
import xarray as xr

from lcakit.analysis.accessor import TrajectoryAccessor
from lcakit.analysis.computing import compute
from lcakit.analysis.layerwise import layer_lca
from lcakit.bench.machine import machine
from lcakit.bench.timing import Work, Works, exponent, grown, medians
from lcakit.errors import DataError
from lcakit.sharing.validation import validate
from lcakit.storage import opening, saving
from lcakit.text import format_bytes
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import build_dataset

__all__ = ["FACTORS", "Trajectory", "run", "to_text"]


def __dir__() -> list[str]:
    return __all__


_ITERATIONS, _UNITS = 30, 100  # MNIST-FC for 30 iterations: 0.02 GB
FACTORS = (1, 10, 50)
_SERIES = (("nc", "iterations"), ("nc", "parameters"), ("zarr", "iterations"))
_LAYER = "fc2"
_PRIME = 7_919  # a step from one number read to the next, so that no repeat finds the last one's chunk


def run(scale: float = 1.0, repeats: int = 5, directory: str | None = None) -> dict[str, Any]:
    """Open trajectories of three sizes, and read one thing at a time from each; all in turns.

    Parameters
    ----------
    scale
        Size against 0.02, 0.2 and 1 GB: iterations and parameters are scaled by its root.
    repeats
        Measurements of each, in turns after one that is not timed, so files are in the page cache.
    directory
        Folder for the files (3 GB × scale at a time), which are removed at the end.

    Returns
    -------
    dict
        ``machine``, ``repeats``, and ``series``: for NetCDF with more iterations, NetCDF with more parameters, and Zarr
        with more iterations, the sizes, ``seconds`` by question, contender and size, and ``growth``, the exponents
        fitted to them against the bytes of the file. Contenders: ``ours``; ``library``, the same by a bare call of
        netCDF4 or zarr; ``memory map``, the same numbers from a raw file of ``lca``; ``by hand``, a plain loop.

    Raises
    ------
    DataError
        For a scale outside 0 … 100 or fewer than one repeat.
    """
    if not 0 < scale <= 100 or repeats < 1:
        raise DataError(f"scale must be between 0 and 100 and repeats at least 1, got {scale} and {repeats}")
    series = []
    for suffix, grows in _SERIES:
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            series.append(_series(Path(folder), suffix, grows, scale**0.5, repeats))
    return {"machine": machine(), "repeats": repeats, "series": series}


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    here = result["machine"]
    lines = [
        f"{here['cpu']}, {here['cores']} cores; milliseconds, medians of {result['repeats']} repeats, "
        "files in the page cache; ratios at the largest"
    ]
    for found in result["series"]:
        name = {"nc": "NetCDF", "zarr": "Zarr"}[found["format"]]
        shapes = zip(found["iterations"], found["parameters"], strict=True)
        lines += [
            "",
            f"{name}, more {found['grows']}: {', '.join(f'{rows} × {columns}' for rows, columns in shapes)}",
            f"{'':18}{''.join(f'{format_bytes(n):>11}' for n in found['bytes'])}"
            f"{'/ library':>11}{'/ map':>9}{'by hand /':>11}   exponent in bytes",
        ]
        for question, seconds in found["seconds"].items():
            lines.append(_line(question, seconds, found["growth"][question]["ours"]))
    return "\n".join(lines)


def _line(question: str, seconds: dict[str, list[float]], growth: dict[str, float]) -> str:
    ours = seconds["ours"]
    last = {name: values[-1] for name, values in seconds.items()}
    ratios = [f"{ours[-1] / last[name]:.2g}" if name in last else "–" for name in ("library", "memory map")]
    ratios.append(f"{last['by hand'] / ours[-1]:.2g}" if "by hand" in last else "–")
    times = "".join(f"{1000 * value:11.2f}" for value in ours)
    return f"{question:18}{times}{ratios[0]:>11}{ratios[1]:>9}{ratios[2]:>11}   {grown(growth)}"


# ---- files that grow ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trajectory:
    """A file to measure on, its copy for the bare library, its ``lca`` as raw numbers, and its sizes."""

    path: Path
    twin: Path
    raw: Path
    iterations: int
    parameters: int

    @property
    def bytes(self) -> int:
        """Size of the file, or of all files of a store."""
        return sum(file.stat().st_size for file in (self.path, *self.path.rglob("*")) if file.is_file())


def _series(folder: Path, suffix: str, grows: str, root: float, repeats: int) -> dict[str, Any]:
    iterations, units = max(4, round(_ITERATIONS * root)), max(2, round(_UNITS * root))
    shapes = [(iterations * f, units) if grows == "iterations" else (iterations, units * f) for f in FACTORS]
    files = [_write(folder / f"{n}.{suffix}", *shape) for n, shape in enumerate(shapes)]
    found = medians(_by_key([_opening(file.path) for file in files]), repeats)
    with ExitStack() as stack:
        found |= medians(_by_key([stack.enter_context(_reading(file)) for file in files]), repeats)
    seconds: dict[str, dict[str, list[float]]] = {}
    for (question, name, _), value in found.items():
        seconds.setdefault(question, {}).setdefault(name, []).append(value)
    sizes = [file.bytes for file in files]
    return {
        "format": suffix,
        "grows": grows,
        "bytes": sizes,
        "iterations": [file.iterations for file in files],
        "parameters": [file.parameters for file in files],
        "seconds": seconds,
        "growth": {
            question: {name: exponent(sizes, values) for name, values in contenders.items()}
            for question, contenders in seconds.items()
        },
    }


def _by_key(files: list[dict[str, Works]]) -> dict[tuple[str, str, int], Work]:
    return {
        (question, name, n): work
        for n, questions in enumerate(files)
        for question, works in questions.items()
        for name, work in works.items()
    }


def _write(path: Path, iterations: int, units: int) -> Trajectory:
    table = _labels(units)
    rng = da.random.default_rng(0)

    def numbers(n: int) -> da.Array:
        array: da.Array = rng.random((n, table.n_parameters), dtype=np.float32, chunks=(64, 65_536))
        return array

    steps = {"snapshot": np.arange(iterations + 1), "iteration": np.arange(iterations)}
    coords = table.coords() | {name: ((name,), values) for name, values in steps.items()}
    saving.save(build_dataset(coords, {"theta": numbers(iterations + 1), "lca": numbers(iterations)}), path)
    twin, raw = path.with_stem(f"{path.stem}-twin"), path.with_suffix(".raw")
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, twin)
    with opening.open_trajectory(path) as ds, raw.open("wb") as file:
        for top in range(0, iterations, 64):
            ds["lca"][top : top + 64].values.tofile(file)
    return Trajectory(path, twin, raw, iterations, table.n_parameters)


def _labels(units: int) -> Labels:
    specs = []
    for n, (inputs, outputs) in enumerate(itertools.pairwise((784, units, 50, 10)), 1):
        specs.append(TensorSpec(f"fc{n}.weight", (outputs, inputs), "kernel", f"fc{n}", "linear"))
        specs.append(TensorSpec(f"fc{n}.bias", (outputs,), "bias", f"fc{n}", "linear"))
    return Labels(tuple(specs))


# ---- what is asked of them ------------------------------------------------------------------------------------------


def _opening(path: Path) -> dict[str, Works]:
    """Return the questions that open the file themselves; nothing else may have it open."""

    def bare() -> None:
        with _bare(path):
            pass

    def by_hand() -> None:
        """Open lazily, and read everything that is not a large variable."""
        engine = "zarr" if path.suffix == ".zarr" else "netcdf4"
        with xr.open_dataset(path, engine=engine, chunks={}) as ds:
            ds.drop_vars(["theta", "lca"]).load()

    return {
        "open": {"ours": lambda: opening.open_trajectory(path).close(), "library": bare, "by hand": by_hand},
        "open, check": {"ours": lambda: validate(path, groups=("structure",), quiet=True)},
    }


@contextmanager
def _reading(file: Trajectory) -> Iterator[dict[str, Works]]:
    """Give the questions to an open file, each with its contenders."""
    raw = np.memmap(file.raw, np.float32, mode="r", shape=(file.iterations, file.parameters))
    with _bare(file.twin) as bare, opening.open_trajectory(file.path) as ds:
        labels = np.flatnonzero(ds["layer_index"].values == ds["layer"].values.tolist().index(_LAYER))
        layer = slice(int(labels[0]), int(labels[-1]) + 1)
        offsets = [*ds["tensor_offset"].values.tolist(), file.parameters]
        yield {
            "a parameter": _of_a_parameter(ds, bare["lca"], raw),
            "an iteration": _of_an_iteration(ds, bare["lca"], raw, list(itertools.pairwise(offsets))),
            "a layer's curve": _of_a_layer(ds, bare["lca"], raw, layer),
        }


@contextmanager
def _bare(path: Path) -> Iterator[Any]:
    """Open a file by the library that reads it, with nothing around it."""
    if path.suffix == ".zarr":
        import zarr

        yield zarr.open_group(path, mode="r")
        return
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        yield file


def _of_a_parameter(ds: xr.Dataset, variable: Any, raw: np.ndarray) -> Works:
    at, rows = _places(raw.shape[1]), len(raw)

    def by_hand() -> list[float]:
        place = next(at)
        return [variable[t, place] for t in range(rows)]

    return {
        "ours": lambda: ds["lca"][:, next(at)].values,
        "library": lambda: variable[:, next(at)],
        "memory map": lambda: raw[:, next(at)].copy(),
        "by hand": by_hand,
    }


def _of_an_iteration(ds: xr.Dataset, variable: Any, raw: np.ndarray, tensors: list[tuple[int, int]]) -> Works:
    at = _places(len(raw))

    def by_hand() -> list[np.ndarray]:
        place = next(at)
        return [variable[place, first:stop] for first, stop in tensors]

    return {
        "ours": lambda: ds["lca"][next(at)].values,
        "library": lambda: variable[next(at)],
        "memory map": lambda: raw[next(at)].copy(),
        "by hand": by_hand,
    }


def _of_a_layer(ds: xr.Dataset, variable: Any, raw: np.ndarray, columns: slice) -> Works:
    return {
        "ours": lambda: compute(layer_lca(TrajectoryAccessor(ds).sel(layer=_LAYER)), quiet=True),
        "library": lambda: variable[:, columns].sum(1),
        "memory map": lambda: raw[:, columns].sum(1),
        "by hand": lambda: [variable[t, columns].sum() for t in range(len(raw))],
    }


def _places(n: int) -> Iterator[int]:
    return (k * _PRIME % n for k in itertools.count(1))
