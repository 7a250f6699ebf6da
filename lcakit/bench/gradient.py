"""How near a full-set gradient comes to the bare matrix products it needs: ``lcakit bench gradient``."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from lcakit.bench import language
from lcakit.bench.devices import chosen, heading, is_gpu, on, torch_machine
from lcakit.bench.timing import Works
from lcakit.errors import DataError, unknown
from lcakit.experiments import networks
from lcakit.record.objective.dense_layers import has_onednn, product
from lcakit.record.objective.isolation import ThreadTeam
from lcakit.record.objective.losses import cross_entropy
from lcakit.record.objective.losses.outputs import Losses
from lcakit.record.objective.objective import Objective

__all__ = [
    "GPU_CHUNKS",
    "IMAGE",
    "N_CLASSES",
    "Products",
    "Times",
    "Timings",
    "bare_floors",
    "evaluating",
    "floors",
    "images",
    "loader_gradient",
    "run",
    "to_text",
]


def __dir__() -> list[str]:
    return __all__


_CHUNKS = (250, 500, 1000, 1375, 2000, 2750, 5500)
GPU_CHUNKS = (2750, 5500, 11000, 27500, 55000)
_LOADER_BATCH = 1000
_NETWORKS = ("fc", "gpt")
_BOUNDS = {
    "batches_to_classes": 1.15,  # a gradient of a batch_loss, against the same of a loss of outputs
    "classes_to_floor": 1.06,  # ten class gradients, against PyTorch's bare products of a gradient without classes
    "bfloat16_to_floor": 0.55,  # in bfloat16, on a processor that multiplies it; the products are those of float32
}
IMAGE, N_CLASSES = (1, 28, 28), 10

_TORCH_WAYS = ("as found", "all threads", "team", "GPU")
Timings = dict[str, list[float]]
Times = Callable[..., object]


def run(
    examples: int | None = None, repeats: int | None = None, device: str = "cpu", network: str = "fc"
) -> dict[str, Any]:
    """Time full-set gradients of MNIST-FC on random images, in one process, in alternating repeats.

    The floor is what PyTorch's bare products cost, ``x @ W.T`` and so on: the best median over all chunk sizes and ways
    to use the cores. These are torch on all its threads, as it was found ("as found": before anything lowers and
    restores its threads, which can change how MKL works on small matrices) and afterwards ("all threads"), and one
    Python thread per core ("team"), as the objective does it. The products of oneDNN, which the objective takes but on
    processors by Intel, can be faster ("oneDNN"): the ratio to these says what it adds to them. On a GPU there is one
    way ("GPU"), in float32, with data and buffers on the GPU; the DataLoader's batches come from the host there, as in
    most notebooks.

    Parameters
    ----------
    examples
        Number of random images; 55 000 by default.
    repeats
        Measurements of each, 7 by default; the slow DataLoader gets half as many, at least two. Medians are reported.
    device
        ``"cpu"`` or a GPU.
    network
        ``"fc"``, or ``"gpt"`` for a language model: :func:`lcakit.bench.language.run`.

    Returns
    -------
    dict
        ``machine``, ``device``, ``seconds`` (medians; ``floor`` by way and chunk size), ``ratios``, ``bounds`` (of a
        CPU), and ``disagreement``: the largest difference of our gradient from autograd's, relative to its largest
        entry, by precision.
    """
    if network not in _NETWORKS:
        raise unknown("network of this benchmark", network, _NETWORKS)
    if network == "gpt":
        given = {"examples": examples, "repeats": repeats}
        return language.run(device=device, **{name: value for name, value in given.items() if value is not None})
    examples, repeats = 55_000 if examples is None else examples, 7 if repeats is None else repeats
    if examples < 1 or repeats < 1:
        raise DataError(f"examples and repeats must be positive, got {examples} and {repeats}")
    where = chosen(device)
    x, y = images(examples, IMAGE)
    model = networks.build("fc", IMAGE, N_CLASSES, seed=0).to(where)
    objectives = {name: Objective(model, (x, y), device=where, precision=name) for name in _precisions(where)}
    items = DataLoader(TensorDataset(x, y), batch_size=_LOADER_BATCH)
    streamed = Objective(model, items, resident=False, device=where)
    batches = Objective(model, (x, y), batch_loss=_of_batches, groups=y, device=where)
    contenders = _contenders(objectives, model, x, y) | {
        "batches": evaluating(batches, classes=True),
        "streamed": evaluating(streamed, classes=True),
    }

    times: Timings = {}
    if not is_gpu(where):
        _measure(dict(floors("as found", Products(model, x), ThreadTeam(1))), repeats, times)
    _measure(on(where, contenders), repeats, times)
    return {
        "machine": torch_machine(where),
        "device": device,
        "examples": examples,
        "repeats": repeats,
        **_result(times),
        "bounds": {} if is_gpu(where) else _BOUNDS,
        "disagreement": _disagreement(objectives, loader_gradient(model, x, y)),
    }


def images(examples: int, shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random images of random classes, on the host."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((examples, *shape), generator=generator)
    return x, torch.randint(N_CLASSES, (examples,), generator=generator)


def _precisions(device: torch.device) -> tuple[str, ...]:
    return ("float32", "tf32", "bfloat16") if is_gpu(device) else ("float32", "bfloat16")


def to_text(result: dict[str, Any]) -> str:
    """Return the result of ``run`` as lines to print."""
    if result.get("network") == "gpt":
        return language.to_text(result)
    seconds, ratios, bounds = result["seconds"], result["ratios"], result["bounds"]
    chunks = sorted({chunk for way in seconds["floor"].values() for chunk in way}, key=int)
    lines = [
        heading(result["machine"]),
        f"MNIST-FC, float32, {result['examples']} examples; seconds, medians of {result['repeats']} repeats",
        f"{'matrix products, chunk':24}" + "".join(f"{chunk:>8}" for chunk in chunks),
    ]
    for way, row in seconds["floor"].items():
        lines.append(f"  {way:22}" + "".join(f"{row[chunk]:8.4f}" for chunk in chunks))
    lines += [f"{name:30}{seconds[key]:8.4f}{note}" for name, key, note in _rows(result)]
    notes = {key: _verdict(ratios[key], bound) for key, bound in bounds.items()}
    if not result["machine"]["bfloat16"]:
        notes["bfloat16_to_floor"] = "   (emulated here)"
    rows = {
        "classes_to_floor": "ours with classes / floor",
        "classes_to_onednn": "ours with classes / products of oneDNN",
        "batches_to_classes": "ours with classes by batch_loss / ours with classes",
        "streamed_to_classes": "ours with classes, streamed / ours with classes",
        "plain_to_floor": "ours / floor",
        "tf32_to_floor": "ours with classes, tf32 / floor",
        "bfloat16_to_floor": "ours with classes, bfloat16 / floor",
        "loader_to_classes": "DataLoader / ours with classes",
        "loader_to_plain": "DataLoader / ours",
    }
    lines += [f"{name:44}{ratios[key]:7.3f}{notes.get(key, '')}" for key, name in rows.items() if key in ratios]
    far = ", ".join(f"{name} {value:.1e}" for name, value in result["disagreement"].items())
    return "\n".join([*lines, f"largest difference from autograd, relative: {far}"])


def _verdict(ratio: float, bound: float) -> str:
    return f"   ({'within' if ratio <= bound else 'ABOVE'} the bound {bound})"


def _rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    best = result["floor"]
    rows = [
        ("floor", "best_floor", f"   ({best['way']}, chunk {best['chunk']})"),
        ("ours, ten classes", "classes", ""),
        ("ours, batch_loss", "batches", ""),
        ("ours, streamed from a Dataset", "streamed", ""),
        ("ours, no classes", "plain", ""),
        ("ours, tf32, classes", "tf32", ""),
        ("ours, bfloat16, classes", "bfloat16", ""),
        ("DataLoader + autograd", "loader", f"   (batch {_LOADER_BATCH})"),
    ]
    return [row for row in rows if row[1] in result["seconds"]]


# ---- what is timed -----------------------------------------------------------------------------------------


class Products:
    """The eight matrix products of a forward and backward pass, into buffers that are there already."""

    def __init__(self, model: nn.Module, x: torch.Tensor, times: Times = torch.mm) -> None:
        self.x, self.times = x.flatten(1), times
        self.kernels = [m.weight.detach() for m in model.modules() if isinstance(m, nn.Linear)]

    def __call__(self, start: int, stop: int, size: int) -> None:
        """Do them for the examples ``start … stop`` in chunks of ``size``; buffers are made once a call."""
        widths = [len(kernel) for kernel in self.kernels]
        rows = min(size, stop - start)
        outputs, errors = ([self.x.new_ones(rows, width) for width in widths] for _ in range(2))
        gradients = [torch.empty_like(kernel) for kernel in self.kernels]
        with torch.no_grad():
            for first in range(start, stop, size):
                n = min(size, stop - first)
                self._chunk([self.x[first : first + n], *(o[:n] for o in outputs)], [e[:n] for e in errors], gradients)

    def _chunk(self, inputs: list[torch.Tensor], errors: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
        for k, kernel in enumerate(self.kernels):
            self.times(inputs[k], kernel.T, out=inputs[k + 1])
        for k in reversed(range(len(self.kernels))):
            self.times(errors[k].T, inputs[k], out=gradients[k])
            if k:
                self.times(errors[k], self.kernels[k], out=errors[k - 1])


def _by_onednn(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    product(a, b.T)  # which has no way to be told where to write


def floors(
    way: str, products: Products, team: ThreadTeam, sizes: Sequence[int] = _CHUNKS
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the bare products for every chunk size, the examples cut into one contiguous share per worker."""
    n = len(products.x)
    edges = [n * k // team.workers for k in range(team.workers + 1)]
    shares = list(itertools.pairwise(edges))
    for size in sizes:

        def work(share: tuple[int, int], size: int = size) -> None:
            products(*share, size)

        yield f"{way}/{size}", lambda work=work: team.map(work, shares)  # type: ignore[misc]


def bare_floors(model: nn.Module, x: torch.Tensor) -> Works:
    """Return the floor in its lasting ways, on the device of the model: its threads, or the one way of a GPU."""
    where = next(model.parameters()).device
    products = Products(model, x.to(where))
    if is_gpu(where):
        return dict(floors("GPU", products, ThreadTeam(1), GPU_CHUNKS))
    team = ThreadTeam(max(1, torch.get_num_threads()))
    onednn = dict(floors("oneDNN", Products(model, x, _by_onednn), team)) if has_onednn() else {}
    return {**dict(floors("all threads", products, ThreadTeam(1))), **dict(floors("team", products, team)), **onednn}


def _contenders(objectives: dict[str, Objective], model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Works:
    """Return what is timed in turns: ours, the floor, and the DataLoader."""
    exact, *reduced = (evaluating(objective, classes=True) for objective in objectives.values())
    return {
        "classes": exact,
        "plain": evaluating(objectives["float32"]),
        **dict(zip(list(objectives)[1:], reduced, strict=True)),
        **bare_floors(model, x),
        "loader": lambda: loader_gradient(model, x, y),
    }


def evaluating(objective: Objective, classes: bool = False) -> Callable[[], object]:
    """Return a full-set gradient that stays on the device, as a recording needs it."""
    return partial(objective.evaluate, classes=classes, accuracy=False)


def _of_batches(model: nn.Module, batch: Any) -> Losses:
    x, y = batch
    return cross_entropy(model(x), y)


def loader_gradient(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Add up the gradient as most notebooks do: a DataLoader, autograd, one batch after the other."""
    where = next(model.parameters()).device
    model.zero_grad()
    for xs, ys in DataLoader(TensorDataset(x, y), batch_size=_LOADER_BATCH):
        functional.cross_entropy(model(xs.to(where)), ys.to(where), reduction="sum").backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]) / len(x)


def _disagreement(objectives: dict[str, Objective], theirs: torch.Tensor) -> dict[str, float]:
    """Return how far our gradient, summed over classes, is from the DataLoader's, by precision."""
    theirs, found = theirs.cpu(), {}
    for precision, objective in objectives.items():
        ours = torch.from_numpy(objective.gradient(classes=True)).sum(0)
        found[precision] = float((ours - theirs).abs().max() / theirs.abs().max())
    return found


# ---- how it is timed ---------------------------------------------------------------------------------------


def _measure(contenders: dict[str, Callable[[], object]], repeats: int, times: Timings) -> None:
    """Time all contenders in turns, each after an untimed call: what the one before it left in the caches is its own.

    (Recordings evaluate the same gradient all the time. Some virtual machines also make memory that was not used for a
    second slow at first, which more than doubled single figures.)
    """
    for turn in range(repeats):
        for name, work in contenders.items():
            if name in ("loader", "streamed") and turn >= max(2, repeats // 2):
                continue
            work()
            began = time.perf_counter()
            work()
            times.setdefault(name, []).append(time.perf_counter() - began)


def _result(times: Timings) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in times.items()}
    table: dict[str, dict[str, float]] = {}
    for name in (name for name in medians if "/" in name):
        way, chunk = name.split("/")
        table.setdefault(way, {})[chunk] = medians[name]
    best = min((name for name in medians if name.split("/")[0] in _TORCH_WAYS), key=medians.__getitem__)
    floor, classes, plain, loader = (medians[name] for name in (best, "classes", "plain", "loader"))
    onednn = {"classes_to_onednn": classes / min(table["oneDNN"].values())} if "oneDNN" in table else {}
    return {
        "seconds": {
            "floor": table,
            "best_floor": floor,
            **{name: value for name, value in medians.items() if "/" not in name},
        },
        "floor": dict(zip(("way", "chunk"), best.split("/"), strict=True)),
        "ratios": {
            "classes_to_floor": classes / floor,
            **onednn,
            "batches_to_classes": medians["batches"] / classes,
            "streamed_to_classes": medians["streamed"] / classes,
            "plain_to_floor": plain / floor,
            **{f"{name}_to_floor": medians[name] / floor for name in ("tf32", "bfloat16") if name in medians},
            "loader_to_classes": loader / classes,
            "loader_to_plain": loader / plain,
        },
    }
