"""What a recording of a very large network takes, nothing kept per parameter and iteration: ``lcakit bench memory``."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lcakit.bench.devices import chosen, forget_peak, gpu_peak, heading, torch_machine, wait
from lcakit.bench.machine import peak_memory
from lcakit.record.allocation.axis_blocks import PIECE
from lcakit.record.objective.objective import Objective
from lcakit.record.recorder import Recorder
from lcakit.trajectory.schema import SIGNS, STATISTICS, VARIABLES

__all__ = ["pieces", "run", "to_text"]


def __dir__() -> list[str]:
    return __all__


_LAYERS = 4
_N_CLASSES = 10


def run(
    parameters: int = 100_000_000,
    iterations: int = 6,
    examples: int = 32,
    classes: bool = False,
    directory: str | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Record a network of wide linear layers with ``keep=()``, and watch the memory of the process.

    Parameters
    ----------
    parameters
        About so many: four square layers, and one to ten classes.
    iterations, examples
        Few: memory depends on neither.
    classes
        Split LCA by class, which needs a gradient of each class.
    directory
        For what is written: about 52 bytes a parameter, and up to 130 while it is recorded.
    device
        ``"cpu"`` or a GPU, which then holds most of it.

    Returns
    -------
    dict
        ``machine``, ``device``, ``parameters``, ``peak_bytes`` (of the process, on the host), ``gpu_peak_bytes`` (None
        on a CPU) and ``seconds`` by phase, ``pieces``: what the bytes of a parameter are while an iteration is
        allocated, on the host or the GPU, ``file_bytes``.
    """
    where = chosen(device)
    width = max(1, math.isqrt(parameters // _LAYERS))
    peaks, gpu_peaks, seconds = {}, {}, {}
    forget_peak(where)
    with tempfile.TemporaryDirectory(dir=directory) as folder, peak_memory() as peak:
        path, began = Path(folder) / "run.nc", time.perf_counter()
        for phase in _phases(path, width, iterations, examples, classes, where):
            wait(where)
            now = time.perf_counter()
            peaks[phase], seconds[phase], began, peak[0] = peak[0], now - began, now, 0
            gpu_peaks[phase] = gpu_peak(where)
            forget_peak(where)
        size = path.stat().st_size
    count = _LAYERS * (width * width + width) + _N_CLASSES * (width + 1)
    return {
        "machine": torch_machine(where),
        "device": device,
        "parameters": count,
        "iterations": iterations,
        "classes": _N_CLASSES if classes else 0,
        "peak_bytes": peaks,
        "gpu_peak_bytes": gpu_peaks if None not in gpu_peaks.values() else None,
        "seconds": seconds,
        "pieces": pieces(count, _N_CLASSES if classes else 1),
        "file_bytes": size,
    }


def _phases(
    path: Path, width: int, iterations: int, examples: int, classes: bool, where: torch.device
) -> Iterator[str]:
    """Record, and say when a phase is over."""
    torch.manual_seed(0)
    hidden = [layer for _ in range(_LAYERS) for layer in (nn.Linear(width, width), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(width, _N_CLASSES)).to(where)
    x, y = torch.randn(examples, width).to(where), (torch.arange(examples) % _N_CLASSES).to(where)
    objective = Objective(model, (x, y), device=where, workers=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    yield "objective"
    recorder = Recorder(path, objective, optimizer, keep=(), classes="unit" if classes else None, quiet=True)
    with recorder:
        yield "beginning"
        for _ in range(iterations):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        yield "recording"
    yield "writing the file"


def pieces(parameters: int, height: int) -> dict[str, float]:
    """Return what the bytes of a parameter are while an iteration is allocated; ``height`` is C by class, or 1."""
    statistics = sum(int(VARIABLES[name].dtype[1:]) for name in STATISTICS) + 2 * len(SIGNS)
    work = min(PIECE, parameters * height) / parameters
    gradients = {"gradients: both ends and the middle of a move": 12}
    if height > 1:
        gradients = {
            "a gradient by class": 4 * height,
            "gradients over all classes, float64: both ends and the middle of a move": 24,
        }
    return {
        "the model and its gradient": 8,
        "the objective's θ": 4,
        **gradients,
        "snapshots: both ends of a move, and as the loop gives it": 12,
        "state of the loop as bytes, while a block is written": 4,
        "LCA of the move, or the point in its middle": 4,
        "running statistics": statistics,
        "float64 work on one piece": 8 * (work + 3 * work / height),
    }


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    k, gpu = result["parameters"], result["gpu_peak_bytes"] or {}
    by = f"{result['classes']} classes" if result["classes"] else "without classes"
    lines = [
        heading(result["machine"]),
        f"{k:,} parameters, {result['iterations']} iterations, keep=(), {by}",
        f"{'phase':20}{'peak':>10}{'a parameter':>16}{'time':>10}"
        + (f"{'GPU peak':>12}{'a parameter':>16}" * bool(gpu)),
    ]
    for phase, peak in result["peak_bytes"].items():
        on_gpu = f"{gpu[phase] / 2**30:8.2f} GiB{gpu[phase] / k:10.1f} bytes" if gpu else ""
        host = f"{peak / 2**30:6.2f} GiB{peak / k:10.1f} bytes{result['seconds'][phase]:8.1f} s"
        lines.append(f"{phase:20}{host}{on_gpu}")
    lines.append("bytes of a parameter while an iteration is allocated" + ", on the GPU or the host" * bool(gpu))
    lines += [f"  {name:72}{size:6.1f}" for name, size in result["pieces"].items()]
    lines.append(f"  {'all of these':72}{sum(result['pieces'].values()):6.1f}")
    size = result["file_bytes"]
    lines.append(f"file {size / 1e9:.2f} GB, {size / k:.1f} bytes a parameter (labels 20, statistics 32)")
    return "\n".join(lines)
