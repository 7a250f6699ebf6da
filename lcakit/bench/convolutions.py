"""How near a full-set gradient of a convolutional network comes to a bare loop: ``lcakit bench convolutions``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lcakit.bench.devices import chosen, heading, is_gpu, on, torch_machine
from lcakit.bench.gradient import N_CLASSES, evaluating, images
from lcakit.bench.timing import medians
from lcakit.errors import DataError
from lcakit.experiments import networks
from lcakit.record.objective.objective import Objective

__all__ = ["run", "to_text"]


def __dir__() -> list[str]:
    return __all__


_IMAGE = (3, 32, 32)
_BATCHES = (50, 125, 250, 500)
_GPU_BATCHES = (500, 1000, 2000)
_FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
_FASTER = 1.6  # bfloat16 against float32, on a CPU that multiplies it
_BOUND = 1.15  # on a CPU a gradient must cost at most this many times a bare forward and backward pass at its best


def run(
    network: str = "resnet20",
    examples: int = 1000,
    repeats: int = 5,
    device: str = "cpu",
    precision: str = "float32",
) -> dict[str, Any]:
    """Time full-set gradients beside bare forward and backward passes of the same network, in turns.

    The floor is the best of a plain loop over batches of all sizes and both memory formats, without a DataLoader, with
    torch's own threads; on a GPU the images lie there, and cuDNN may choose its algorithms by timing them. Ours are a
    plain gradient, and the gradients of all classes: free without BatchNorm, one backward pass for each class with it.

    Parameters
    ----------
    network
        A network of :mod:`lcakit.experiments.networks`, on random images as those of CIFAR-10.
    examples
        Their number.
    repeats
        Measurements of each; medians are reported.
    device
        ``"cpu"`` or a GPU.
    precision
        Of all contenders: ``"float32"``, ``"bfloat16"`` (autocast), or on a GPU ``"tf32"``.

    Returns
    -------
    dict
        ``machine``, ``device``, ``precision``, ``network``, ``examples``, ``repeats``, ``seconds`` of one full
        gradient (``floor`` by format and batch, ``plain``, ``classes``), ``best`` (format and batch), ``ratios``
        (``plain_to_floor``, ``classes_to_plain``, and ``design``: the latter as counted in backward passes), ``bound``
        (None but for float32 on a CPU). Of float32 on a CPU that multiplies bfloat16 also the seconds of a plain
        gradient in ``bfloat16``, and the ratio of the same name: how many times as fast that is.
    """
    if examples < 1:
        raise DataError(f"examples must be positive, got {examples}")
    where = chosen(device, precision)
    x, y = (part.to(where) for part in images(examples, _IMAGE))
    model = networks.build(network, _IMAGE, N_CLASSES, seed=0).to(where)
    objective = Objective(model, (x, y), device=where, precision=precision)
    here = torch_machine(where)
    halves = precision == "float32" and not is_gpu(where) and here["bfloat16"]
    works = _ours(objective, Objective(model, (x, y), precision="bfloat16") if halves else None)
    sizes = sorted({min(size, examples) for size in (_GPU_BATCHES if is_gpu(where) else _BATCHES)})
    for name, kind in _FORMATS.items():
        laid_out = x.to(memory_format=kind)
        works |= {(name, size): _bare(model, laid_out, y, kind, size) for size in sizes}
    seconds = medians(on(where, works, precision), repeats)
    best = min((key for key in seconds if isinstance(key, tuple)), key=seconds.__getitem__)
    return {
        "machine": here,
        "device": device,
        "precision": precision,
        "network": network,
        "examples": examples,
        "repeats": repeats,
        "seconds": {
            "floor": {name: {str(size): seconds[name, size] for size in sizes} for name in _FORMATS},
            "plain": seconds["plain"],
            "classes": seconds["classes"],
            **{name: seconds[name] for name in ("bfloat16",) if name in seconds},
        },
        "best": {"format": best[0], "batch": best[1], "seconds": seconds[best]},
        "ratios": {
            "plain_to_floor": seconds["plain"] / seconds[best],
            "classes_to_plain": seconds["classes"] / seconds["plain"],
            **({"bfloat16": seconds["plain"] / seconds["bfloat16"]} if "bfloat16" in seconds else {}),
            "design": (1 + 2 * N_CLASSES) / 3 if objective.batch_coupling else 1.0,
        },
        "bound": None if is_gpu(where) or precision != "float32" else _BOUND,
    }


def _ours(objective: Objective, halves: Objective | None) -> dict[Any, Callable[[], object]]:
    works: dict[Any, Callable[[], object]] = {
        "plain": evaluating(objective),
        "classes": evaluating(objective, classes=True),
    }
    return works if halves is None else {**works, "bfloat16": evaluating(halves)}


def _bare(model: nn.Module, x: torch.Tensor, y: torch.Tensor, kind: torch.memory_format, size: int) -> Any:
    """Return a loop of forward and backward passes, the network training as it does in notebooks."""
    network = copy.deepcopy(model).to(memory_format=kind).train()

    def loop() -> None:
        network.zero_grad()
        for a in range(0, len(x), size):
            output = network(x[a : a + size])
            functional.cross_entropy(output, y[a : a + size], reduction="sum").backward()

    return loop


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    seconds, ratios, best = (result[key] for key in ("seconds", "ratios", "best"))
    sizes = list(next(iter(seconds["floor"].values())))
    verdict = ""
    if (bound := result["bound"]) is not None:
        verdict = f"   ({'within' if ratios['plain_to_floor'] <= bound else 'ABOVE'} the bound {bound})"
    lines = [
        heading(result["machine"]),
        f"{result['network']}, {result['precision']}, {result['examples']} examples of 3 × 32 × 32; seconds, "
        f"medians of {result['repeats']} repeats",
        f"{'bare passes, batch':24}" + "".join(f"{size:>8}" for size in sizes),
        *(f"  {name:22}" + "".join(f"{row[size]:8.3f}" for size in sizes) for name, row in seconds["floor"].items()),
        f"{'floor':24}{best['seconds']:8.3f}   ({best['format']}, batch {best['batch']})",
        f"{'ours, no classes':24}{seconds['plain']:8.3f}",
        f"{'ours, ten classes':24}{seconds['classes']:8.3f}",
        f"{'ours / floor':24}{ratios['plain_to_floor']:8.3f}{verdict}",
        f"{'classes / no classes':24}{ratios['classes_to_plain']:8.3f}   (by the count of passes: "
        f"{ratios['design']:.2f})",
    ]
    if "bfloat16" in ratios:
        verdict = f"({'within' if ratios['bfloat16'] >= _FASTER else 'BELOW'} the bound {_FASTER})"
        lines.append(f"{'ours in bfloat16':24}{seconds['bfloat16']:8.3f}")
        lines.append(f"{'float32 / bfloat16':24}{ratios['bfloat16']:8.3f}   {verdict}")
    return "\n".join(lines)
