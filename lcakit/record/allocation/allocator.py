"""The allocator: walks along snapshots, and allocates each change of the loss by a path integral."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lcakit.errors import DivergedError, RecordingError
from lcakit.record.allocation.axis_blocks import Piece, pieces_of
from lcakit.record.allocation.evaluations import Evaluations, gradient_of
from lcakit.record.allocation.integral import Integral, Integrator, Needed, UnitIntegrator
from lcakit.record.allocation.quadrature import LEAST_SPLITS, Segment, level_nodes, levels_of, refine
from lcakit.record.allocation.rows import Row, iteration_row, single, snapshot_row
from lcakit.record.allocation.settings import AllocationSettings
from lcakit.record.allocation.statistics import wanted
from lcakit.record.allocation.stored import Stored
from lcakit.record.objective.objective import Evaluation, Objective
from lcakit.storage import continuing
from lcakit.storage.npz import Arrays
from lcakit.trajectory.schema import LAYER_COUNTS

__all__ = ["Allocator"]


def __dir__() -> list[str]:
    return __all__


class Allocator:
    """Walks along snapshots and allocates the loss change of each move.

    ``start(θ_0)`` then ``advance(θ_1)``, ``advance(θ_2)``, … Each returns rows for the file; the gradient at the end of
    one move is the beginning of the next, so rk4 costs two gradients a move. Sums are formed in float64 on the
    objective's device, piece by piece, and only what is stored comes to the host. Where the network is large and no
    LCA of single parameters is stored, one gradient by class at a time is in memory.

    Parameters
    ----------
    objective
        Loss and data.
    settings
        How the integral is computed, and the class resolution.
    stored
        What is stored of each parameter; everything by default.
    """

    def __init__(self, objective: Objective, settings: AllocationSettings, stored: Stored | None = None) -> None:
        self.objective = objective
        self.settings = settings
        self.stored = stored or Stored()
        self._by_class = by_class = settings.classes is not None and objective.class_names is not None
        height = objective.n_classes if by_class else None
        pieces = pieces_of(objective.labels, height or 1)
        self.statistics = wanted(self.stored.statistics, pieces, objective.device)
        lca = "lca" in self.stored.keep
        needed = Needed(
            lca=lca or self.statistics is not None,
            by_class=by_class and settings.classes == "parameter",
            units=by_class or not lca,
        )
        self._integrator = _integrator(objective, pieces, height, needed, lca)
        self._nodes = [s for level in range(levels_of(LEAST_SPLITS[settings.rule])) for s in level_nodes(level + 1)]
        self._evaluations = Evaluations(objective, by_class, self._nodes, self._integrator.between)
        self._theta: torch.Tensor | None = None
        self._end: Evaluation | None = None
        self._total = torch.empty(0)

    def start(self, theta: Any, first: bool = True) -> Row:
        """Begin at a snapshot; return its row (loss, loss_class, accuracy, gradient).

        ``first`` says that it is the first of the path, whose gradient the statistics count.
        """
        self._evaluations.forget()
        self._theta = self._evaluations.vector(theta)
        self._end = self._evaluations.at(self._theta)
        self._total = self._integrator.over_classes(gradient_of(self._end))
        row = snapshot_row(self._end, self._total, self.stored)
        if self.statistics is not None and first:
            self.statistics.begin(single(self._total))
        return row

    @property
    def moves_at_once(self) -> int:
        """How many moves the objective evaluates together."""
        return self._evaluations.moves_at_once

    def expect(self, thetas: Iterable[Any]) -> None:
        """Evaluate together what the next moves need, where the objective does that; ``advance`` finds it."""
        self._evaluations.expect(self._theta, thetas)

    def advance(self, theta: Any, then: Callable[[], object] | None = None) -> tuple[Row, Row]:
        """Allocate the move from the last snapshot to this one; return (snapshot row, iteration row).

        Parameters
        ----------
        theta
            The snapshot (K,).
        then
            Called after the move where something beside θ moves the loss, too: it makes the objective follow. The
            iteration row then has ``buffer_change``, L(θ′, b′) - L(θ′, b), and the snapshot row is of b′.

        Raises
        ------
        DivergedError
            If the loss or the gradient at this snapshot is not finite.
        """
        if self._theta is None:
            raise RecordingError("advance() needs a first snapshot: call start(theta) before it")
        here, there = self._theta, self._evaluations.vector(theta)

        def along(at: Evaluation, total: torch.Tensor | None = None) -> Any:
            return self._integrator.along(gradient_of(at), here, there, total)

        def gradients_at(places: tuple[float, ...]) -> Iterable[Any]:
            if places[0] in nodes:
                return [nodes.pop(s) for s in places]
            return map(along, self._evaluations.inside(here, there, places))

        begin = self._end or self._evaluations.at(here)  # an interrupted move has dropped it
        left, loss = along(begin, self._total), begin.loss
        del begin  # no gradient stays longer than it is needed, and those of the nodes come before that of the end
        self._end = None
        evaluated = self._evaluations.move(here, there)
        nodes = {s: along(at) for s, at in zip(self._nodes, evaluated, strict=False)}
        end = next(evaluated)
        total = self._integrator.over_classes(gradient_of(end))
        row_there = snapshot_row(end, total, self.stored)
        segment = Segment(
            left=left,
            right=along(end, total),
            gradients_at=gradients_at,
            add=self._integrator.add,
        )
        found, row = self._allocate(segment, here, there, end.loss - loss)
        if then is not None:
            then()
            moved = self._evaluations.at(there)
            row["buffer_change"] = moved.loss - end.loss
            end, total = moved, self._integrator.over_classes(gradient_of(moved))
            row_there = snapshot_row(end, total, self.stored)
        if self.statistics is not None and found.lca is not None:
            self.statistics.update(found.lca, here, there, single(total))
        self._theta, self._end, self._total = there, end, total
        return row_there, row

    def _allocate(
        self, segment: Segment[Any], here: torch.Tensor, there: torch.Tensor, change: float
    ) -> tuple[Integral, Row]:
        """Integrate along one move, refined until the sum is the change of the loss; return it, and its row."""
        settings = self.settings

        def allocation(splits: int) -> tuple[float, Integral]:
            found = self._integrator.integrate(segment.terms(settings.rule, splits), here, there)
            return found.sum - change, found

        found, residual, splits = refine(allocation, settings.rule, settings.tolerance, settings.max_splits)
        if not np.isfinite(residual):
            raise DivergedError("the gradient is not finite between two snapshots")
        first_order = self._integrator.first_order(self._total, here, there)
        row: Row = {"residual": residual, "splits": splits, "first_order": first_order}
        row |= iteration_row(found, self.stored, self._by_class)
        if found.lca is not None and "helped_count" in self.stored.statistics:
            row |= dict(zip(LAYER_COUNTS, self._integrator.layer_counts(found.lca), strict=True))
        return found, row

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
        stored = continuing.running_statistics(partial)
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
        self._evaluations.forget()


def _integrator(
    objective: Objective, pieces: tuple[Piece, ...], height: int | None, needed: Needed, lca: bool
) -> Integrator:
    """Choose what integrates: unit by unit where a gradient by class is large, and nothing of that size is stored."""
    if height and not lca and not needed.by_class and len(pieces) > 1:
        return UnitIntegrator(objective.labels, pieces, height, needed)
    return Integrator(objective.labels, pieces, height, needed)
