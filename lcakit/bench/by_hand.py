"""What one would write without lcakit, and the bare operations below it: the measures of ``lcakit bench growth``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Gradient = Callable[[], torch.Tensor]
Shapes = list[tuple[nn.Conv2d, torch.Tensor]]


def allocation(model: nn.Module, thetas: torch.Tensor, gradient: Gradient) -> np.ndarray:
    """Allocate along snapshots (T+1, K) by Simpson's rule, ends shared, without classes; return LCA (T, K)."""

    def at(theta: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            nn.utils.vector_to_parameters(theta, model.parameters())
        return gradient()

    out, left = [], at(thetas[0])
    for here, there in itertools.pairwise(thetas):
        middle, right = at((here + there) / 2), at(there)
        out.append(((left + 4 * middle + right) / 6 * (there - here)).numpy())
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
