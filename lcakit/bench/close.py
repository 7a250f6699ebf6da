"""What closing a recording costs, by its size: ``lcakit bench close``."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from lcakit.bench import by_hand
from lcakit.bench.machine import machine
from lcakit.errors import DataError
from lcakit.record.objective.objective import Objective
from lcakit.record.recorder import Recorder
from lcakit.storage.saving import finish

__all__ = ["GIGABYTES", "run", "to_text"]


def __dir__() -> list[str]:
    return __all__


GIGABYTES = (1, 3, 10)
_PARAMETERS = 273_066  # of ResNet-20
_ROW_BYTES = 3 * 4 * _PARAMETERS  # theta, gradient, lca


def run(scale: float = 1.0, directory: str | None = None) -> dict[str, Any]:
    """Record files of growing size, whose gradients cost nothing, and time how long closing each takes.

    Parameters
    ----------
    scale
        Size of the files, against 1, 3 and 10 GB. On the disk are up to two of each.
    directory
        Folder for the files, which are removed at the end; by default one for temporary files.

    Returns
    -------
    dict
        ``machine``; ``rows``: ``iterations``, ``bytes``, and in seconds ``close`` (with the chunks that were written
        while recording), ``processor`` (of that), ``merge`` (:func:`lcakit.finish` after a kill, with such chunks),
        ``write`` (the floor: the same bytes written in order, and flushed to the disk), ``loop`` and
        ``loop_processor`` (of an iteration, writing included).

    Raises
    ------
    DataError
        For a scale outside 0 … 10.
    """
    if not 0 < scale <= 10:
        raise DataError(f"scale must be above 0 and at most 10, got {scale}")
    return {"machine": machine(), "rows": [_row(round(size * scale * 1e9), directory) for size in GIGABYTES]}


def _row(size: int, directory: str | None) -> dict[str, Any]:
    iterations = max(2, size // _ROW_BYTES)
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        found = _closed(Path(folder) / "run.nc", iterations)
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        found |= _merged(Path(folder) / "run.nc", iterations)
        return found | {"write": by_hand.write(Path(folder) / "bare", found["bytes"])}


def _closed(path: Path, iterations: int) -> dict[str, Any]:
    recorder, optimizer = _recorder(path, iterations)
    recorder.start()
    began = time.perf_counter(), time.process_time()
    _train(recorder, optimizer, iterations)
    ended = time.perf_counter(), time.process_time()
    recorder.stop()
    closed = time.perf_counter(), time.process_time()
    return {
        "iterations": iterations,
        "bytes": path.stat().st_size,
        "loop": (ended[0] - began[0]) / iterations,
        "loop_processor": (ended[1] - began[1]) / iterations,
        "close": closed[0] - ended[0],
        "processor": closed[1] - ended[1],
    }


def _merged(path: Path, iterations: int) -> dict[str, float]:
    recorder, optimizer = _recorder(path, iterations)
    recorder.start()
    _train(recorder, optimizer, iterations)
    recorder.close()
    began = time.perf_counter()
    finish(path)
    return {"merge": time.perf_counter() - began}


def _recorder(path: Path, iterations: int) -> tuple[Recorder, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(_PARAMETERS - 1, 1)
    data = torch.randn(2, _PARAMETERS - 1), torch.zeros(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7)
    objective = Objective(model, data, "mse", workers=1)
    options: Any = {"n_iterations": iterations, "quiet": True, "classes": None, "tolerance": None}
    return Recorder(path, objective, optimizer, **options), optimizer


def _train(recorder: Recorder, optimizer: torch.optim.Optimizer, iterations: int) -> None:
    x = torch.randn(2, _PARAMETERS - 1)
    for _ in range(iterations):
        optimizer.zero_grad()
        recorder.objective.model(x).square().mean().backward()
        optimizer.step()


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    lines = [
        f"{_PARAMETERS:,} parameters; seconds, each measured once; loop: of an iteration",
        f"{'GB':>8}{'iterations':>12}{'loop':>9}{'processor':>11}{'close':>9}{'processor':>11}{'merge':>9}"
        f"{'bare write':>12}",
    ]
    for row in result["rows"]:
        lines.append(
            f"{row['bytes'] / 1e9:8.2f}{row['iterations']:12,}{row['loop']:9.3f}{row['loop_processor']:11.3f}"
            f"{row['close']:9.2f}{row['processor']:11.2f}{row['merge']:9.2f}{row['write']:12.2f}"
        )
    return "\n".join(lines)
