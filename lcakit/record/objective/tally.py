"""Sums of losses over a pass, and the mean that the objective is: Σ wℓ / Σ w."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from lcakit.errors import ObjectiveError
from lcakit.record.objective.data import Batch, Chunk, EvaluationSet
from lcakit.record.objective.losses.resolve import Found

__all__ = ["Evaluation", "Tally", "right_answers", "weighted"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Evaluation:
    """One pass over the evaluation set at one θ.

    ``loss`` is the mean loss, ``class_losses`` (C,) its parts by class or group, ``accuracy`` NaN where the task has
    none or it was not asked for; ``gradient`` is on the objective's device: (K,), or (C, K) when asked by class, or
    None.
    """

    loss: float
    class_losses: np.ndarray | None
    accuracy: float
    gradient: torch.Tensor | None


def weighted(found: Found, of_examples: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return wℓ in the shape of the losses, and w, None where all weights are 1; what has no weight is 0."""
    losses, weights = found.losses, found.weights
    if of_examples is not None:
        of_examples = of_examples.reshape(len(of_examples), *(1,) * (losses.dim() - 1)).to(losses.dtype)
        weights = of_examples.expand_as(losses) if weights is None else weights * of_examples
    if weights is None:
        return losses, None
    weights = weights.detach().to(losses.dtype)
    return losses.masked_fill(weights == 0, 0.0) * weights, weights


def right_answers(found: Found, batch: Batch) -> torch.Tensor:
    """Return how many examples have the largest output, or the sign of their one output, at their class."""
    output, y = found.output.detach(), batch.content[1]
    guess = output.argmax(1) if output.dim() == 2 and output.shape[1] > 1 else (output.reshape(-1) > 0).to(y.dtype)
    right: torch.Tensor = (guess == y).sum()
    return right


@dataclass
class Tally:
    """What a pass adds up in float64: Σ_k wℓ of each example (n,) and Σ_k w, and the sums by group of positions.

    Examples keep their places, so that the order of additions does not depend on how the work is divided.
    """

    data: EvaluationSet
    sums: torch.Tensor
    weights: torch.Tensor
    by_position: torch.Tensor | None
    counted: list[bool] = field(default_factory=lambda: [False])

    @classmethod
    def empty(cls, data: EvaluationSet, device: torch.device, shares: int) -> Tally:
        """Return a tally of nothing, for as many threads."""
        sums, weights = (torch.ones(data.n_examples, dtype=torch.float64, device=device) for _ in range(2))
        positions = data.groups.of_positions is not None
        by_position = torch.zeros((shares, data.groups.n), dtype=torch.float64, device=device) if positions else None
        return cls(data, sums, weights, by_position)

    @classmethod
    def of(cls, data: EvaluationSet, sums: torch.Tensor) -> Tally:
        """Return the tally of the losses (n,) of all examples."""
        return cls(data, sums, sums, None)

    def add(self, share: int, chunk: Chunk, batch: Batch, found: Found) -> torch.Tensor:
        """Add a batch; return its wℓ, whose sum has the gradient."""
        where = slice(chunk.start, chunk.stop)
        terms, weights = weighted(found, batch.weights)
        values = terms.detach()
        if weights is None and values.dim() == 1:
            self.sums[where] = values
        else:
            self.counted[0] = True
            self.sums[where] = values.double().flatten(1).sum(1) if values.dim() > 1 else values
            of_each = torch.ones_like(values) if weights is None else weights
            self.weights[where] = of_each.double().flatten(1).sum(1) if of_each.dim() > 1 else of_each
        if self.by_position is not None and batch.groups is not None:
            if batch.groups.shape != values.shape:
                raise ObjectiveError(
                    f"groups have the shape {tuple(batch.groups.shape)} and the losses {tuple(values.shape)}. "
                    "Give one group for each example, (n,), or one for each loss, in the shape of the losses."
                )
            for group in batch.groups.unique().tolist():
                self.by_position[share, group] += (values * (batch.groups == group)).sum(dtype=torch.float64)
        return terms

    def mass(self) -> float:
        """Return Σ w."""
        return float(self.weights.sum()) if self.counted[0] else float(self.data.n_examples)

    def evaluation(self, mass: float, gradient: torch.Tensor | None, correct: int | None) -> Evaluation:
        """Return the result of a pass."""
        by_class = self._by_class()
        return Evaluation(
            float(self.sums.sum() if by_class is None else by_class.sum()) / mass,
            None if by_class is None else by_class.cpu().numpy() / mass,
            float("nan") if correct is None else correct / self.data.n_examples,
            gradient,
        )

    def _by_class(self) -> torch.Tensor | None:
        if self.by_position is not None:
            return self.by_position.sum(0)
        if self.data.class_counts is None:
            return None
        sums = self.sums if self.data.class_order is None else self.sums[self.data.class_order]
        return torch.stack([part.sum() for part in sums.split(self.data.class_counts)])
