"""From a model, data and a loss to the parts that evaluate an objective, each checked on a few examples first."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lcakit.errors import ObjectiveError, unknown
from lcakit.record.objective import checks, chunks
from lcakit.record.objective.data import EvaluationSet, Storage
from lcakit.record.objective.describe import describe, model_fingerprint
from lcakit.record.objective.evaluator import Evaluator
from lcakit.record.objective.gathering import Given, gather, gather_pairs
from lcakit.record.objective.groups import Groups, find_groups
from lcakit.record.objective.isolation import Numerics, ThreadTeam
from lcakit.record.objective.layout import fastest_layout
from lcakit.record.objective.live import LiveModel
from lcakit.record.objective.losses.resolve import ExampleLoss, warn_of_means
from lcakit.record.objective.memory import keep_freed_memory
from lcakit.record.objective.replicas import Replica, make_replica
from lcakit.record.objective.side_by_side import WORTH_A_THREAD, SideBySide, passes_at_once
from lcakit.record.objective.sources import Columns, Items, Source, ranges
from lcakit.record.objective.sweep import Sweep
from lcakit.record.objective.tally import weighted
from lcakit.record.objective.targets import find_targets
from lcakit.record.objective.together import Together, check_together
from lcakit.record.objective.trees import mapped, tensors, with_first
from lcakit.record.objective.trial import Trial
from lcakit.record.objective.weights import example_weights
from lcakit.record.objective.with_loss import learning_part
from lcakit.trajectory.labels import Labels

__all__ = ["Division", "Parts", "Wanted", "build"]


def __dir__() -> list[str]:
    return __all__


_MOST_WORKERS = 8
_RESIDENT = ("auto", True, False)
_NORMS = ("auto", "batch", "running")


@dataclass(frozen=True)
class Wanted:
    """The evaluation set, as the user asked: data, names of classes, groups with their names and the word for one."""

    data: Any
    class_names: Sequence[str] | None = None
    groups: Any = None
    group_names: Sequence[str] | None = None
    group_kind: str = "group"
    weights: Any = None
    collate_fn: Any = None
    resident: Any = "auto"
    noise: int | None = None
    norm: str = "auto"


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
    groups: Groups
    model_fingerprint: str
    data_fingerprint: str
    data: EvaluationSet
    evaluator: Evaluator
    norm_mode: str


def build(live: LiveModel, wanted: Wanted, loss: ExampleLoss, numerics: Numerics, division: Division) -> Parts:
    """Build the parts of an objective of a live model.

    Raises
    ------
    ObjectiveError
        If the data, labels, loss or model cannot be used.
    """
    if wanted.resident not in _RESIDENT:
        raise unknown("value of resident", wanted.resident, _RESIDENT, ObjectiveError)
    if wanted.norm not in _NORMS:
        raise unknown("statistics of norm layers", wanted.norm, _NORMS, ObjectiveError)
    given = (gather if loss.of_batches else gather_pairs)(wanted.data, wanted.collate_fn, wanted.resident)
    storage = Storage(numerics.device, numerics.cast, given.resident)
    source = _cast(given.source, numerics)
    with numerics.isolated():
        replica = make_replica(live.model, numerics, norm=wanted.norm)
        trial = Trial(replica, loss, source, storage, numerics, wanted.noise)
        seen = trial.probe()
        labels = describe(live.model, seen.units)
        source = trial.counted()
        source, groups, classifies = _sorted_out(source, wanted, loss, seen.output_shape, storage)
        trial = replace(trial, source=source)
        coupled, written = trial.couples_batch(), trial.writes()
    weights = None if wanted.weights is None else example_weights(wanted.weights, source.n_examples)
    size = _size(division.batch_size, given, seen.activation_bytes, numerics.device, coupled)
    examples = EvaluationSet(source, groups, storage, coupled, size, weights, written)
    check_together(division.together, coupled, examples.by_products or weights is not None)
    if coupled and source.edges is None and 1 in (size, source.n_examples % size):
        with numerics.isolated():
            checks.check_last_batch(trial.losses_of, source.n_examples, size)
    fingerprint = model_fingerprint(learning_part(replica.model), labels)
    team = ThreadTeam(_n_workers(division.workers, numerics.device, examples, size, wanted.noise))
    copy = functools.partial(make_replica, live.model, numerics, norm=wanted.norm)
    replicas = [replica, *(copy() for _ in range(team.workers - 1))]
    if numerics.device.type == "cpu":
        keep_freed_memory()
    _lay_out(examples, trial)
    sweep = Sweep(replicas, examples, loss, team, numerics.precision, classifies, wanted.noise)
    flat = _shared_theta(replicas, torch.empty(labels.n_parameters, dtype=numerics.dtype, device=numerics.device))
    if loss.of_batches or weights is not None:
        _survey(sweep, flat, live, numerics, size)
    several = _several(live, sweep, numerics, trial.some) if division.together > 1 else None
    beside = None
    if division.workers == "auto" and several is None and _threads_help(numerics.device, examples, wanted.noise):
        beside = _side_by_side(sweep, flat, copy, size, seen.activation_bytes)
    evaluator = Evaluator(numerics, flat, sweep, beside, several, size)
    return Parts(labels, groups, fingerprint, trial.fingerprint(wanted), examples, evaluator, trial.norm_mode(coupled))


def _cast(source: Source, numerics: Numerics) -> Source:
    """Return tensors of floating-point numbers in the type of θ; other batches are cast when they are put in place."""
    return Columns(mapped(numerics.cast, source.tree)) if isinstance(source, Columns) else source


def _sorted_out(
    source: Source, wanted: Wanted, loss: ExampleLoss, output_shape: tuple[int, ...], storage: Storage
) -> tuple[Source, Groups, bool]:
    """Return the examples with their targets as the loss takes them, their groups, and whether accuracy has a meaning.

    Classes are the groups where a loss of outputs has class numbers for targets, and the user gave no other groups.
    """
    classifies, groups = False, Groups()
    if not loss.of_batches:
        whole = isinstance(source, Columns)
        y = source.tree[1] if isinstance(source, Columns) else _all_targets(source)
        warn_of_means(loss.function, y)
        found = find_targets(y, wanted.class_names, loss.name, loss.takes_classes, output_shape)
        classifies, groups = found.classifies, Groups(found.class_names, found.labels)
        if isinstance(source, Columns) and whole:
            source = Columns((source.tree[0], found.y))
    if wanted.groups is not None:
        groups = find_groups(wanted.groups, wanted.group_names, wanted.group_kind, source, storage.put)
    return source, groups, classifies


def _all_targets(source: Source) -> torch.Tensor:
    """Return the targets of examples that are not in one tensor."""
    parts = [source.take(a, b)[1] for a, b in ranges(source)]
    if len({part.shape[1:] for part in parts}) > 1:
        parts = [part.reshape(len(part), -1)[:, :1] for part in parts]  # positions: their classes are no groups
    return torch.cat(parts)


def _size(wanted: int | str, given: Given, activation_bytes: float, device: torch.device, coupled: bool) -> int:
    """Return the examples of a chunk: as asked, as the loader has them, or by their memory."""
    if given.source.edges is not None:
        return max(b - a for a, b in ranges(given.source))
    size = given.batch_size if wanted == "auto" and given.batch_size else wanted
    return chunks.batch_size(size, given.source.n_examples, activation_bytes, device, coupled)


def _threads_help(device: torch.device, examples: EvaluationSet, noise: int | None) -> bool:
    """Say whether parts of a pass can be computed at the same time, on threads."""
    one_generator = noise is not None  # which is seeded
    return device.type == "cpu" and not one_generator and not isinstance(examples.source, Items)  # a Dataset may not


def _useful_threads(examples: EvaluationSet, size: int) -> int:
    """Return how many threads have examples of a pass to work on."""
    n = examples.n_examples
    return max(1, -(-n // size) if examples.fixed else n // WORTH_A_THREAD)


def _n_workers(wanted: int | str, device: torch.device, examples: EvaluationSet, size: int, noise: int | None) -> int:
    """Return the number of threads."""
    if device.type != "cpu" or noise is not None:
        return 1
    if wanted == "auto":
        useful = _useful_threads(examples, size) if _threads_help(device, examples, noise) else 1
        return min(torch.get_num_threads(), _MOST_WORKERS, useful)
    if not isinstance(wanted, int) or wanted < 1:
        raise ObjectiveError(f'workers must be "auto" or a positive integer, got {wanted!r}')
    return wanted


def _survey(sweep: Sweep, flat: torch.Tensor, live: LiveModel, numerics: Numerics, size: int) -> None:
    """Look at every batch, at the model's present parameters."""
    flat.copy_(live.flat(numerics.dtype))
    with numerics.isolated():
        sweep.survey(flat, size)


def _side_by_side(
    sweep: Sweep, flat: torch.Tensor, copy: Callable[[], Replica], size: int, activation_bytes: float
) -> SideBySide | None:
    """Return passes at the same time, each with networks and a θ of its own; None where one at a time is as fast."""
    threads, chunks = torch.get_num_threads(), _useful_threads(sweep.data, size)
    at_once = passes_at_once(threads, chunks, sweep.data.n_examples, size * activation_bytes)
    if at_once == 1:
        return None
    passes = []
    for _ in range(at_once):
        replicas = [copy() for _ in range(min(threads // at_once, chunks))]
        own = replace(sweep, replicas=replicas, team=ThreadTeam(len(replicas)))
        passes.append((_shared_theta(replicas, flat), own))
    return SideBySide(passes)


def _lay_out(examples: EvaluationSet, trial: Trial) -> None:
    """Store the examples in the memory layout and type that the network is fastest with."""
    model = trial.replica.model

    def losses_of(x: torch.Tensor) -> torch.Tensor:
        content = with_first(examples.take(0, len(x)).content, x)
        return weighted(trial.loss(model, content), None)[0]

    def fastest(x: torch.Tensor) -> torch.Tensor:
        return fastest_layout(x, model, trial.numerics.precision, losses_of, trial.some)

    if not examples.written and tensors(examples.take(0, trial.some).content):
        with trial.numerics.isolated(), torch.no_grad():
            examples.lay_out(fastest)


def _shared_theta(replicas: Sequence[Replica], like: torch.Tensor) -> torch.Tensor:
    """Return a vector (K,), not set yet, that the parameters of all replicas are views of."""
    flat = torch.empty_like(like)
    for replica in replicas:
        replica.bind_theta(flat)
    return flat


def _several(live: LiveModel, sweep: Sweep, numerics: Numerics, some: int) -> Together:
    """Return what evaluates several θ at once, after comparing it with one θ after the other."""
    replicas = [make_replica(live.model, numerics, tuned=False) for _ in sweep.replicas]
    places = {id(parameter): name for name, parameter in replicas[0].model.named_parameters()}
    several = Together(sweep, replicas, [places[id(parameter)] for parameter in replicas[0].parameters])
    with numerics.isolated():
        several.check(live.flat(numerics.dtype).to(numerics.device), some)
    return several
