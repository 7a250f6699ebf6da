"""One pass over the evaluation set: chunks divided among replicas of the model, sums in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from lcakit.errors import ObjectiveError
from lcakit.record.objective.data import Batch, Chunk, EvaluationSet
from lcakit.record.objective.isolation import ThreadTeam, arithmetic, seed_generators
from lcakit.record.objective.losses.resolve import ExampleLoss, Found
from lcakit.record.objective.replicas import Replica
from lcakit.record.objective.tally import Evaluation, Tally, right_answers, weighted

__all__ = ["Evaluation", "Sweep"]


def __dir__() -> list[str]:
    return __all__


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
    """What a pass needs besides θ; ``classifies`` says that accuracy has a meaning.

    ``noise`` is the seed of fixed noise, or None. ``mass`` is Σ w once it is known, of which the loss is a mean.
    """

    replicas: list[Replica]
    data: EvaluationSet
    loss: ExampleLoss
    team: ThreadTeam
    precision: str
    classifies: bool
    noise: int | None = None
    mass: float | None = None

    @property
    def n_classes(self) -> int:
        """C, or 0 without classes or groups."""
        return self.data.groups.n

    def run(self, flat: torch.Tensor, batch_size: int, *, gradient: bool, classes: bool, accuracy: bool) -> Evaluation:
        """Evaluate each share on a replica of its own; ``flat`` is the θ that the replicas view."""
        device = flat.device
        shares = self.data.shares(len(self.replicas), batch_size, by_class=classes and gradient)
        tally = Tally.empty(self.data, device, len(shares))
        height = (self.n_classes if classes else 1) if gradient else 0
        total = torch.zeros((height, len(flat)), dtype=flat.dtype, device=device)
        owners = [{chunk.label for chunk in share} for share in shares]
        count = accuracy and self.classifies

        def work(index: int) -> tuple[torch.Tensor, _Rows]:
            others: set[int | None] = set().union(*(labels for k, labels in enumerate(owners) if k != index))
            rows = _Rows(total, others)
            correct = torch.zeros((), dtype=torch.int64, device=device)
            with arithmetic(self.precision, device), torch.set_grad_enabled(gradient):
                for chunk, batch in self.data.batches(shares[index]):
                    found = self._found(self.replicas[index], chunk, batch)
                    terms = tally.add(index, chunk, batch, found)
                    if terms.requires_grad:
                        self._backward(self.replicas[index], chunk, batch, terms, rows, classes)
                    if count:
                        correct += right_answers(found, batch)
            return correct, rows

        try:
            parts = self.team.map(work, range(len(shares)))
        finally:  # a gradient is as large as the network, for each class
            for replica in self.replicas:
                replica.release_gradients()
        for _, rows in parts:
            rows.add_private()
        correct = sum(int(right) for right, _ in parts) if count else None  # a GPU waits for this
        mass = self._mass(tally)
        total /= mass
        return tally.evaluation(mass, (total if classes else total[0]) if gradient else None, correct)

    def _found(self, replica: Replica, chunk: Chunk, batch: Batch) -> Found:
        if self.noise is not None:
            seed_generators(self.noise + chunk.start)
        return self.loss(replica.model, batch.content)

    def _backward(
        self, replica: Replica, chunk: Chunk, batch: Batch, terms: torch.Tensor, rows: _Rows, classes: bool
    ) -> None:
        """Add the gradient of the sum of the terms of a chunk, or one for the part of each group."""
        if classes and chunk.label is None and batch.groups is not None:  # the batch cannot be cut by group
            present = chunk.present or batch.groups.unique().tolist()
            for label in present:
                replica.bind_gradient(rows.of(label, None))
                (terms * _like(batch.groups == label, terms)).sum().backward(retain_graph=label != present[-1])
        else:
            replica.bind_gradient(rows.of(chunk.label or 0, chunk.label))
            terms.sum().backward()

    def _mass(self, tally: Tally) -> float:
        """Return Σ w; raise ObjectiveError if it is zero, or not that of earlier passes."""
        mass = tally.mass()
        if not mass > 0:
            raise ObjectiveError(
                "the weights of all losses are zero, so there is no mean. Check what the loss ignores, and the weights."
            )
        if self.mass is None:
            self.mass = mass
        elif abs(mass - self.mass) > 1e-6 * self.mass:
            raise ObjectiveError(
                f"the weights add up to {mass:g}, in an earlier pass to {self.mass:g}: they must not change with the "
                "parameters or from pass to pass."
            )
        return mass

    def survey(self, flat: torch.Tensor, batch_size: int) -> None:
        """Make one pass that looks at every batch, so that errors come before anything long starts."""
        (share,) = self.data.shares(1, batch_size, by_class=False)
        tally = Tally.empty(self.data, flat.device, 1)
        with arithmetic(self.precision, flat.device), torch.no_grad():
            for chunk, batch in self.data.batches(share):
                found = self._found(self.replicas[0], chunk, batch)
                check_batch(chunk, batch, found)
                tally.add(0, chunk, batch, found)
        self._mass(tally)


def check_batch(chunk: Chunk, batch: Batch, found: Found) -> None:
    """Raise ObjectiveError unless a batch has losses that are finite where they count, and groups in their shape."""
    where = f"examples {chunk.start} … {chunk.stop - 1}"
    terms, weights = weighted(found, batch.weights)
    if len(found.losses) != chunk.stop - chunk.start:
        raise ObjectiveError(
            f"{where}: the loss returned {len(found.losses)} values for {chunk.stop - chunk.start} examples. The first "
            "dimension of the losses is the examples of the batch."
        )
    if weights is not None and bool(((weights < 0) | ~weights.isfinite()).any()):
        raise ObjectiveError(f"{where}: weights must be finite and not negative, got {float(weights.min()):g}.")
    if not bool(terms.isfinite().all()):
        raise ObjectiveError(f"{where}: the loss is not finite at the model's current parameters.")
    if batch.groups is not None and batch.groups.dim() > 1 and batch.groups.shape != found.losses.shape:
        raise ObjectiveError(
            f"groups have shape {tuple(batch.groups.shape)}, the losses {tuple(found.losses.shape)}: give one group "
            "for each loss, or for each example. (Of the T tokens of a sequence the last T - 1 are predicted: "
            "groups[:, 1:].)"
        )


def _like(mask: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
    """Return a mask of examples or positions that multiplies terms (n, …)."""
    return mask if mask.dim() == terms.dim() else mask.reshape(len(mask), *(1,) * (terms.dim() - 1))
