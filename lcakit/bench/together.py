"""What evaluating several θ at once gains, and from which size on it loses: ``lcakit bench together``."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from lcakit.bench.devices import heading, torch_machine
from lcakit.bench.gradient import IMAGE, N_CLASSES
from lcakit.bench.timing import medians
from lcakit.errors import DataError
from lcakit.experiments import networks
from lcakit.record.objective.objective import Objective

__all__ = ["run", "to_text"]


def __dir__() -> list[str]:
    return __all__


_AT_ONCE = (1, 4, 16, 64)
_DIGITS = (1, 8, 8)
_SPREAD = 0.01
_SIZES = (("digits-fc", _DIGITS, 1_500), ("mnist-fc", IMAGE, 2_000), ("mnist-fc", IMAGE, 55_000))


def run(scale: float = 1.0, repeats: int = 5, device: str = "cpu") -> dict[str, Any]:
    """Time full-set gradients by class of fully connected networks, one θ after the other and several at once.

    Parameters
    ----------
    scale
        Number of random images against those of a full measurement.
    repeats
        Measurements of each, in turns; medians are reported.
    device
        ``"cpu"`` or a GPU.

    Returns
    -------
    dict
        ``machine``, ``device``, ``repeats``; ``rows``: ``network``, ``parameters``, ``examples``, ``seconds`` of one
        gradient by the number of θ at once, ``gain`` of the best over one at a time, ``disagreement`` (largest
        difference of a gradient's entry over its largest entry).
    """
    if not scale > 0:
        raise DataError(f"scale must be positive, got {scale}")
    rows = [_row(name, image, max(16, int(scale * count)), repeats, device) for name, image, count in _SIZES]
    return {"machine": torch_machine(device), "device": device, "repeats": repeats, "rows": rows}


def _row(name: str, image: tuple[int, int, int], count: int, repeats: int, device: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    data = torch.rand((count, *image), generator=generator), torch.randint(N_CLASSES, (count,), generator=generator)
    model = networks.build("fc", image, N_CLASSES, seed=0)
    objectives = {number: Objective(model, data, device=device, together=number) for number in _AT_ONCE}
    start = objectives[1].parameters_tensor().cpu()
    thetas = start + _SPREAD * torch.randn((max(_AT_ONCE), len(start)), generator=generator)
    times = medians({n: partial(_evaluated, found, thetas) for n, found in objectives.items()}, repeats)
    alone, most = (_evaluated(objectives[n], thetas[:4]) for n in (_AT_ONCE[0], _AT_ONCE[-1]))
    seconds = {str(n): total / len(thetas) for n, total in times.items()}
    return {
        "network": name,
        "parameters": len(start),
        "examples": count,
        "seconds": seconds,
        "gain": seconds["1"] / min(seconds.values()),
        "disagreement": float((most - alone).abs().max() / alone.abs().max()),
    }


def _evaluated(objective: Objective, thetas: torch.Tensor) -> torch.Tensor:
    """Return the gradients, on the host: then the device is done with them."""
    found = objective.evaluate_all(thetas, classes=True)
    return torch.stack([one.gradient for one in found if one.gradient is not None]).cpu()


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    at_once = list(result["rows"][0]["seconds"])
    lines = [
        f"{heading(result['machine'])}; {result['device']}",
        f"milliseconds of a full-set gradient by ten classes; medians of {result['repeats']}",
        f"{'θ at once':34}" + "".join(f"{n:>9}" for n in at_once) + f"{'gain':>8}",
    ]
    for row in result["rows"]:
        name = f"{row['network']}, {row['parameters']:,} × {row['examples']:,}"
        figures = "".join(f"{1e3 * value:9.2f}" for value in row["seconds"].values())
        lines.append(f"{name:34}{figures}{row['gain']:7.1f} x")
    worst = max(row["disagreement"] for row in result["rows"])
    return "\n".join([*lines, f"largest difference from one at a time, over the largest entry: {worst:.1e}"])
