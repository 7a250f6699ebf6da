"""One pass over the evaluation set: chunks divided among replicas of the model, sums in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from lcakit.record.objective.data import Chunk, EvaluationSet
from lcakit.record.objective.isolation import ThreadTeam, arithmetic
from lcakit.record.objective.losses import Loss
from lcakit.record.objective.replicas import Replica

__all__ = ["Evaluation", "Sweep"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Evaluation:
    """One pass over the evaluation set at one θ.

    ``loss`` is the mean loss, ``class_losses`` (C,) its parts by class, ``accuracy`` NaN where the task has none or it
    was not asked for; ``gradient`` is on the objective's device: (K,), or (C, K) when asked by class, or None.
    """

    loss: float
    class_losses: np.ndarray | None
    accuracy: float
    gradient: torch.Tensor | None


@dataclass
class _Rows:
    """Rows of the gradient (one per class, or a single one) that one thread adds to.

    A row that no other thread touches is written in place; a shared one goes through a private buffer.
    """

    total: torch.Tensor
    shared: set[int | None]
    rows: dict[int, torch.Tensor] = field(default_factory=dict)
    private: set[int] = field(default_factory=set)

    def of(self, row: int, owner: int | None) -> torch.Tensor:
        if row not in self.rows:
            shared = owner in self.shared
            self.rows[row] = torch.zeros_like(self.total[row]) if shared else self.total[row]
            self.private |= {row} if shared else set()
        return self.rows[row]

    def add_private(self) -> None:
        for row in sorted(self.private):
            self.total[row] += self.rows[row]


@dataclass
class Sweep:
    """What a pass needs besides θ; ``classifies`` says that accuracy has a meaning."""

    replicas: list[Replica]
    data: EvaluationSet
    per_example: Loss
    team: ThreadTeam
    precision: str
    n_classes: int
    classifies: bool

    def run(self, flat: torch.Tensor, batch_size: int, *, gradient: bool, classes: bool, accuracy: bool) -> Evaluation:
        """Evaluate each share on a replica of its own; ``flat`` is the θ that the replicas view."""
        device, n = flat.device, self.data.n_examples
        shares = self.data.shares(len(self.replicas), batch_size, by_class=classes and gradient)
        losses = torch.empty(n, dtype=torch.float64, device=device)
        height = (self.n_classes if classes else 1) if gradient else 0
        total = torch.zeros((height, len(flat)), dtype=flat.dtype, device=device)
        owners = [{chunk.label for chunk in share} for share in shares]
        count = accuracy and self.classifies

        def work(index: int) -> tuple[torch.Tensor, _Rows]:
            others: set[int | None] = set().union(*(labels for k, labels in enumerate(owners) if k != index))
            rows = _Rows(total, others)
            correct = torch.zeros((), dtype=torch.int64, device=device)
            with arithmetic(self.precision, device), torch.set_grad_enabled(gradient):
                for chunk in shares[index]:
                    output = self._chunk(self.replicas[index], chunk, losses, rows, classes)
                    if count:
                        correct += (output.argmax(1) == self.data.y[chunk.start : chunk.stop]).sum()
            return correct, rows

        try:
            parts = self.team.map(work, range(len(shares)))
        finally:  # a gradient is as large as the network, for each class
            for replica in self.replicas:
                replica.release_gradients()
        for _, rows in parts:
            rows.add_private()
        total /= n
        correct = sum(int(right) for right, _ in parts) if count else None  # a GPU waits for this
        return self.result(losses, (total if classes else total[0]) if gradient else None, correct)

    def result(self, losses: torch.Tensor, gradient: torch.Tensor | None, correct: int | None) -> Evaluation:
        """Return the result of a pass, from the loss of each example (n,) and the number of right answers."""
        n, by_class = self.data.n_examples, self._by_class(losses)
        return Evaluation(
            float(losses.sum() if by_class is None else by_class.sum()) / n,
            None if by_class is None else by_class.cpu().numpy() / n,
            float("nan") if correct is None else correct / n,
            gradient,
        )

    def _chunk(self, replica: Replica, chunk: Chunk, losses: torch.Tensor, rows: _Rows, classes: bool) -> torch.Tensor:
        """Write the losses of one chunk, add its gradient, return the model's output."""
        where = slice(chunk.start, chunk.stop)
        output = replica.model(self.data.x[where])
        each = self.per_example(output, self.data.y[where])
        losses[where] = each.detach()
        if each.requires_grad and classes and self.data.keep_order:
            self._backward_by_class(replica, chunk, each, rows)
        elif each.requires_grad:
            replica.bind_gradient(rows.of(chunk.label or 0, chunk.label))
            each.sum().backward()
        return output.detach() if isinstance(output, torch.Tensor) else output

    def _backward_by_class(self, replica: Replica, chunk: Chunk, each: torch.Tensor, rows: _Rows) -> None:
        """One vector-Jacobian product per class that occurs: with BatchNorm a batch cannot be cut by class."""
        labels = self.data.y[chunk.start : chunk.stop]
        for label in chunk.present:
            replica.bind_gradient(rows.of(label, None))
            (each * (labels == label)).sum().backward(retain_graph=label != chunk.present[-1])

    def _by_class(self, losses: torch.Tensor) -> torch.Tensor | None:
        if self.data.class_counts is None:
            return None
        if self.data.class_order is not None:
            losses = losses[self.data.class_order]
        return torch.stack([part.sum() for part in losses.split(self.data.class_counts)])
