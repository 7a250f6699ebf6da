"""The allocator: walks along snapshots, and allocates each change of the loss by a path integral."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.errors import DivergedError, RecordingError
from lcakit.record.allocation.axis_blocks import pieces_of
from lcakit.record.allocation.integral import Integral, Integrator, Needed, UnitIntegrator, is_finite
from lcakit.record.allocation.quadrature import LEAST_SPLITS, Segment, level_nodes, levels_of, refine
from lcakit.record.allocation.settings import Row, Rule, Stored
from lcakit.record.allocation.statistics import wanted
from lcakit.record.host_copy import to_host
from lcakit.record.objective.objective import Evaluation, Objective
from lcakit.storage import segments
from lcakit.storage.npz import Arrays
from lcakit.trajectory.schema import LAYER_COUNTS


class Allocator:
    """Walks along snapshots and allocates the loss change of each move.

    ``start(θ_0)`` then ``advance(θ_1)``, ``advance(θ_2)``, … Each returns rows for the file; the gradient at the end of
    one move is the beginning of the next, so rk4 costs two gradients a move. Sums are formed in float64 on the
    objective's device, piece by piece, and only what is stored comes to the host. Where the network is large and no
    LCA of single parameters is stored, one gradient by class at a time is in memory.
    """

    def __init__(self, objective: Objective, rule: Rule, stored: Stored | None = None) -> None:
        self.objective = objective
        self.rule = rule
        self.stored = stored or Stored()
        self._by_class = rule.classes is not None and objective.class_names is not None
        height = objective.n_classes if self._by_class else None
        pieces = pieces_of(objective.labels, height or 1)
        self.statistics = wanted(self.stored.statistics, pieces, objective.device)
        lca = "lca" in self.stored.keep
        needed = Needed(
            lca=lca or self.statistics is not None,
            by_class=self._by_class and rule.classes == "parameter",
            units=self._by_class or not lca,
        )
        if height and not lca and not needed.by_class and len(pieces) > 1:
            self._integrator: Integrator = UnitIntegrator(objective.labels, pieces, height, needed)
        else:
            self._integrator = Integrator(objective.labels, pieces, height, needed)
        self._theta: torch.Tensor | None = None
        self._end: Evaluation | None = None
        self._total = torch.empty(0)
        self._nodes = [s for level in range(levels_of(LEAST_SPLITS[rule.rule])) for s in level_nodes(level + 1)]
        self._known: deque[dict[float, Evaluation]] = deque()

    def start(self, theta: Any, first: bool = True) -> Row:
        """Begin at a snapshot; return its row (loss, loss_class, accuracy, gradient).

        ``first`` says that it is the first of the path, whose gradient the statistics count.
        """
        self._known.clear()
        self._theta = self._vector(theta)
        self._end = self._evaluate(self._theta)
        self._total = self._integrator.over_classes(_gradient(self._end))
        row = self._snapshot_row(self._end, self._total)
        if self.statistics is not None and first:
            self.statistics.begin(_single(self._total))
        return row

    @property
    def moves_at_once(self) -> int:
        """How many moves the objective evaluates together."""
        return max(1, self.objective.together // (len(self._nodes) + 1))

    def expect(self, thetas: Iterable[Any]) -> None:
        """Evaluate together what the next moves need, where the objective does that; ``advance`` finds it."""
        if self.objective.together < 2 or self._theta is None:
            return
        path = [self._theta, *map(self._vector, thetas)]
        places = (*self._nodes, 1.0)
        points = [self._between(here, there, s) for here, there in pairwise(path) for s in places]
        found = iter(self.objective.evaluate_all(torch.stack(points), classes=self._by_class))
        self._known = deque({s: next(found) for s in places} for _ in path[1:])

    def advance(self, theta: Any) -> tuple[Row, Row]:
        """Allocate the move from the last snapshot to this one; return (snapshot row, iteration row).

        Raises
        ------
        DivergedError
            If the loss or the gradient at this snapshot is not finite.
        """
        if self._theta is None:
            raise RecordingError("advance() needs a first snapshot: call start(theta) before it")
        here, there = self._theta, self._vector(theta)
        known = self._known.popleft() if self._known else {}

        def along(at: Evaluation, total: torch.Tensor | None = None) -> Any:
            return self._integrator.along(_gradient(at), here, there, total)

        def node(s: float) -> Any:
            return along(known.get(s) or self._evaluate(self._between(here, there, s), False))

        begin = self._end or self._evaluate(here)  # a move that was given up halfway has let go of it
        left, loss = along(begin, self._total), begin.loss
        del begin  # no gradient stays longer than it is needed, and those of the nodes come before that of the end
        self._end = None
        nodes = {s: node(s) for s in self._nodes}
        end = known.get(1.0) or self._evaluate(there)
        total = self._integrator.over_classes(_gradient(end))
        row_there = self._snapshot_row(end, total)
        segment = Segment(
            left=left,
            right=along(end, total),
            gradient_at=lambda s: nodes.pop(s) if s in nodes else node(s),
            add=self._integrator.add,
        )
        change = end.loss - loss

        def allocation(splits: int) -> tuple[float, Integral]:
            found = self._integrator.integrate(segment.terms(self.rule.rule, splits), here, there)
            return found.sum - change, found

        found, residual, splits = refine(allocation, self.rule.rule, self.rule.tolerance, self.rule.max_splits)
        if not np.isfinite(residual):
            raise DivergedError("the gradient is not finite between two snapshots")
        row: Row = {"residual": residual, "splits": splits}
        row["first_order"] = self._integrator.first_order(self._total, here, there)
        row |= self._integral_row(found)
        if self.statistics is not None and found.lca is not None:
            self.statistics.update(found.lca, here, there, _single(total))
        self._theta, self._end, self._total = there, end, total
        return row_there, row

    @property
    def running(self) -> Callable[[], Arrays] | None:
        """What gives the running statistics to a file, or None where there are none."""
        return None if self.statistics is None else self.statistics.arrays

    def resume(self, partial: Path) -> None:
        """Go on with the running statistics of an unfinished recording.

        Raises
        ------
        RecordingError
            If it has none, or others.
        """
        if self.statistics is None:
            return
        stored = segments.running_statistics(partial)
        if stored is None:
            raise RecordingError(
                f"{partial} has no running statistics of its iterations, so these cannot go on. Remove it to start "
                "anew."
            )
        self.statistics.load(stored, partial)

    def release(self) -> None:
        """Let go of everything of the size of the network."""
        self._theta = self._end = self.statistics = None
        self._total = torch.empty(0)

    # ---- rows ----------------------------------------------------------------------------------------------------

    def _integral_row(self, found: Integral) -> Row:
        row: Row = {}
        if found.lca is not None and "lca" in self.stored.keep:
            row["lca"] = to_host(found.lca)
        if found.by_class is not None:
            row["lca_class"] = to_host(found.by_class)
        if found.units is not None:
            row |= (
                {"lca_unit_class": to_host(found.units.T)} if self._by_class else {"unit_lca": to_host(found.units[0])}
            )
        if found.lca is not None and "helped_count" in self.stored.statistics:
            row |= dict(zip(LAYER_COUNTS, self._integrator.layer_counts(found.lca), strict=True))
        return row

    def _vector(self, theta: Any) -> torch.Tensor:
        """Return θ on the device, a copy: float32, as snapshots are in the file."""
        tensor = theta if isinstance(theta, torch.Tensor) else torch.as_tensor(np.asarray(theta))
        return tensor.to(self.objective.device, torch.float32, copy=True)

    def _evaluate(self, theta: torch.Tensor, accuracy: bool = True) -> Evaluation:
        return self.objective.evaluate(theta, classes=self._by_class, accuracy=accuracy)

    def _between(self, here: torch.Tensor, there: torch.Tensor, s: float) -> torch.Tensor:
        kind = torch.float64 if self.objective.precision == "float64" else torch.float32
        return there.to(kind) if s == 1 else self._integrator.between(here, there, s, kind)

    def _snapshot_row(self, at: Evaluation, total: torch.Tensor) -> Row:
        row: Row = {"loss": at.loss} | ({} if np.isnan(at.accuracy) else {"accuracy": at.accuracy})
        if at.class_losses is not None:
            row["loss_class"] = at.class_losses
        if not np.isfinite(at.loss):
            raise DivergedError(f"the loss is {at.loss}")
        single = _single(total)
        if not is_finite(single):
            raise DivergedError(f"the gradient has entries that are not finite (the loss is {at.loss})")
        return row | ({"gradient": to_host(single)} if "gradient" in self.stored.keep else {})


def _single(tensor: torch.Tensor) -> torch.Tensor:
    """Return numbers as they are stored."""
    return tensor.to(torch.float32)


def _gradient(evaluation: Evaluation) -> torch.Tensor:
    if evaluation.gradient is None:
        raise RecordingError("an allocation needs gradients, and this evaluation has none")
    return evaluation.gradient


def rows_along(
    source: xr.Dataset,
    allocator: Allocator,
    start: int = 0,
    stop: int | None = None,
    done: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Row, Row]]:
    """Yield the rows of the iterations ``start`` to ``stop`` of a stored path, as (snapshot at the end, iteration).

    Before iteration 0 the row of the first snapshot comes, without an iteration. ``done`` is called after each move.
    """
    theta, steps = source["theta"], source["iteration"].values
    first = allocator.start(theta[start].values, first=start == 0)
    if start == 0:
        yield first, {}
    stop = len(steps) if stop is None else stop
    block = max(1, int(2**25 // (4 * theta.sizes["parameter"])))
    for begin in range(start, stop, block):
        vectors = theta[begin + 1 : min(begin + block, stop) + 1].values
        for index, vector in enumerate(vectors, begin):
            if (ahead := index - begin) % allocator.moves_at_once == 0:
                allocator.expect(vectors[ahead : ahead + allocator.moves_at_once])
            try:
                snapshot, iteration = allocator.advance(vector)
            except DivergedError as error:
                raise DivergedError(f"iteration {steps[index]}: {error}") from error
            iteration["iteration"] = steps[index]  # counts the finished moves of an interrupted call
            yield snapshot, iteration
            done()
