"""A recorded path of parameters, and the objective to allocate along it, which workers of a cluster can build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import lcakit as lk
from tests.support.networks import dense, examples, train

SPEC = lk.ObjectiveSpec("tests.support.allocations:objective")


def objective() -> lk.Objective:
    """What the workers build."""
    return lk.Objective(dense(), examples(seed=1), workers=1)


def record_path(path: Path, steps: int) -> Path:
    """Record a short training run and keep its parameters only, in ``path``."""
    model, (x, y) = dense(), examples()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    target, run = lk.Objective(model, (x, y), workers=1), path.with_name("training.nc")
    with lk.Recorder(run, target, optimizer, n_iterations=steps, allocate="later", quiet=True):
        train(model, optimizer, x, y, steps)
    with lk.open_trajectory(run) as ds:
        lk.save(ds.drop_vars([name for name in ds.data_vars if name != "theta"]).load(), path)
    run.unlink()
    return path


def walk(model, x, y, steps=6, lr=0.3) -> np.ndarray:
    """Snapshots (T+1, K) of a short training run."""
    theta = [np.concatenate([p.detach().flatten().numpy() for p in model.parameters()])]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    train(
        model,
        optimizer,
        x,
        y,
        steps,
        each=lambda _: theta.append(np.concatenate([p.detach().flatten().numpy() for p in model.parameters()])),
    )
    return np.array(theta)
