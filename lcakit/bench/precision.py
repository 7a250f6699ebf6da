"""What reduced precision costs and buys: ``lcakit bench precision``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lcakit.bench.devices import heading, torch_machine
from lcakit.bench.gradient import IMAGE, N_CLASSES
from lcakit.bench.timing import medians
from lcakit.errors import DataError
from lcakit.experiments import networks
from lcakit.record.allocation.allocate import allocate
from lcakit.record.objective.objective import Objective

__all__ = ["Examples", "learnable", "run", "to_text", "trained"]


def __dir__() -> list[str]:
    return __all__


_MOVES, _BATCH, _RATE = 40, 250, 0.05
_EXACT = "float64"
Examples = tuple[torch.Tensor, torch.Tensor]


def run(examples: int = 55_000, repeats: int = 5, device: str = "cpu", iterations: int = _MOVES) -> dict[str, Any]:
    """Time full-set gradients of MNIST-FC in each precision, and compare them, and the LCA of a path, with float64.

    The path is that of SGD on random images which a random network has labelled, so that there is something to learn.
    The same snapshots are allocated in each precision, with rk4 and the usual tolerance.

    Parameters
    ----------
    examples
        Number of random images.
    repeats
        Measurements of each gradient, in turns; medians are reported.
    device
        ``"cpu"`` or a GPU; TF32 exists only there.
    iterations
        Length of the path.

    Returns
    -------
    dict
        ``machine``, ``examples``, ``repeats``, ``device``, ``tolerance``; ``precisions``: for each, ``seconds`` of a
        gradient with classes, ``gradient_error`` and ``lca_error`` (norm of the difference from float64 over its norm,
        the latter of LCA summed over the path), ``residual`` (mean and largest ``abs(residual)`` of an iteration),
        ``refined`` (iterations whose splits were doubled) and ``beyond`` (those still above the tolerance).
    """
    if examples < 1 or iterations < 1:
        raise DataError(f"examples and iterations must be positive, got {examples} and {iterations}")
    model, data = networks.build("fc", IMAGE, N_CLASSES, seed=0), learnable(examples)
    path = trained(copy.deepcopy(model), data, iterations)
    names = [_EXACT, "float32", *(["tf32"] if torch.device(device).type == "cuda" else []), "bfloat16"]
    objectives = {name: Objective(model, data, precision=name, device=device) for name in names}
    seconds = medians({name: _gradient(objective) for name, objective in objectives.items()}, repeats)
    runs = {name: allocate(path, objective, quiet=True) for name, objective in objectives.items()}
    gradients = {name: torch.from_numpy(o.gradient(path[-1])).double() for name, o in objectives.items()}
    tolerance = float(runs[_EXACT].attrs["tolerance"])
    found = {}
    for name, ds in runs.items():
        residual = abs(ds["residual"])
        lca, exact = (torch.from_numpy(runs[key]["lca"].values).double().sum(0) for key in (name, _EXACT))
        found[name] = {
            "seconds": seconds[name],
            "gradient_error": _distance(gradients[name], gradients[_EXACT]),
            "lca_error": _distance(lca, exact),
            "residual": {"mean": float(residual.mean()), "largest": float(residual.max())},
            "refined": int((ds["splits"] > 2).sum()),
            "beyond": int((residual > tolerance).sum()),
        }
    return {
        "machine": torch_machine(device),
        "examples": examples,
        "repeats": repeats,
        "device": device,
        "tolerance": tolerance,
        "iterations": iterations,
        "precisions": found,
    }


def learnable(examples: int) -> Examples:
    """Return random images, and labels that a random network gives them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((examples, *IMAGE), generator=generator)
    teacher = networks.build("fc", IMAGE, N_CLASSES, seed=1)
    with torch.no_grad():
        scores = teacher(x)
    return x, (scores - scores.mean(0)).argmax(1)


def trained(model: nn.Module, data: Examples, iterations: int) -> torch.Tensor:
    """Return the snapshots of some iterations of SGD, (T+1, K)."""
    x, y = data
    optimizer = torch.optim.SGD(model.parameters(), lr=_RATE, momentum=0.9)
    snapshots = [_flat(model)]
    generator = torch.Generator().manual_seed(2)
    for _ in range(iterations):
        index = torch.randint(len(x), (_BATCH,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()
        snapshots.append(_flat(model))
    return torch.stack(snapshots)


def _flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def _gradient(objective: Objective) -> Callable[[], object]:
    return lambda: objective.gradient(classes=True)


def _distance(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return float((ours - exact).norm() / exact.norm())


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    here, found = result["machine"], result["precisions"]
    native = "" if here["bfloat16"] or result["device"] != "cpu" else "; bfloat16 is emulated here"
    lines = [
        f"{heading(here)}; {result['device']}{native}",
        f"MNIST-FC, {result['examples']} examples, ten classes; {result['iterations']} iterations of SGD; errors "
        "against float64",
        f"{'':12}{'s/gradient':>11}{'/ float32':>11}{'gradient':>11}{'LCA, sum':>11}{'mean |res|':>12}{'largest':>11}"
        f"{'refined':>9}{'beyond':>8}",
    ]
    for name, row in found.items():
        residual = row["residual"]
        lines.append(
            f"{name:12}{row['seconds']:11.4f}{row['seconds'] / found['float32']['seconds']:11.2f}"
            f"{row['gradient_error']:11.1e}{row['lca_error']:11.1e}{residual['mean']:12.1e}{residual['largest']:11.1e}"
            f"{row['refined']:9}{row['beyond']:8}"
        )
    lines.append(
        f"refined: iterations that needed more splits than rk4's two; beyond: above {result['tolerance']:g} still"
    )
    return "\n".join(lines)
