"""What recording costs on a busy machine: ``lcakit bench load``."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lcakit.bench.machine import machine
from lcakit.errors import DataError

__all__ = ["fair_seconds", "run", "to_text"]


def __dir__() -> list[str]:
    return __all__


_NETWORK = "digits-resnet8w8"
_WAYS = {"lcakit": "lcakit, torch", "torch": "torch, lcakit", "one thread": "lcakit, torch; torch.set_num_threads(1)"}
_BUSY_PER_CORE = 2

# measured inside: starting Python and importing torch is not recording
_CHILD = """
import {order}
import json, sys, time
from lcakit.experiments.run import Run
from lcakit.experiments.training import record_run
run = Run({network!r}, iterations=int(sys.argv[2]), train_examples=int(sys.argv[3]), batch_size=10, learning_rate=0.2)
options = {{"classes": None, "keep": ("lca",), "overwrite": True, "quiet": True}}
wall, processor = time.perf_counter(), time.process_time()
record_run(run, sys.argv[1], **options)
print(json.dumps([time.perf_counter() - wall, time.process_time() - processor, torch.get_num_threads()]))
"""


def run(examples: int = 500, iterations: int = 10, repeats: int = 3) -> dict[str, Any]:
    """Record a small residual network alone, and beside processes that keep all cores busy.

    Parameters
    ----------
    examples, iterations
        Size of the recording.
    repeats
        Measurements of each, in turns; medians are reported.

    Returns
    -------
    dict
        ``machine``, ``network``, ``busy`` (number of competing processes), ``repeats``; ``rows``: ``first`` (what was
        imported first: lcakit or torch; or lcakit, and torch told to use one thread), ``alone`` and
        ``loaded`` (seconds), ``processor_alone`` and ``processor_loaded`` (seconds of processor time), ``fair``
        (seconds by :func:`fair_seconds`), ``times_fair`` (loaded / fair).

    Raises
    ------
    DataError
        For sizes below one.
    """
    if min(examples, iterations, repeats) < 1:
        raise DataError(f"examples, iterations and repeats must be at least 1, got {examples}, {iterations}, {repeats}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = _BUSY_PER_CORE * cores
    rows = [_row(first, examples, iterations, repeats, cores, busy) for first in _WAYS]
    return {"machine": machine(), "network": _NETWORK, "busy": busy, "repeats": repeats, "rows": rows}


def _row(first: str, examples: int, iterations: int, repeats: int, cores: int, busy: int) -> dict[str, Any]:
    found: dict[int, list[list[float]]] = {0: [], busy: []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            for competitors, times in found.items():
                with _busy(competitors):
                    times.append(_record(first, Path(folder, "run.nc"), iterations, examples))
    alone, loaded = ([statistics.median(column) for column in zip(*found[n], strict=True)] for n in (0, busy))
    fair = fair_seconds(alone[0], alone[1], int(alone[2]), cores, busy)
    return {
        "first": first,
        "alone": alone[0],
        "loaded": loaded[0],
        "processor_alone": alone[1],
        "processor_loaded": loaded[1],
        "fair": fair,
        "times_fair": loaded[0] / fair,
    }


def fair_seconds(alone: float, processor: float, threads: int, cores: int, busy: int) -> float:
    r"""Return how long work takes whose threads get the same share of the cores as those of others.

    .. math:: \max(\mathrm{alone},\ \mathrm{processor}\ \frac{\mathrm{threads} + \mathrm{busy}}
              {\mathrm{cores} \cdot \mathrm{threads}})

    Parameters
    ----------
    alone, processor
        Seconds that the work takes on a quiet machine, and its processor time.
    threads, busy
        Threads of the work, and of others that are always running.
    cores
        Cores of the machine.

    Examples
    --------
    >>> fair_seconds(alone=1.0, processor=2.0, threads=2, cores=2, busy=4)
    3.0
    """
    return max(alone, processor * (threads + busy) / (cores * threads))


def _record(first: str, path: Path, iterations: int, examples: int) -> list[float]:
    """Return seconds, seconds of processor time and threads of one recording in a process of its own."""
    code = _CHILD.format(order=_WAYS[first], network=_NETWORK)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", code, str(path), str(iterations), str(examples)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"the recording ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """Keep ``count`` processes running that do nothing but compute."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    columns = ("alone", "processor_alone", "loaded", "processor_loaded", "fair")
    lines = [
        f"{result['network']}; {result['busy']} other processes; medians of {result['repeats']}, in seconds",
        f"{'imported first':16}" + "".join(f"{name.replace('_', ' '):>18}" for name in columns) + "  loaded/fair",
    ]
    for row in result["rows"]:
        figures = "".join(f"{row[name]:18.2f}" for name in columns)
        lines.append(f"{row['first']:16}{figures}{row['times_fair']:12.1f}x")
    return "\n".join(lines)
