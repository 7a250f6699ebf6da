"""What a second worker gains: ``lcakit bench cluster``."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from lcakit.bench.devices import torch_machine
from lcakit.bench.gradient import IMAGE, N_CLASSES
from lcakit.bench.precision import learnable, trained
from lcakit.errors import DataError
from lcakit.experiments import networks
from lcakit.record.allocation.allocate import allocate
from lcakit.record.allocation.cluster import connected
from lcakit.record.allocation.spec import ObjectiveSpec
from lcakit.record.objective.objective import Objective
from lcakit.storage import saving
from lcakit.trajectory.schema import build_dataset

__all__ = ["objective", "run", "to_text"]


def __dir__() -> list[str]:
    return __all__


_BOUND = 1.6  # two workers of one thread each, against one
_WORKERS = (1, 2)
_BLOCKS = 8  # whatever the number of workers: each begins with a gradient that the one before it has computed, too


def objective(examples: int) -> Objective:
    """Build the objective of this benchmark: MNIST-FC on random images. Every worker does."""
    return Objective(networks.build("fc", IMAGE, N_CLASSES, seed=0), learnable(examples))


def _imported() -> None:
    objective(examples=16)


def run(examples: int = 55_000, iterations: int = 96, repeats: int = 3) -> dict[str, Any]:
    """Time the allocation of one stored path on clusters of one and two processes of this machine, in turns.

    The processes are there already, have one thread each, and have imported what they need; the time is that of the
    whole call, which builds the objective on every worker, computes, writes, and joins the result.

    Parameters
    ----------
    examples, iterations
        Size of the evaluation set, and length of the path.
    repeats
        Measurements of each; medians are reported.

    Returns
    -------
    dict
        ``machine``, ``examples``, ``iterations``, ``repeats``, ``seconds`` by number of workers, ``speedup``, ``bound``
        (the speed-up should reach it).
    """
    if examples < 1 or iterations < 1 or repeats < 1:
        raise DataError(
            f"examples, iterations and repeats must be positive, got {examples}, {iterations} and {repeats}"
        )
    first = objective(examples)
    theta = trained(networks.build("fc", IMAGE, N_CLASSES, seed=0), learnable(examples), iterations)
    steps = {"snapshot": range(iterations + 1), "iteration": range(iterations)}
    coords = first.labels.coords() | {name: ((name,), list(values)) for name, values in steps.items()}
    spec = ObjectiveSpec(f"{__name__}:objective", {"examples": examples})
    block = max(1, iterations // _BLOCKS)
    times: dict[int, list[float]] = {workers: [] for workers in _WORKERS}
    with tempfile.TemporaryDirectory() as folder:
        path = saving.save(build_dataset(coords, {"theta": theta.numpy()}), Path(folder) / "path.nc", quiet=True)
        for turn in range(repeats):
            for workers in _WORKERS:
                with connected(workers=workers) as client:
                    client.wait_for_workers(workers)
                    client.run(_imported)
                    out = Path(folder) / f"{workers}-{turn}.nc"
                    began = time.perf_counter()
                    allocate(path, spec, out=out, cluster=client, block=block, quiet=True).close()
                    times[workers].append(time.perf_counter() - began)
                out.unlink()
    seconds = {workers: statistics.median(values) for workers, values in times.items()}
    return {
        "machine": torch_machine(),
        "examples": examples,
        "iterations": iterations,
        "repeats": repeats,
        "seconds": {str(workers): value for workers, value in seconds.items()},
        "speedup": seconds[1] / seconds[2],
        "bound": _BOUND,
    }


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    here, verdict = result["machine"], "within" if result["speedup"] >= result["bound"] else "BELOW"
    lines = [
        f"{here['cpu']}, {here['cores']} cores; torch {here['torch']}, one thread a worker",
        f"MNIST-FC, {result['examples']} examples, ten classes; {result['iterations']} iterations with rk4; medians of "
        f"{result['repeats']}",
    ]
    for workers, seconds in result["seconds"].items():
        lines.append(f"{workers + ' worker' + 's' * (workers != '1'):24}{seconds:9.2f} s")
    return "\n".join([*lines, f"{'speed-up':24}{result['speedup']:9.2f}     ({verdict} the bound {result['bound']})"])
