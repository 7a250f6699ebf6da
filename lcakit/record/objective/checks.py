"""Checks of the model and the loss on a few examples, so that errors come before anything long starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lcakit.errors import ObjectiveError
from lcakit.record.objective.describe import call_order

__all__ = ["Probe", "check_last_batch", "check_losses", "depends_on_batch", "probe", "usable_device"]


def __dir__() -> list[str]:
    return __all__


_MISFITS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, AssertionError)


@dataclass(frozen=True)
class Probe:
    """What a forward pass on two examples shows.

    ``call_order`` names the modules as they are called, ``activation_bytes`` is per example, and ``output_shape`` is
    that of the output for the two examples, empty where it is not a tensor.
    """

    call_order: list[str]
    activation_bytes: float
    output_shape: tuple[int, ...]


def probe(model: nn.Module, x: torch.Tensor, device: torch.device) -> Probe:
    """Run the model on two examples.

    Raises
    ------
    ObjectiveError
        If the model does not accept them.
    """
    few = x[:2].to(device)
    sizes = [few.numel() * few.element_size()]
    leaves = [m for m in model.modules() if not list(m.children())]
    handles = [m.register_forward_hook(lambda _m, _i, out: sizes.append(_bytes(out))) for m in leaves]
    outputs: list[Any] = []
    try:
        with torch.no_grad():
            order = call_order(model, lambda: outputs.append(model(few)))
    except _MISFITS as error:
        raise ObjectiveError(
            f"the model does not accept the evaluation set: x has shape {tuple(x.shape)} and type {x.dtype}; {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    output = outputs[0]
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else ()
    return Probe(order, sum(sizes) / len(few), shape)


def usable_device(device: str | torch.device) -> torch.device:
    """Return the device; raise ObjectiveError if it cannot be used here."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        cuda = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
        raise ObjectiveError(f"device {device!r} cannot be used: {error}. Found a CPU and {cuda}.") from error


def check_losses(losses_of: Callable[[int, int], torch.Tensor], n: int) -> None:
    """Raise ObjectiveError unless the first ``n`` examples have finite, repeatable losses, one each."""
    try:
        with torch.no_grad():
            losses, again = losses_of(0, n), losses_of(0, n)
    except _MISFITS as error:
        raise ObjectiveError(f"the loss does not accept the model's output and y: {error}") from error
    shape = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
    if shape != (n,):
        raise ObjectiveError(
            f"the loss must return one value per example: for {n} examples it returned {shape}, expected ({n},). "
            'Use reduction="none" and average over everything but the examples: nn.CrossEntropyLoss(reduction="none"), '
            'or lambda output, y: F.cross_entropy(output, y, reduction="none"), which loss="cross_entropy" is by name.'
        )
    if not bool(torch.isfinite(losses).all()):
        raise ObjectiveError(
            f"the loss is not finite at the model's current parameters (example losses {losses[:4].tolist()} …). "
            "Check the data and the loss function."
        )
    # additions on a GPU may come in any order
    if not (torch.equal(losses, again) or (losses.is_cuda and torch.allclose(losses, again, rtol=1e-5))):
        raise ObjectiveError(
            "the loss differs between two evaluations at the same parameters, so it is not a function of them. "
            "Something random runs even in eval mode: use nn.Dropout, or F.dropout(…, training=self.training)."
        )


def depends_on_batch(losses_of: Callable[[int, int], torch.Tensor], n: int) -> bool:
    """Say whether losses change when the batch is cut in two, as with a layer of one's own that couples the batch."""
    if n < 2:
        return False
    with torch.no_grad():
        whole = losses_of(0, n)
        halves = torch.cat([losses_of(0, n // 2), losses_of(n // 2, n)])
    return bool(((whole - halves).abs() > 0.01 * float(whole.abs().max()) + 1e-6).any())


def check_last_batch(losses_of: Callable[[int, int], torch.Tensor], n: int, batch_size: int) -> None:
    """Raise ObjectiveError if a norm layer fails on the last batch, which has a single example."""
    try:
        with torch.no_grad():
            losses_of(n - 1, n)
    except _MISFITS as error:
        raise ObjectiveError(
            f"{n} examples in batches of {batch_size} leave a last batch of one, which has no batch statistics. "
            "Choose another batch_size (it is part of the objective where a layer couples the batch)."
        ) from error


def _bytes(output: Any) -> int:
    return output.numel() * output.element_size() if isinstance(output, torch.Tensor) else 0
