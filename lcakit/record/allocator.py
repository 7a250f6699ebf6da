"""The allocator: walks along snapshots, and allocates each change of the loss by a path integral."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.errors import DivergedError, RecordingError, unknown
from lcakit.labels import Labels
from lcakit.record.objective import Evaluation, Objective
from lcakit.record.quadrature import Segment, check_settings, refine

CLASS_RESOLUTIONS = ("unit", "parameter", None)
Row = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """How an allocation is computed: quadrature rule, tolerance, most splits, class resolution."""

    rule: str = "rk4"
    tolerance: float | None = 1e-3
    max_splits: int = 32
    classes: str | None = "unit"

    def __post_init__(self) -> None:
        check_settings(self.rule, self.tolerance, self.max_splits)
        if self.classes not in CLASS_RESOLUTIONS:
            raise unknown("class resolution", self.classes, CLASS_RESOLUTIONS)

    def attrs(self) -> dict[str, Any]:
        """Return the root attributes that describe it."""
        return {
            "rule": self.rule,
            "tolerance": -1.0 if self.tolerance is None else self.tolerance,
            "max_splits": self.max_splits,
            "classes": self.classes or "none",
        }


class Allocator:
    """Walks along snapshots and allocates the loss change of each move.

    ``start(θ_0)`` then ``advance(θ_1)``, ``advance(θ_2)``, … Each returns rows for the file; the gradient at the end of
    one move is the beginning of the next, so rk4 costs two gradients a move. Sums are formed in float64 on the
    objective's device, and only the finished rows come to the host.
    """

    def __init__(self, objective: Objective, rule: Rule) -> None:
        self.objective = objective
        self.rule = rule
        self._by_class = rule.classes is not None and objective.class_names is not None
        self._theta: torch.Tensor | None = None
        self._end: Evaluation | None = None

    def start(self, theta: Any) -> Row:
        """Begin at a snapshot; return its row (loss, loss_class, accuracy, gradient)."""
        self._theta = self._vector(theta)
        self._end = self._evaluate(self._theta)
        row = self._snapshot_row(self._end)
        self._total = self._next_total
        self._parts = torch.empty_like(_gradient(self._end), dtype=torch.float64)
        return row

    def advance(self, theta: Any) -> tuple[Row, Row]:
        """Allocate the move from the last snapshot to this one; return (snapshot row, iteration row).

        Raises
        ------
        DivergedError
            If the loss or the gradient at this snapshot is not finite.
        """
        if self._theta is None or self._end is None:
            raise RecordingError("advance() needs a first snapshot: call start(theta) before it")
        here, there = self._theta, self._vector(theta)
        begin, end = self._end, self._evaluate(there)
        row_there = self._snapshot_row(end)
        delta = there - here
        first_order = float(self._total @ delta)
        segment = Segment(
            left=_gradient(begin),
            right=_gradient(end),
            gradient_at=lambda s: _gradient(self._evaluate(here + s * delta, accuracy=False)),
            add=lambda a, b: a.to(torch.float64).add_(b),
        )
        change = end.loss - begin.loss

        def allocation(splits: int) -> tuple[float, torch.Tensor]:
            self._integrate(segment.terms(self.rule.rule, splits), delta)
            total = self._parts.sum(0) if self._by_class else self._parts
            return float(total.sum()) - change, total

        total, residual, splits = refine(allocation, self.rule.rule, self.rule.tolerance, self.rule.max_splits)
        if not np.isfinite(residual):
            raise DivergedError("the gradient is not finite between two snapshots")
        row: Row = {"residual": residual, "splits": splits, "first_order": first_order, "lca": _host(total)}
        if self._by_class:
            row |= self._class_row(self._parts)
        self._theta, self._end, self._total = there, end, self._next_total
        return row_there, row

    def _integrate(self, terms: list[tuple[float, torch.Tensor]], delta: torch.Tensor) -> None:
        """Write Σ weight · gradient · Δθ to the buffer of the parts, float64, in as few passes as there are terms."""
        (first, value), *rest = terms
        self._parts.copy_(value)
        for weight, value in rest:
            self._parts.add_(value, alpha=weight / first)
        self._parts.mul_(delta * first)

    def _class_row(self, parts: torch.Tensor) -> Row:
        if self.rule.classes == "parameter":
            return {"lca_class": _host(parts), "lca_unit_class": _host(self._unit_sums(parts).T)}
        return {"lca_unit_class": _host(self._unit_sums(parts).T)}

    def _unit_sums(self, parts: torch.Tensor) -> torch.Tensor:
        """Sum (C, K) over the parameters of each unit: (C, U). Fixed order, no scatter: the same on every device."""
        labels = self.objective.labels
        out = parts.new_zeros((len(parts), labels.n_units))
        for spec, offset in zip(labels.tensors, labels.offsets, strict=True):
            view = parts[:, offset : offset + spec.size].reshape(len(parts), *spec.unit_view)
            first = labels.first_unit[spec.layer]
            out[:, first : first + spec.n_units] += view.sum((2, 4)).flatten(1)
        return out

    def _vector(self, theta: Any) -> torch.Tensor:
        """Return θ in float64 on the device. Snapshots are float32 in the file, so they are here."""
        tensor = theta if isinstance(theta, torch.Tensor) else torch.as_tensor(np.asarray(theta))
        return tensor.to(self.objective.device).to(torch.float32).to(torch.float64)

    def _evaluate(self, theta: torch.Tensor, accuracy: bool = True) -> Evaluation:
        return self.objective.evaluate(theta, classes=self._by_class, accuracy=accuracy)

    def _snapshot_row(self, at: Evaluation) -> Row:
        gradient = _gradient(at)
        self._next_total = gradient.sum(0, dtype=torch.float64) if self._by_class else gradient.to(torch.float64)
        row: Row = {"loss": at.loss, "accuracy": at.accuracy, "gradient": _host(self._next_total)}
        if at.class_losses is not None:
            row["loss_class"] = at.class_losses
        if not np.isfinite(at.loss):
            raise DivergedError(f"the loss is {at.loss}")
        if not np.isfinite(row["gradient"]).all():
            raise DivergedError(f"the gradient has entries that are not finite (the loss is {at.loss})")
        return row


def _gradient(evaluation: Evaluation) -> torch.Tensor:
    if evaluation.gradient is None:
        raise RecordingError("an allocation needs gradients, and this evaluation has none")
    return evaluation.gradient


def _host(tensor: torch.Tensor) -> np.ndarray:
    return tensor.to(torch.float32).cpu().numpy()


@dataclass(frozen=True)
class Facts:
    """What is known of an objective without its data: what a file must agree with, and what is written in it."""

    labels: Labels
    class_names: tuple[str, ...] | None
    loss_unit: str
    attrs: Row


def facts_of(objective: Objective) -> Facts:
    """Return the facts of an objective; they can be sent from one process to another."""
    return Facts(objective.labels, objective.class_names, objective.loss_unit, objective_attrs(objective))


def objective_attrs(objective: Objective) -> dict[str, Any]:
    """Return the root attributes that describe an objective."""
    return {
        "loss_name": objective.loss_name,
        "loss_unit": objective.loss_unit,
        "n_examples": objective.n_examples,
        "norm_mode": objective.norm_mode,
        "evaluation_batch_size": objective.batch_size,
        "precision": objective.precision,
        "data_fingerprint": objective.data_fingerprint,
        "model_fingerprint": objective.model_fingerprint,
        "device": str(objective.device),
        "torch_version": torch.__version__,
    }


def rows_along(
    source: xr.Dataset,
    allocator: Allocator,
    dropped: Set[str],
    start: int = 0,
    stop: int | None = None,
    done: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Row, Row]]:
    """Yield the rows of the iterations ``start`` to ``stop`` of a stored path, as (snapshot at the end, iteration).

    Before iteration 0 the row of the first snapshot comes, without an iteration. ``done`` is called after each move.
    """
    theta, steps = source["theta"], source["iteration"].values
    first = allocator.start(theta[start].values)
    if start == 0:
        yield _without(first, dropped), {}
    stop = len(steps) if stop is None else stop
    block = max(1, int(2**25 // (4 * theta.sizes["parameter"])))
    for begin in range(start, stop, block):
        for index, vector in enumerate(theta[begin + 1 : min(begin + block, stop) + 1].values, begin):
            try:
                snapshot, iteration = allocator.advance(vector)
            except DivergedError as error:
                raise DivergedError(f"iteration {steps[index]}: {error}") from error
            iteration["iteration"] = steps[index]  # counts the finished moves of an interrupted call
            yield _without(snapshot, dropped), _without(iteration, dropped)
            done()


def _without(row: Row, dropped: Set[str]) -> Row:
    return {name: value for name, value in row.items() if name not in dropped}


def refuse_other_settings(stored: Any, wanted: Row, where: Path) -> None:
    """Raise RecordingError if a recording to continue was made with other settings, naming each difference."""
    ignored = {"device", "torch_version"}
    if stored.get("norm_mode") == wanted.get("norm_mode") == "none":
        ignored.add("evaluation_batch_size")  # which a GPU chooses larger: only the rounding depends on it
    found = {key: v.item() if isinstance(v, np.generic) else v for key, v in stored.items() if key not in ignored}
    differing = [
        f"{key}: stored {found[key]!r}, now {value!r}"
        for key, value in wanted.items()
        if key in found and found[key] != value
    ]
    if differing:
        raise RecordingError(
            f"{where} was begun with other settings, so it cannot be continued with these: {'; '.join(differing)}. "
            "Use the same settings, or remove it to start anew."
        )
