"""Several θ in one pass: a network too small to keep a device busy is evaluated as a batch of networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from lcakit.errors import ObjectiveError
from lcakit.record.objective.data import Batch
from lcakit.record.objective.isolation import arithmetic
from lcakit.record.objective.replicas import Replica
from lcakit.record.objective.sweep import Evaluation, Sweep
from lcakit.record.objective.tally import Tally, right_answers

__all__ = ["FEWEST", "Together", "check_together"]


def __dir__() -> list[str]:
    return __all__


FEWEST = 256
"""On a CPU, chunks of this many examples are not cut further for several θ: dispatch costs there, not memory."""
_CLOSE = {"tf32": 1e-2, "bfloat16": 5e-2}  # relative; 1e-3 in the other precisions
_MISFITS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, NotImplementedError)


@dataclass
class Together:
    """Gradients of one network at several θ, by ``torch.func.vmap``.

    Parameters
    ----------
    sweep
        The pass it replaces: same data, same loss, same order of examples.
    replicas
        One network for each thread, of PyTorch's own layers, which vmap knows.
    names
        The parameters' names, in the order of θ.
    """

    sweep: Sweep
    replicas: list[Replica]
    names: list[str]

    def run(self, thetas: torch.Tensor, classes: bool, batch_size: int) -> list[Evaluation]:
        """Evaluate each θ of (S, K) over the whole set; sums over chunks have a fixed order."""
        sweep, count, device = self.sweep, len(thetas), thetas.device
        fewest = FEWEST if device.type == "cpu" else 1
        size = min(batch_size, max(fewest, batch_size // count))
        shares = sweep.data.shares(len(self.replicas), size, by_class=classes)
        losses = torch.empty((count, sweep.data.n_examples), dtype=torch.float64, device=device)
        total = thetas.new_zeros((count, sweep.n_classes if classes else 1, thetas.shape[1]))

        def work(index: int) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
            rows: dict[int, torch.Tensor] = {}
            correct = torch.zeros(count, dtype=torch.int64, device=device)
            with arithmetic(sweep.precision, device):
                for chunk, batch in sweep.data.batches(shares[index]):
                    row = chunk.label or 0
                    gradient, (each, right) = self.gradients(self.replicas[index], thetas, batch.content)
                    rows[row] = rows[row].add_(gradient) if row in rows else gradient
                    losses[:, chunk.start : chunk.stop] = each
                    correct += right
            return rows, correct

        parts = sweep.team.map(work, range(len(shares)))
        for rows, _ in parts:
            for row, gradient in rows.items():
                total[:, row] += gradient
        n = float(sweep.data.n_examples)
        total /= n
        correct = torch.stack([right for _, right in parts]).sum(0).tolist() if sweep.classifies else [None] * count
        gradients = total if classes else total[:, 0]
        each = zip(losses, gradients, correct, strict=True)
        return [Tally.of(sweep.data, sums).evaluation(n, gradient, right) for sums, gradient, right in each]

    def gradients(self, replica: Replica, thetas: torch.Tensor, batch: Any) -> Any:
        """Return Σ_n ∇ℓ_n (S, K) of a chunk, and its losses (S, n) and right answers (S,)."""
        return vmap(grad(self._loss_of(replica), has_aux=True), (0, None))(thetas, batch)

    def _loss_of(self, replica: Replica) -> Callable[..., Any]:
        whole = _WithLoss(replica.model, self.sweep)

        def loss(theta: torch.Tensor, batch: Any) -> Any:
            names = (f"model.{name}" for name in self.names)
            parameters = dict(zip(names, replica.cut(theta), strict=True))
            each, right = functional_call(whole, parameters, (batch,))
            return each.sum(), (each, right)

        return loss

    def check(self, theta: torch.Tensor, some: int) -> None:
        """Raise ObjectiveError unless the gradients of ``some`` examples are those of one θ after the other."""
        thetas = torch.stack([theta, 1.01 * theta])
        batch = self.sweep.data.take(0, some).content
        loss = self._loss_of(self.replicas[0])

        def alone(flat: torch.Tensor) -> torch.Tensor:
            flat = flat.clone().requires_grad_(True)
            with torch.enable_grad():
                return torch.autograd.grad(loss(flat, batch)[0], flat)[0]

        try:
            with arithmetic(self.sweep.precision, theta.device):
                expected = torch.stack([alone(flat) for flat in thetas])
                found, _ = self.gradients(self.replicas[0], thetas, batch)
        except _MISFITS as error:
            raise _cannot(str(error)) from error
        close = _CLOSE.get(self.sweep.precision, 1e-3)
        if not torch.allclose(found, expected, rtol=close, atol=close * float(expected.abs().max())):
            raise _cannot("its gradients differ from those of one θ after the other")


class _WithLoss(nn.Module):
    """A network and its loss as one function of parameters: batch -> losses of examples, and right answers."""

    def __init__(self, model: nn.Module, sweep: Sweep) -> None:
        super().__init__()
        self.model, self.sweep = model, sweep

    def forward(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses (n,), and how many answers are right."""
        found = self.sweep.loss(self.model, batch)
        if found.weights is not None or found.losses.dim() != 1:
            raise ValueError("its losses have weights, or are of positions")
        counts = self.sweep.classifies
        right = right_answers(found, Batch(batch)) if counts else found.losses.new_zeros(()).to(torch.int64)
        return found.losses, right


def _cannot(why: str) -> ObjectiveError:
    return ObjectiveError(f"the network cannot be evaluated at several θ at once: {why}. Leave together out.")


def check_together(together: Any, coupled: bool, divided: bool = False) -> None:
    """Raise ObjectiveError unless that many θ can be evaluated at once, of ``divided`` batches or weighted examples."""
    if isinstance(together, bool) or not isinstance(together, int) or together < 1:
        raise ObjectiveError(f"together must be a whole number of at least 1 (θ at once), got {together!r}")
    if together > 1 and coupled:
        raise _cannot("a layer (BatchNorm) couples the examples of a batch")
    if together > 1 and divided:
        raise _cannot("examples have weights, or batches mix their groups")
