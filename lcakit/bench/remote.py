"""What a far server costs, with requests at the same time and one after the other: ``lcakit bench remote``."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.layerwise import layer_lca
from lcakit.bench import synthetic
from lcakit.bench.machine import machine
from lcakit.bench.timing import medians
from lcakit.errors import DataError
from lcakit.packages import package
from lcakit.storage import opening, saving
from lcakit.trajectory.select import select

__all__ = ["run", "serving", "to_text"]


def __dir__() -> list[str]:
    return __all__


_ITERATIONS, _PARAMETERS = 500, 273_066  # ResNet-20 of the paper
_MILLISECONDS = 20.0
_BOUND = 3.0
_BOUNDED = "a layer's curve"

_QUESTIONS: dict[str, Callable[[xr.Dataset], xr.DataArray]] = {
    _BOUNDED: lambda ds: layer_lca(select(ds, layer=str(ds["layer"].values[3]))),
    "all layers' curves": layer_lca,
    "one iteration": lambda ds: ds["lca"][ds.sizes["iteration"] // 3],
    "one parameter": lambda ds: ds["lca"][:, ds.sizes["parameter"] // 3],
}
_AT_A_TIME = {"gather_batch_size": 1, "nofiles_gather_batch_size": 1}  # settings of fsspec
_WAYS = ("at once", "one after the other")


def run(scale: float = 1.0, repeats: int = 5, directory: str | None = None) -> dict[str, Any]:
    """Read from a trajectory behind a URL, whose server answers each request after 20 ms.

    Parameters
    ----------
    scale
        Size against 500 iterations × 273 066 parameters (1.1 GB); both are scaled by its root.
    repeats
        Measurements of each, in turns after one that is not timed; medians are reported.
    directory
        Folder for the file, which is removed at the end; by default one for temporary files.

    Returns
    -------
    dict
        ``machine``, sizes, ``milliseconds`` that an answer takes, and by question ``seconds`` with requests ``at once``
        and ``one after the other`` (same requests, same blocks), and ``ratio``. The server is a process of its own on
        the same machine, whose time also counts: a network is slower, and waits longer.

    Raises
    ------
    DataError
        For a scale outside 0 … 100 or fewer than one repeat.
    LcakitError
        Without the packages that read URLs.
    """
    if not 0 < scale <= 100 or repeats < 1:
        raise DataError(f"scale must be between 0 and 100 and repeats at least 1, got {scale} and {repeats}")
    package("aiohttp", "reading web addresses")
    root = scale**0.5
    iterations, parameters = max(10, round(_ITERATIONS * root)), max(2_000, round(_PARAMETERS * root))
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        path = Path(folder) / "far.nc"
        saving.save(synthetic.trajectory(iterations, parameters), path, quiet=False)
        with serving(path.parent, _MILLISECONDS) as address, opening.open_trajectory(f"{address}/far.nc") as ds:
            found = medians({(name, way): _work(name, way, ds) for name in _QUESTIONS for way in _WAYS}, repeats)
    seconds = {name: {way: found[name, way] for way in _WAYS} for name in _QUESTIONS}
    return {
        "machine": machine(),
        "iterations": iterations,
        "parameters": parameters,
        "milliseconds": _MILLISECONDS,
        "repeats": repeats,
        "seconds": seconds,
        "ratio": {name: ways[_WAYS[1]] / ways[_WAYS[0]] for name, ways in seconds.items()},
        "bound": _BOUND,
    }


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    here = result["machine"]
    lines = [
        f"{here['cpu']}, {here['cores']} cores; {result['iterations']} iterations × {result['parameters']} parameters "
        f"behind a server that answers after {result['milliseconds']:g} ms; medians of {result['repeats']} repeats",
        f"{'milliseconds':20}{_WAYS[0]:>12}{_WAYS[1]:>22}{'ratio':>8}",
    ]
    for name, ways in result["seconds"].items():
        ratio = result["ratio"][name]
        line = f"{name:20}{1000 * ways[_WAYS[0]]:12.0f}{1000 * ways[_WAYS[1]]:22.0f}{ratio:8.1f}"
        verdict = "within the bound" if ratio >= result["bound"] else "BELOW the bound"
        lines.append(line + (f"  {verdict} ({result['bound']:g})" if name == _BOUNDED else ""))
    return "\n".join(lines)


@contextlib.contextmanager
def serving(folder: Path, milliseconds: float) -> Iterator[str]:
    """Serve a folder by a process that answers each request after a time; give the address."""
    command = [sys.executable, "-m", "lcakit.bench.far_server", str(folder), str(milliseconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = server.stdout.readline().strip() if server.stdout else ""
            if not port:
                raise DataError(f"the server of the benchmark did not start: {' '.join(command)}")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def _work(name: str, way: str, ds: xr.Dataset) -> Callable[[], object]:
    def work() -> None:
        with _one_request_at_a_time() if way == _WAYS[1] else contextlib.nullcontext():
            compute(_QUESTIONS[name](ds), quiet=True)

    return work


@contextlib.contextmanager
def _one_request_at_a_time() -> Iterator[None]:
    from fsspec.config import conf

    before = {name: conf[name] for name in _AT_A_TIME if name in conf}
    conf.update(_AT_A_TIME)
    try:
        with dask.config.set(scheduler="synchronous"):
            yield
    finally:
        for name in _AT_A_TIME:
            del conf[name]
        conf.update(before)
