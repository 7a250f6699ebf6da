"""Record in child processes that are killed (SIGKILL) at random moments, until 20 have died; then let one finish.

``python -m tests.support.killed FOLDER`` records ``whole.nc``, which nobody kills, and ``killed.nc``. Children are
forked, so that each starts in milliseconds.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import lcakit as lk
from lcakit.experiments.batches import Batches
from lcakit.record.allocation import allocate  # noqa: F401  (imported before the fork)
from lcakit.storage import early_chunks
from tests.support.networks import dropout_net, examples

KILLS = 20
STEPS = 300


def record(path: str, steps: int = STEPS) -> None:
    early_chunks.LEAST_BYTES = 0  # so that small recordings have them too
    torch.set_num_threads(1)
    torch.manual_seed(5)
    model, (x, y) = dropout_net(), examples()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batches = Batches(len(x), 10, seed=1)
    objective = lk.Objective(model, (x, y), workers=1)
    with lk.Recorder(
        path, objective, optimizer, state={"batches": batches}, resume=True, quiet=True, block_rows=9
    ) as rec:
        for _ in range(rec.steps, steps):
            index = next(batches)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()


def fork(path: Path) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            record(str(path))
            status = 0
        finally:
            os._exit(status)
    return child


def main(folder: str) -> None:
    began = time.monotonic()
    if os.waitpid(fork(Path(folder) / "whole.nc"), 0)[1]:
        sys.exit("a child that nobody killed failed")
    most = 1.4 * (time.monotonic() - began) / KILLS  # all together work less than the whole takes
    path, moments = Path(folder) / "killed.nc", random.Random(0)
    for n in range(KILLS):
        child = fork(path)
        time.sleep(moments.uniform(0.0, most))
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            sys.exit(f"a child ended by itself after {n} kills")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(fork(path), 0)[1]))


if __name__ == "__main__":
    main(sys.argv[1])
