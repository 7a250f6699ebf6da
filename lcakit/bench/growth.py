"""How the cost of gradients and allocations grows, with what, and how many bytes they fill: ``lcakit bench growth``."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lcakit.bench import by_hand
from lcakit.bench.devices import chosen, heading, is_gpu, on, torch_machine
from lcakit.bench.gradient import GPU_CHUNKS, IMAGE, N_CLASSES, Products, evaluating, floors, loader_gradient
from lcakit.bench.timing import Work, Works, exponent, grown, medians
from lcakit.errors import DataError
from lcakit.experiments import networks
from lcakit.record.allocation.allocate import allocate
from lcakit.record.budget import estimate
from lcakit.record.objective.isolation import ThreadTeam
from lcakit.record.objective.objective import Objective
from lcakit.text import format_bytes

__all__ = ["CLASSES", "COUPLED_CLASSES", "COUPLED_IMAGE", "EXAMPLES", "MOVES", "WIDTHS", "run", "to_text"]


def __dir__() -> list[str]:
    return __all__


EXAMPLES = (6_875, 13_750, 27_500, 55_000)
WIDTHS = (1, 2, 4, 8)  # times the 100 and 50 units of MNIST-FC
MOVES = (2, 4, 8, 16)
CLASSES = (5, 10, 20, 40)
COUPLED_CLASSES = (2, 4, 8, 16)
_COUPLED_EXAMPLES, _COUPLED_NETWORK, COUPLED_IMAGE = 500, "resnet8w4", (3, 32, 32)
_RECORDED = (16, 64, 256)  # iterations of the files
_FLOOR_CHUNKS = (500, 1375, 2750)
_FLOORS = ("matrix products", "convolutions")
_COUPLED = "classes, BatchNorm"


def run(scale: float = 1.0, repeats: int = 5, directory: str | None = None, device: str = "cpu") -> dict[str, Any]:
    """Time full-set gradients and allocations of growing size, in turns, and fit how their cost grows.

    Parameters
    ----------
    scale
        Examples against those of a full measurement (MNIST-FC, 6 875 … 55 000 random images; a residual network with
        BatchNorm, 500), and iterations of the files against 16 … 256.
    repeats
        Measurements of each, in turns after one that is not timed; medians are reported.
    directory
        Folder for the files (0.4 GB × scale), which are removed at the end.
    device
        ``"cpu"`` or a GPU, for all but the files, whose bytes are the same.

    Returns
    -------
    dict
        ``machine``, ``device``, ``repeats``; ``growth`` by what grows (``examples``, ``parameters``, ``iterations``,
        ``classes``, ``classes, BatchNorm``): ``sizes``, ``seconds`` by contender, and ``exponents`` fitted to them.
        ``classes`` and ``classes, BatchNorm`` have also ``factor``, the cost of class gradients over that of one plain
        gradient, and ``design``, what it should be. ``files``: ``iterations``, ``estimated`` and ``written`` bytes.
        Contenders: ``gradient``, ``gradient by class``, ``allocation`` (by class); the floor, ``matrix products`` or
        ``convolutions``; and ``by hand``, a plain loop for the first of them.

    Raises
    ------
    DataError
        For a scale outside 0 … 100 or fewer than one repeat.
    """
    if not 0 < scale <= 100 or repeats < 1:
        raise DataError(f"scale must be between 0 and 100 and repeats at least 1, got {scale} and {repeats}")
    where = chosen(device)
    counts = [max(2 * max(CLASSES) << k, round(n * scale)) for k, n in enumerate(EXAMPLES)]
    few, coupled = counts[0], max(2 * max(COUPLED_CLASSES), round(_COUPLED_EXAMPLES * scale))
    widths = {_parameters(width): width for width in WIDTHS}
    growth = {
        "examples": _grow({n: _of_gradients(1, n, where) for n in counts}, repeats, where),
        "parameters": _grow({k: _of_gradients(width, few, where) for k, width in widths.items()}, repeats, where),
        "iterations": _grow({n: _of_moves(n, few, where) for n in MOVES}, repeats, where),
        "classes": _grow({n: _of_classes(n, few, where) for n in CLASSES}, repeats, where),
        _COUPLED: _grow({n: _of_coupled_classes(n, coupled, where) for n in COUPLED_CLASSES}, repeats, where),
    }
    for name in ("classes", _COUPLED):
        growth[name] |= _factors(growth[name], coupled=name == _COUPLED)
    return {
        "machine": torch_machine(where),
        "device": device,
        "repeats": repeats,
        "examples": few,
        "coupled_examples": coupled,
        "growth": growth,
        "files": _files(scale, directory),
    }


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    lines = [
        heading(result["machine"]),
        f"ms, medians of {result['repeats']} repeats; MNIST-FC, {result['examples']} examples but where they grow;",
        f"BatchNorm: {_COUPLED_NETWORK}, {result['coupled_examples']} examples; / floor at the largest size",
    ]
    for name, found in result["growth"].items():
        lines += ["", *_growth_lines(name, found)]
    return "\n".join([*lines, "", *_file_lines(result["files"])])


def _growth_lines(name: str, found: dict[str, Any]) -> Iterator[str]:
    yield f"{'more ' + name:26}{''.join(f'{size:>10,}' for size in found['sizes'])}{'/ floor':>10}   exponent"
    floor = found["seconds"][found["floor"]][-1]
    for contender, seconds in found["seconds"].items():
        times = "".join(f"{1000 * value:10.2f}" for value in seconds)
        yield f"{contender:26}{times}{seconds[-1] / floor:10.2f}   {grown(found['exponents'][contender])}"
    for key, text in {"factor": "by class / gradient", "design": "the same by design"}.items():
        if key in found:
            yield f"{text:26}" + "".join(f"{value:10.2f}" for value in found[key])


def _file_lines(files: dict[str, Any]) -> Iterator[str]:
    yield f"{'files, more iterations':26}{''.join(f'{n:10}' for n in files['iterations'])}   exponent"
    for key in ("estimated", "written"):
        sizes = "".join(f"{format_bytes(n):>10}" for n in files[key])
        yield f"{key:26}{sizes}   {grown(files['exponents'][key])}"
    more = [(files[key][-1] - files[key][-2]) / np.ptp(files["iterations"][-2:]) for key in ("estimated", "written")]
    yield "one more iteration: estimated {}, written {}".format(*map(format_bytes, more))


# ---- what is timed ---------------------------------------------------------------------------------------------------


def _grow(works: dict[int, Works], repeats: int, where: torch.device) -> dict[str, Any]:
    """Time the contenders of each size, all in turns; of variants ``name/variant`` the quickest counts."""
    contenders = {(name, size): work for size, each in works.items() for name, work in each.items()}
    found = medians(on(where, contenders), repeats)
    best: dict[str, dict[int, float]] = {}
    for (variant, size), value in found.items():
        times = best.setdefault(variant.split("/")[0], {})
        times[size] = min(value, times.get(size, value))
    sizes = list(works)
    seconds = {name: list(times.values()) for name, times in best.items()}
    return {
        "sizes": sizes,
        "seconds": seconds,
        "floor": next(name for name in _FLOORS if name in seconds),
        "exponents": {name: exponent(sizes, values) for name, values in seconds.items()},
    }


def _factors(found: dict[str, Any], coupled: bool) -> dict[str, list[float]]:
    """Return what class gradients cost beside one plain gradient, and what they should by the count of passes.

    One pass forward and one back, which costs twice as much, give all classes; where examples are coupled, each class
    needs a pass back of its own.
    """
    pairs = zip(found["seconds"]["gradient by class"], found["seconds"]["gradient"], strict=True)
    design = [(1 + 2 * c) / 3 if coupled else 1.0 for c in found["sizes"]]
    return {"factor": [by_class / plain for by_class, plain in pairs], "design": design}


def _of_gradients(width: int, n: int, where: torch.device) -> Works:
    model, (x, y) = _fc(width).to(where), _images(n, IMAGE, N_CLASSES)
    objective = Objective(model, (x, y), device=where)
    thetas = _walk(objective, 2)
    return {
        "gradient": evaluating(objective),
        "gradient by class": evaluating(objective, classes=True),
        "allocation of 2 moves": lambda: allocate(thetas, objective, tolerance=None, quiet=True),
        **_products(model, x),
        "gradient by hand": lambda: loader_gradient(model, x, y),
    }


def _of_moves(moves: int, n: int, where: torch.device) -> Works:
    model, (x, y) = _fc(1).to(where), _images(n, IMAGE, N_CLASSES)
    objective = Objective(model, (x, y), device=where)
    thetas = _walk(objective, moves)
    return {
        "allocation": lambda: allocate(thetas, objective, tolerance=None, quiet=True),
        **_products(copy.deepcopy(model), x, 2 * moves + 1),
        "allocation by hand": lambda: by_hand.allocation(model, thetas, lambda: loader_gradient(model, x, y)),
    }


def _of_classes(n_classes: int, n: int, where: torch.device) -> Works:
    """Examples of more classes; the network has as many outputs for all, so only the classes grow."""
    model, (x, y) = _fc(1, max(CLASSES)).to(where), _images(n, IMAGE, n_classes, where)
    objective = Objective(model, (x, y), class_names=list(map(str, range(n_classes))), device=where)
    return {
        "gradient": evaluating(objective),
        "gradient by class": evaluating(objective, classes=True),
        **_products(model, x),
        "by class by hand": lambda: by_hand.class_gradients(model, x, y, n_classes),
    }


def _of_coupled_classes(n_classes: int, n: int, where: torch.device) -> Works:
    model = networks.build(_COUPLED_NETWORK, COUPLED_IMAGE, max(COUPLED_CLASSES), seed=0).to(where)
    x, y = _images(n, COUPLED_IMAGE, n_classes, where)
    objective = Objective(model, (x, y), class_names=list(map(str, range(n_classes))), device=where)
    bare = by_hand.Convolutions(model, x)
    return {
        "gradient": evaluating(objective),
        "gradient by class": evaluating(objective, classes=True),
        "convolutions": bare,
        "convolutions by class": lambda: bare(n_classes),
        "by class by hand": lambda: by_hand.class_gradients(model, x, y, n_classes),
    }


def _files(scale: float, directory: str | None) -> dict[str, Any]:
    """Write files of growing length, and compare their bytes with what the budget says before."""
    iterations = [max(4 << k, round(n * scale)) for k, n in enumerate(_RECORDED)]
    objective = Objective(_fc(1), _images(2 * N_CLASSES, IMAGE, N_CLASSES))
    estimated, written = [estimate(objective, n).bytes for n in iterations], []
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        for n in iterations:
            path = Path(folder) / f"{n}.nc"
            allocate(_walk(objective, n), objective, tolerance=None, out=path, quiet=True).close()
            written.append(path.stat().st_size)
    sizes = {"estimated": estimated, "written": written}
    return {"iterations": iterations, **sizes, "exponents": {k: exponent(iterations, v) for k, v in sizes.items()}}


# ---- networks, images, snapshots -------------------------------------------------------------------------------------


def _fc(width: int, outputs: int = N_CLASSES) -> nn.Sequential:
    """Return MNIST-FC with hidden layers that are wider by a factor."""
    torch.manual_seed(0)
    first, second = 100 * width, 50 * width
    hidden = [nn.Flatten(), nn.Linear(math.prod(IMAGE), first), nn.ReLU(), nn.Linear(first, second), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(second, outputs))


def _parameters(width: int) -> int:
    return sum(p.numel() for p in _fc(width).parameters())


def _images(
    n: int, shape: tuple[int, int, int], n_classes: int, where: torch.device | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((n, *shape), generator=generator).to(where), (torch.arange(n) % n_classes).to(where)


def _walk(objective: Objective, moves: int) -> torch.Tensor:
    """Return snapshots (moves + 1, K) of a short random walk from the present parameters, where these are."""
    generator = torch.Generator().manual_seed(0)
    steps = 1e-3 * torch.randn((moves + 1, objective.n_parameters), generator=generator)
    start = objective.parameters_tensor()
    return start + steps.cumsum(0).to(start.device)


def _products(model: nn.Module, x: torch.Tensor, times: int = 1) -> Works:
    """Return the bare matrix products of a number of gradients, in several chunkings, on the device of the model."""
    where = next(model.parameters()).device
    sizes = GPU_CHUNKS if is_gpu(where) else _FLOOR_CHUNKS
    team = ThreadTeam(1 if is_gpu(where) else max(1, torch.get_num_threads()))
    bare = dict(floors("matrix products", Products(model, x.to(where)), team, sizes))

    def repeated(work: Work) -> Work:
        return lambda: [work() for _ in range(times)]

    return {name: repeated(work) for name, work in bare.items()}
