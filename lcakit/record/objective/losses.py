"""Losses by name. A loss takes (output, y) and returns one value per example."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from lcakit.errors import unknown

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
FEW_CLASSES = 64


def cross_entropy(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats, averaged over all dimensions but the examples; formed in float32 at least."""
    output = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
    if output.dim() == 2 and target.dim() == 1 and output.shape[1] < FEW_CLASSES:
        # Along a short contiguous axis log_softmax is not vectorized: examples last is 2.7 times faster for 10 classes.
        return F.nll_loss(F.log_softmax(output.t().contiguous(), 0).t(), target, reduction="none")
    losses = F.cross_entropy(output, target, reduction="none")
    return losses if losses.dim() == 1 else losses.flatten(1).mean(1)


def mse(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error over all dimensions but the examples.

    Raises ValueError where the shapes differ, which would broadcast into something else.
    """
    if output.shape != target.shape:
        raise ValueError(f"the output has shape {tuple(output.shape)} and y {tuple(target.shape)}; they must be equal")
    error = (output - target).square()
    return error if error.dim() == 1 else error.flatten(1).mean(1)


LOSSES: dict[str, tuple[Loss, str]] = {
    "cross_entropy": (cross_entropy, "nats"),
    "mse": (mse, "squared error"),
}


def resolve_loss(loss: str | Loss) -> tuple[Loss, str, str]:
    """Return (function, name, unit) of a loss given by name or as a callable."""
    if callable(loss):
        return loss, getattr(loss, "__name__", type(loss).__name__), "loss units"
    if loss not in LOSSES:
        raise unknown("loss", loss, [*LOSSES, "a callable (output, y) -> per-example losses"])
    function, unit = LOSSES[loss]
    return function, loss, unit
