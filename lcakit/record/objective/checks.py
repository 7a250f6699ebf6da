"""Checks of the model and the loss on a few examples, so that errors come before anything long starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lcakit.errors import ObjectiveError
from lcakit.record.objective.describe import see
from lcakit.record.objective.isolation import places_of_generators
from lcakit.record.objective.losses.resolve import Found
from lcakit.record.objective.tally import weighted
from lcakit.record.units.seen import Seen

__all__ = ["MISFITS", "Probe", "check_last_batch", "check_losses", "depends_on_batch", "probe", "usable_device"]


def __dir__() -> list[str]:
    return __all__


MISFITS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, AssertionError)


@dataclass(frozen=True)
class Probe:
    """What a forward pass on two examples shows.

    ``units`` is what it shows of units and norm layers, ``activation_bytes`` is per example, and ``output_shape`` is
    that of the output for the two examples, empty where it is not a tensor.
    """

    units: Seen
    activation_bytes: float
    output_shape: tuple[int, ...]


def probe(model: nn.Module, run: Callable[[], Any], examples: int, input_bytes: int) -> Probe:
    """Run the model on a few examples, as ``run()`` does; it returns the output, if that is known."""
    sizes = [input_bytes]
    leaves = [m for m in model.modules() if not list(m.children())]
    handles = [m.register_forward_hook(lambda _m, _i, out: sizes.append(_bytes(out))) for m in leaves]
    outputs: list[Any] = []
    try:
        with torch.no_grad():
            units = see(model, lambda: outputs.append(run()))
    finally:
        for handle in handles:
            handle.remove()
    output = outputs[0]
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else ()
    return Probe(units, sum(sizes) / examples, shape)


def usable_device(device: str | torch.device) -> torch.device:
    """Return the device; raise ObjectiveError if it cannot be used here."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        cuda = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
        raise ObjectiveError(f"device {device!r} cannot be used: {error}. Found a CPU and {cuda}.") from error


_MORE = 14
"""Further evaluations where something random is drawn: of one layer in ten that is left out, one in five would not be
seen; of half of them, one in 30 000."""


def check_losses(found_of: Callable[[int, int], Found], n: int, of_batches: bool, fixed_noise: bool = False) -> None:
    """Raise ObjectiveError unless the first ``n`` examples have finite, repeatable losses, one or more each.

    A layer that is left out now and then makes no difference most of the time: where anything is drawn at random, more
    evaluations are compared.
    """
    try:
        with torch.no_grad():
            found, first = found_of(0, n), places_of_generators()
            again = [found_of(0, n)]
            if places_of_generators() != first:
                again += [found_of(0, n) for _ in range(_MORE)]
    except ObjectiveError:
        raise
    except MISFITS as error:
        what = (
            "batch_loss does not accept the model and a batch"
            if of_batches
            else "the loss does not accept the model's output and y"
        )
        raise ObjectiveError(f"{what}: {error}") from error
    _check_shape(found, n, of_batches)
    losses = weighted(found, None)[0]
    if not bool(torch.isfinite(losses).all()):
        raise ObjectiveError(
            f"the loss is not finite at the model's current parameters (example losses {losses[:4].tolist()} …). "
            "Check the data and the loss function."
        )
    if not all(_is_same(losses, weighted(one, None)[0]) for one in again):
        raise ObjectiveError(
            "the loss differs between two evaluations at the same parameters, so it is not a function of them. "
            "Something random runs even in eval mode: use nn.Dropout, or F.dropout(…, training=self.training); or a "
            "pass changes the model (a counter, a cache), which must go; or "
            + (
                "let it draw from the global generators of torch, NumPy or random, which fixed_noise=True sets."
                if fixed_noise
                else "pass fixed_noise=True, which gives each batch the same random numbers every time."
            )
        )


def _is_same(losses: torch.Tensor, repeated: torch.Tensor) -> bool:
    """Compare by bits, on a GPU nearly: additions may come in any order there."""
    return torch.equal(losses, repeated) or (losses.is_cuda and torch.allclose(losses, repeated, rtol=1e-5))


_REDUCED = (
    'Use reduction="none" and average over everything but the examples: nn.CrossEntropyLoss(reduction="none"), or '
    'lambda output, y: F.cross_entropy(output, y, reduction="none"), which loss="cross_entropy" is by name. '
    "functools.partial(lk.losses.cross_entropy, class_weight=…) has class weights, ignore_index and label_smoothing."
)
_AVERAGED = (
    "Average over everything but the examples, lambda output, y: loss(output, y).flatten(1).mean(1), or return a pair, "
    "(losses, weights), where positions weigh differently (padding)."
)


def _check_shape(found: Found, n: int, of_batches: bool) -> None:
    losses, weights = found.losses, found.weights
    is_tensor = isinstance(losses, torch.Tensor)
    shape = tuple(losses.shape) if is_tensor else type(losses).__name__
    if of_batches and (not is_tensor or losses.dim() == 0 or len(losses) == 0):
        raise ObjectiveError(
            f"batch_loss must return one loss per example (n, …), or (losses, weights); it returned {_told(losses)}. "
            'Do not average: use reduction="none".'
        )
    if not of_batches and (shape != (n,) if weights is None or not is_tensor else len(losses) != n):
        raise ObjectiveError(
            f"the loss must return one value per example: for {n} examples it returned {shape}, expected ({n},). "
            + (_AVERAGED if is_tensor and losses.dim() > 1 and len(losses) == n else _REDUCED)
        )
    if len(losses) != n:
        raise ObjectiveError(
            f"the loss returned {len(losses)} values for {n} examples. The first dimension of the losses is the "
            "examples of the batch."
        )
    if not losses.is_floating_point():
        raise ObjectiveError(f"losses must be real numbers with a fraction, got {losses.dtype}.")
    if weights is None:
        return
    if not isinstance(weights, torch.Tensor) or weights.shape != losses.shape:
        got = tuple(weights.shape) if isinstance(weights, torch.Tensor) else type(weights).__name__
        raise ObjectiveError(f"weights must have the shape of the losses {shape}, got {got}.")
    if bool((weights < 0).any()):
        raise ObjectiveError(f"weights must not be negative, got {float(weights.min()):g}.")


def _told(value: Any) -> str:
    if isinstance(value, torch.Tensor) and value.dim() == 0:
        return "a single number (a mean over the batch?)"
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"


def check_graph(losses: Found, again: Found, parameters: Sequence[torch.Tensor]) -> None:
    """Raise ObjectiveError if losses depend on tensors that learn and are not parameters of the evaluated copy.

    Or if they depend on none of its parameters, or their weights depend on anything that learns.

    Parameters
    ----------
    losses, again
        Losses of two evaluations, with their graphs: what both depend on was there before. (A network may take
        gradients itself, with respect to tensors that it makes for that.)
    parameters
        What they may depend on.
    """
    if losses.weights is not None and losses.weights.requires_grad:
        raise ObjectiveError(
            "the weights of the losses depend on the parameters, so Σ wℓ / Σ w is not a mean with fixed weights. "
            "Multiply the losses by them instead, or detach them."
        )
    known = {id(parameter) for parameter in parameters}
    reached = {id(leaf) for leaf in _graph_leaves(again.losses)}
    before = reached - known
    found = [tuple(leaf.shape) for leaf in _graph_leaves(losses.losses) if id(leaf) in before]
    if found:
        shapes = ", ".join(map(str, found[:3]))
        raise ObjectiveError(
            f"the loss depends on tensors that learn and are no parameters of the model: of shape {shapes}. LCA would "
            "miss what they do to the loss. If they are the loss's own, let an nn.Module hold them and give it as it "
            "is: loss=module with forward(output, y), or batch_loss=module with forward(model, batch); they are part "
            "of θ then. If they are the model's (a penalty on its weights, a patched forward method that holds it), "
            "take them from the model that the function is called with: batch_loss=…, (model, batch) -> losses."
        )
    if not reached & known:
        raise ObjectiveError(
            "the loss depends on no parameter of the model: no gradient flows back from it. Look for detach(), "
            "torch.no_grad() or a conversion to NumPy in the model or the loss."
        )


def _graph_leaves(losses: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the leaves of an autograd graph that collect gradients."""
    seen: set[Any] = set()
    open_nodes = [losses.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        open_nodes += [following for following, _ in node.next_functions]
        if isinstance(leaf := getattr(node, "variable", None), torch.Tensor):
            yield leaf


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
    except MISFITS as error:
        raise ObjectiveError(
            f"{n} examples in batches of {batch_size} leave a last batch of one, which has no batch statistics. "
            "Choose another batch_size (it is part of the objective where a layer couples the batch)."
        ) from error


def _bytes(output: Any) -> int:
    return output.numel() * output.element_size() if isinstance(output, torch.Tensor) else 0
