"""What recording costs beside the gradients, and beside a loop written by hand: ``lcakit bench record``."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lcakit.bench import by_hand
from lcakit.bench.devices import chosen, forget_peak, gpu_peak, heading, is_gpu, torch_machine, wait
from lcakit.bench.gradient import IMAGE, N_CLASSES, images
from lcakit.errors import DataError
from lcakit.experiments import networks
from lcakit.experiments.batches import Batches
from lcakit.record.objective.isolation import arithmetic
from lcakit.record.objective.objective import Objective
from lcakit.record.recorder import Recorder

__all__ = ["Examples", "run", "to_text", "training"]


def __dir__() -> list[str]:
    return __all__


_BATCH = 250
_BOUND = 0.05  # share of an online run on a CPU that is neither gradient evaluation nor training step
_ITERATIONS_BY_HAND = 4  # a loop by hand is as slow in each
Examples = tuple[torch.Tensor, torch.Tensor]


def run(
    examples: int = 55_000,
    iterations: int = 220,
    device: str = "cpu",
    precision: str = "float32",
    directory: str | None = None,
) -> dict[str, Any]:
    """Record MNIST-FC on random images, and split the time of the run.

    Beside it, a few iterations of the loop one would write by hand, all of it in the same precision, and the floor of
    writing: the bytes of the file written in order, and flushed to the disk.

    Parameters
    ----------
    examples, iterations
        Size of the evaluation set, and optimizer steps: one epoch by default. That is a quarter of the paper's run, so
        what happens once (imports, the header, the merge) weighs up to four times what it does there.
    device
        ``"cpu"`` or a GPU, which then has network and images. Between the parts the clock waits for it.
    precision
        Of the gradients: ``"float32"``, ``"bfloat16"``, or on a GPU ``"tf32"``. Training is the same in all.
    directory
        Folder for the files, which are removed at the end; by default one for temporary files.

    Returns
    -------
    dict
        ``machine``, ``device``, ``precision``, ``seconds`` by part (gradients, training, recording: all the rest,
        merging the file included), ``evaluations`` (full-set gradients), ``overhead`` (recording / total), ``bound``
        (None on a GPU), ``file_bytes``, ``peak_bytes`` of the process, ``gpu_peak_bytes`` (None on a CPU); ``floor``:
        ``write`` (seconds), ``recording_to_write``; ``by_hand``: ``iterations``, ``seconds`` of one, ``ours`` (those of
        the whole run by its iterations), ``to_ours``.
    """
    if examples < 1 or iterations < 1:
        raise DataError(f"examples and iterations must be positive, got {examples} and {iterations}")
    where = chosen(device, precision)
    data = tuple(part.to(where) for part in images(examples, IMAGE))
    forget_peak(where)
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        found = _recorded(Path(folder), data, iterations, where, precision)
        writing = by_hand.write(Path(folder) / "bare", found["file_bytes"])
        few = min(iterations, _ITERATIONS_BY_HAND)
        with arithmetic(precision, where):
            one = _by_hand(Path(folder), data, few, where)
    ours = found["seconds"]["total"] / iterations
    return {
        "machine": torch_machine(where),
        "device": device,
        "precision": precision,
        "examples": examples,
        "iterations": iterations,
        **found,
        "bound": None if is_gpu(where) else _BOUND,
        "floor": {"write": writing, "recording_to_write": found["seconds"]["recording"] / writing},
        "by_hand": {"iterations": few, "seconds": one, "ours": ours, "to_ours": one / ours},
    }


def _recorded(folder: Path, data: Any, iterations: int, where: torch.device, precision: str) -> dict[str, Any]:
    x, y = data
    model, optimizer, batches = training(len(x), where)
    objective = Objective(model, data, device=where, precision=precision)
    objective.evaluate(classes=True)  # the first pass touches all memory once, and loads the kernels of a GPU
    objective.seconds, objective.evaluations, path, spent = 0.0, 0, folder / "run.nc", 0.0
    optimizer.register_step_post_hook(lambda *_: wait(where))  # the step is over before the recorder's clock starts
    began = time.perf_counter()
    with Recorder(path, objective, optimizer, quiet=True) as rec:
        for _ in range(iterations):
            step, inside = time.perf_counter(), rec.seconds
            index = next(batches).to(where)
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
            spent += time.perf_counter() - step - (rec.seconds - inside)
            wait(where)  # what the recorder left to a GPU is not part of the next step
    total = time.perf_counter() - began
    recording = total - objective.seconds - spent
    return {
        "seconds": {"total": total, "gradients": objective.seconds, "training": spent, "recording": recording},
        "evaluations": objective.evaluations,
        "overhead": recording / total,
        "file_bytes": path.stat().st_size,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "gpu_peak_bytes": gpu_peak(where),
    }


def _by_hand(folder: Path, data: Any, iterations: int, where: torch.device) -> float:
    """Return the seconds of an iteration by hand, saving included."""
    model, optimizer, batches = training(len(data[0]), where)
    steps = by_hand.recording(model, optimizer, data, batches, iterations, folder)
    next(steps)  # the gradient before the first iteration
    wait(where)
    began = time.perf_counter()
    for _ in steps:
        pass
    return (time.perf_counter() - began) / iterations


def training(examples: int, where: torch.device) -> tuple[nn.Module, torch.optim.Optimizer, Batches]:
    """Return MNIST-FC, its optimizer and its batches, the same each time."""
    model = networks.build("fc", IMAGE, N_CLASSES, seed=0).to(where)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return model, optimizer, Batches(examples, min(_BATCH, examples), seed=0)


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    verdict, hand, floor = "", result["by_hand"], result["floor"]
    if (bound := result["bound"]) is not None:
        verdict = f"   ({'within' if result['overhead'] <= bound else 'ABOVE'} the bound {100 * bound:.0f} %)"
    lines = [
        heading(result["machine"]),
        f"MNIST-FC, {result['precision']}, {result['examples']} examples, {result['iterations']} iterations, rk4 with "
        f"classes: {result['evaluations']} full-set gradients",
        *(f"{name:12}{value:9.3f} s" for name, value in result["seconds"].items()),
        f"overhead    {100 * result['overhead']:9.2f} %{verdict}",
        f"bare write  {floor['write']:9.3f} s   (the same bytes, flushed; recording / bare write "
        f"{floor['recording_to_write']:.1f})",
        f"iteration   {hand['ours']:9.4f} s   (by hand {hand['seconds']:.4f} s, {hand['to_ours']:.1f} × ours; "
        f"mean of {hand['iterations']})",
        f"file        {result['file_bytes'] / 1e6:9.1f} MB",
        f"peak memory {result['peak_bytes'] / 2**30:9.2f} GiB",
    ]
    if result["gpu_peak_bytes"] is not None:
        lines.append(f"GPU memory  {result['gpu_peak_bytes'] / 2**30:9.2f} GiB")
    return "\n".join(lines)
