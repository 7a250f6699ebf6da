"""What one would write without lcakit, and the bare operations below it: measures of ``lcakit bench``."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

__all__ = ["Convolutions", "Gradient", "Shapes", "allocation", "class_gradients", "recording", "write"]


def __dir__() -> list[str]:
    return __all__


Gradient = Callable[[], torch.Tensor]
Shapes = list[tuple[nn.Conv2d, torch.Tensor]]
_CHUNK = 1000  # examples of a backward pass
_BLOCK = 2**26  # bytes of a write


def allocation(model: nn.Module, thetas: torch.Tensor, gradient: Gradient) -> np.ndarray:
    """Allocate along snapshots (T+1, K) by Simpson's rule, ends shared, without classes; return LCA (T, K)."""

    def at(theta: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            nn.utils.vector_to_parameters(theta, model.parameters())
        return gradient()

    out, left = [], at(thetas[0])
    for here, there in itertools.pairwise(thetas):
        middle, right = at((here + there) / 2), at(there)
        out.append(((left + 4 * middle + right) / 6 * (there - here)).cpu().numpy())
        left = right
    return np.stack(out)


def class_gradients(model: nn.Module, x: torch.Tensor, y: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Return the gradient of each class's loss (C, K), one backward pass each, with the statistics of the batch."""
    losses = functional.cross_entropy(model(x), y, reduction="none")
    parameters = list(model.parameters())
    rows = []
    for c in range(n_classes):
        parts = torch.autograd.grad(losses[y == c].sum() / len(x), parameters, retain_graph=c < n_classes - 1)
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def recording(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: tuple[torch.Tensor, torch.Tensor],
    batches: Iterator[torch.Tensor],
    iterations: int,
    folder: Path,
) -> Iterator[None]:
    """Train and allocate by class as one goes, by Simpson's rule, ends shared; save θ, gradient and LCA at the end.

    Yields after the first gradient and after each iteration; then ``theta``, ``gradient`` (T+1, K), ``lca`` (T, K) and
    ``lca_rows`` (T, C, rows of all tensors) are files of NumPy, which nothing flushes to the disk.
    """
    x, y = data
    groups = [(x[y == c], y[y == c]) for c in range(int(y.max()) + 1)]  # a class at a time: one pass for all classes
    sizes = [p.numel() for p in model.parameters()]
    heights = [len(p) for p in model.parameters()]

    def at(theta: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            nn.utils.vector_to_parameters(theta.clone(), model.parameters())  # which training must not change
        return _by_groups(model, groups, len(x))

    def rows(lca: torch.Tensor) -> torch.Tensor:
        parts = zip(lca.split(sizes, dim=1), heights, strict=True)
        return torch.cat([part.reshape(len(lca), height, -1).sum(2) for part, height in parts], dim=1)

    here = nn.utils.parameters_to_vector(model.parameters()).detach()
    left = at(here)
    kept: dict[str, list[np.ndarray]] = {"theta": [_host(here)], "gradient": [_host(left.sum(0))]}
    yield
    for _ in range(iterations):
        index = next(batches).to(x.device)
        optimizer.zero_grad()
        functional.cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()
        there = nn.utils.parameters_to_vector(model.parameters()).detach()
        middle, right = at((here + there) / 2), at(there)
        lca = (left + 4 * middle + right) / 6 * (there - here)
        row = {"theta": there, "gradient": right.sum(0), "lca": lca.sum(0), "lca_rows": rows(lca)}
        for name, values in row.items():
            kept.setdefault(name, []).append(_host(values))
        here, left = there, right
        yield
    for name, arrays in kept.items():
        np.save(folder / f"{name}.npy", np.stack(arrays))


def _by_groups(model: nn.Module, groups: Sequence[tuple[torch.Tensor, torch.Tensor]], n: int) -> torch.Tensor:
    """Return the gradient of each group's part of the mean loss (C, K), by a plain loop over chunks."""
    gradients = []
    for group in groups:
        model.zero_grad()
        for x, y in zip(*(part.split(_CHUNK) for part in group), strict=True):
            (functional.cross_entropy(model(x), y, reduction="sum") / n).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    return torch.stack(gradients)


def _host(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.cpu().numpy()
    return array


def write(path: Path, size: int) -> float:
    """Write bytes in order, flush them to the disk, and remove them; return the seconds without the removal."""
    block = np.random.default_rng(0).bytes(min(size, _BLOCK))  # no zeros, which a file system may leave out
    began = time.perf_counter()
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK):
            file.write(block[: size - start])
        file.flush()
        os.fsync(file.fileno())
    taken = time.perf_counter() - began
    path.unlink()
    return taken


class Convolutions:
    """The convolutions of a network, forward and backward, on activations that are there already; no norm, no loss."""

    def __init__(self, model: nn.Module, x: torch.Tensor) -> None:
        self.layers: Shapes = []
        hooks = [m.register_forward_hook(self._seen) for m in model.modules() if isinstance(m, nn.Conv2d)]
        with torch.no_grad():
            model(x)
        for hook in hooks:
            hook.remove()

    def _seen(self, module: Any, inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        self.layers.append((module, inputs[0].clone()))

    def __call__(self, backward_passes: int = 1) -> None:
        """Do one forward pass and some backward passes; the first layer has no gradient for its input."""
        for n, (layer, x) in enumerate(self.layers):
            kernel = layer.weight.detach().requires_grad_()
            inputs = [kernel, x.requires_grad_()] if n else [kernel]
            output = functional.conv2d(x, kernel, None, layer.stride, layer.padding)
            errors = torch.ones_like(output)
            for last in range(backward_passes, 0, -1):
                torch.autograd.grad(output, inputs, errors, retain_graph=last > 1)
