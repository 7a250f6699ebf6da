"""A group of processes that train together (DDP): the first records, the others train and step aside."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lcakit as lk
from tests.support import forked
from tests.support.networks import dense, examples, flat

x, y = examples(40)
STEPS, PROCESSES = 4, 2


def batch(step: int, rank: int) -> slice:
    start = 8 * step + 4 * rank
    return slice(start, start + 4)


def train_in_group(rank: int, folder: str) -> None:
    """What each process does: a loop as people write it, with the recorder in all of them."""
    torch.set_num_threads(1)
    where = Path(folder)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{where / 'meeting'}",
        rank=rank,
        world_size=PROCESSES,
        timeout=datetime.timedelta(seconds=60),
    )
    model = DistributedDataParallel(dense())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    objective = lk.Objective(model, (x, y))
    with lk.Recorder(where / "run.nc", objective, optimizer, quiet=True) as rec:
        for step in range(STEPS):
            part = batch(step, rank)
            optimizer.zero_grad()
            F.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
    torch.save({"theta": flat(model), "open": rec.is_open, "steps": rec.steps}, where / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_the_first_of_two_processes_records_and_the_other_trains(tmp_path):
    method = forked.context().get_start_method()
    torch.multiprocessing.start_processes(train_in_group, (str(tmp_path),), nprocs=PROCESSES, start_method=method)
    ends = [torch.load(tmp_path / f"{rank}.pt") for rank in range(PROCESSES)]
    assert torch.equal(ends[0]["theta"], ends[1]["theta"])
    assert [end["steps"] for end in ends] == [STEPS, 0]
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.name != "meeting") == [".nc", ".pt", ".pt"]

    twin = dense()  # one process, the mean of both gradients
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.3)
    losses, thetas = [whole_loss(twin)], [flat(twin)]
    for step in range(STEPS):
        optimizer.zero_grad()
        parts = [batch(step, rank) for rank in range(PROCESSES)]
        (sum(F.cross_entropy(twin(x[part]), y[part]) for part in parts) / PROCESSES).backward()
        optimizer.step()
        losses.append(whole_loss(twin))
        thetas.append(flat(twin))
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        np.testing.assert_allclose(ds["theta"], torch.stack(thetas), atol=1e-6)
        np.testing.assert_allclose(ds["loss"], losses, rtol=1e-5)
        np.testing.assert_allclose(ds["lca"].sum("parameter") - ds["residual"], np.diff(losses), atol=1e-5)
        assert ds["tensor"].values.tolist() == [name for name, _ in twin.named_parameters()]
        assert lk.validate(ds, quiet=True).ok


def whole_loss(model: nn.Module) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(model(x), y))
