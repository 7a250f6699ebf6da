"""From a model, data and a loss to the parts that evaluate an objective, each checked on a few examples first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lcakit.errors import ObjectiveError
from lcakit.record.objective import checks, chunks
from lcakit.record.objective.data import EvaluationSet, as_tensors
from lcakit.record.objective.describe import couples_batch, describe, model_fingerprint, trainable_parameters
from lcakit.record.objective.evaluator import Evaluator
from lcakit.record.objective.isolation import Numerics, ThreadTeam, arithmetic
from lcakit.record.objective.layout import fastest_layout
from lcakit.record.objective.live import LiveModel
from lcakit.record.objective.losses import ExampleLoss
from lcakit.record.objective.memory import keep_freed_memory
from lcakit.record.objective.replicas import Replica, make_replica
from lcakit.record.objective.sweep import Sweep
from lcakit.record.objective.targets import find_targets
from lcakit.record.objective.together import Together, check_together
from lcakit.trajectory.labels import Labels

__all__ = ["Division", "Parts", "build"]


def __dir__() -> list[str]:
    return __all__


_SOME = 16  # examples that checks look at
_MOST_WORKERS = 8
_WORTH_A_THREAD = 256  # examples
_HALF = ("tf32", "bfloat16")  # too coarse to see whether a layer couples the batch


@dataclass(frozen=True)
class Division:
    """How passes are divided, as the user asked: examples per chunk, threads, and θ evaluated at once."""

    batch_size: int | str
    workers: int | str
    together: int


@dataclass(frozen=True)
class Parts:
    """What an objective is made of: the layout of θ, the evaluation set, and what evaluates the loss over it."""

    labels: Labels
    class_names: tuple[str, ...] | None
    model_fingerprint: str
    data: EvaluationSet
    evaluator: Evaluator


@dataclass(frozen=True)
class _Trial:
    """One replica with the examples as the user gave them, to see on a few of them what the objective is like."""

    replica: Replica
    loss: ExampleLoss
    x: torch.Tensor
    y: torch.Tensor
    numerics: Numerics

    @property
    def some(self) -> int:
        return min(len(self.x), _SOME)

    def losses_of(self, start: int, stop: int) -> torch.Tensor:
        """Return the losses of a range of examples."""
        device = self.numerics.device
        return self.loss.function(self.replica.model(self.x[start:stop].to(device)), self.y[start:stop].to(device))

    def couples_batch(self) -> bool:
        """Check the loss, then say whether that of one example depends on the others in its batch."""
        checks.check_losses(self.losses_of, self.some)
        precision = "float32" if self.numerics.precision in _HALF else self.numerics.precision
        with arithmetic(precision, self.numerics.device):
            return couples_batch(self.replica.model) or checks.depends_on_batch(self.losses_of, self.some)


def build(
    live: LiveModel,
    data: Any,
    loss: ExampleLoss,
    class_names: Sequence[str] | None,
    numerics: Numerics,
    division: Division,
) -> Parts:
    """Build the parts of an objective of a live model; the other arguments are those of :class:`lcakit.Objective`.

    Raises
    ------
    ObjectiveError
        If the data, labels, loss or model cannot be used.
    """
    x, y = (numerics.cast(part) for part in as_tensors(data))
    with numerics.isolated():
        replica = make_replica(live.model, numerics)
        seen = checks.probe(replica.model, x, numerics.device)
        labels = describe(live.model, seen.call_order)
        targets = find_targets(y, class_names, loss.takes_classes, seen.output_shape)
        trial = _Trial(replica, loss, x, targets.y, numerics)
        coupled = trial.couples_batch()
    check_together(division.together, coupled)
    examples = EvaluationSet(x, targets.y, targets.labels, targets.n_classes, numerics.device, coupled)
    size = chunks.batch_size(division.batch_size, len(x), seen.activation_bytes, numerics.device, coupled)
    if coupled and 1 in (size, len(x) % size):
        with numerics.isolated():
            checks.check_last_batch(trial.losses_of, len(x), size)
    fingerprint = model_fingerprint(replica.model, labels)
    team = ThreadTeam(_n_workers(division.workers, numerics.device, len(x), size if coupled else None))
    replicas = [replica, *(make_replica(live.model, numerics) for _ in range(team.workers - 1))]
    if numerics.device.type == "cpu":
        keep_freed_memory()
    _lay_out(examples, trial)
    sweep = Sweep(replicas, examples, loss.function, team, numerics.precision, targets.n_classes, targets.classifies)
    flat = _shared_theta(replicas, labels.n_parameters, numerics)
    several = _several(live, sweep, numerics, trial.some) if division.together > 1 else None
    evaluator = Evaluator(numerics, flat, sweep, several, size)
    return Parts(labels, targets.class_names, fingerprint, examples, evaluator)


def _n_workers(wanted: int | str, device: torch.device, n_examples: int, batch: int | None) -> int:
    """Return the number of threads; ``batch`` examples stay together, or None where any can be separated."""
    if device.type != "cpu":
        return 1
    if wanted == "auto":
        useful = n_examples // _WORTH_A_THREAD if batch is None else -(-n_examples // batch)
        return max(1, min(torch.get_num_threads(), _MOST_WORKERS, useful))
    if not isinstance(wanted, int) or wanted < 1:
        raise ObjectiveError(f'workers must be "auto" or a positive integer, got {wanted!r}')
    return wanted


def _lay_out(examples: EvaluationSet, trial: _Trial) -> None:
    """Store the examples in the memory layout and type that the network is fastest with."""
    model, function = trial.replica.model, trial.loss.function

    def losses_of(x: torch.Tensor) -> torch.Tensor:
        return function(model(x), examples.y[: len(x)])

    with trial.numerics.isolated(), torch.no_grad():
        examples.x = fastest_layout(examples.x, model, trial.numerics.precision, losses_of, trial.some)


def _shared_theta(replicas: Sequence[Replica], n_parameters: int, numerics: Numerics) -> torch.Tensor:
    """Return a vector (K,), not set yet, that the parameters of all replicas are views of."""
    flat = torch.empty(n_parameters, dtype=numerics.dtype, device=numerics.device)
    for replica in replicas:
        replica.bind_theta(flat)
    return flat


def _several(live: LiveModel, sweep: Sweep, numerics: Numerics, some: int) -> Together:
    """Return what evaluates several θ at once, after comparing it with one θ after the other."""
    names = [name for name, _ in trainable_parameters(sweep.replicas[0].model)]
    several = Together(sweep, [make_replica(live.model, numerics, tuned=False) for _ in sweep.replicas], names)
    with numerics.isolated():
        several.check(live.flat(numerics.dtype).to(numerics.device), some)
    return several
