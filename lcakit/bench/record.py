"""What recording costs beside the gradients: ``lcakit bench record``."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from lcakit.bench.gradient import IMAGE, N_CLASSES, torch_machine
from lcakit.record.objective import Objective
from lcakit.record.recorder import Recorder
from lcakit.studies import networks
from lcakit.studies.batches import Batches

BATCH = 250
BOUND = 0.05  # share of an online run that is neither gradient evaluation nor training step


def run(examples: int = 55_000, iterations: int = 220) -> dict[str, Any]:
    """Record MNIST-FC on random images, and split the time of the run.

    Parameters
    ----------
    examples, iterations
        Size of the evaluation set, and optimizer steps: one epoch by default. That is a quarter of the paper's run, so
        what happens once (imports, the header, the merge) weighs up to four times what it does there.

    Returns
    -------
    dict
        ``machine``, ``seconds`` by part (gradients, training, recording: all the rest, merging the file included),
        ``overhead`` (recording / total), ``bound``, ``file_bytes``, ``peak_bytes`` of the process.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((examples, *IMAGE), generator=generator)
    y = torch.randint(N_CLASSES, (examples,), generator=generator)
    model = networks.build("fc", IMAGE, N_CLASSES, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    objective = Objective(model, (x, y))
    objective.evaluate(classes=True)  # the first pass touches all memory once
    objective.seconds, batches, training = 0.0, Batches(examples, min(BATCH, examples), seed=0), 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.nc"
        began = time.perf_counter()
        with Recorder(path, objective, optimizer, quiet=True) as rec:
            for _ in range(iterations):
                step, inside = time.perf_counter(), rec.seconds
                index = next(batches)
                optimizer.zero_grad()
                F.cross_entropy(model(x[index]), y[index]).backward()
                optimizer.step()
                training += time.perf_counter() - step - (rec.seconds - inside)
        total = time.perf_counter() - began
        size = path.stat().st_size
    overhead = total - objective.seconds - training
    return {
        "machine": torch_machine(),
        "examples": examples,
        "iterations": iterations,
        "seconds": {
            "total": total,
            "gradients": objective.seconds,
            "training": training,
            "recording": overhead,
        },
        "overhead": overhead / total,
        "bound": BOUND,
        "file_bytes": size,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    seconds, here = result["seconds"], result["machine"]
    verdict = "within" if result["overhead"] <= result["bound"] else "ABOVE"
    lines = [
        f"{here['cpu']}, {here['cores']} cores; torch {here['torch']}, {here['threads']} threads",
        f"MNIST-FC, {result['examples']} examples, {result['iterations']} iterations, rk4 with classes",
        *(f"{name:12}{value:9.3f} s" for name, value in seconds.items()),
        f"overhead    {100 * result['overhead']:9.2f} %   ({verdict} the bound {100 * result['bound']:.0f} %)",
        f"file        {result['file_bytes'] / 1e6:9.1f} MB",
        f"peak memory {result['peak_bytes'] / 2**30:9.2f} GiB",
    ]
    return "\n".join(lines)
