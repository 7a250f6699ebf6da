"""The objective along a path: evaluated at snapshots and between them, several at once where they are known."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from lcakit.errors import RecordingError
from lcakit.record.objective.objective import Evaluation, Objective

__all__ = ["Evaluations", "gradient_of"]


def __dir__() -> list[str]:
    return __all__


Between = Callable[[torch.Tensor, torch.Tensor, float, torch.dtype], torch.Tensor]


class Evaluations:
    """Evaluates an objective at the places that each move needs.

    Parameters
    ----------
    objective
        What is evaluated.
    by_class
        Whether gradients are by class.
    nodes
        Fractions of a move, between its ends, at which its rule starts.
    between
        Forms the point at a fraction of a move: ``(here, there, s, dtype)``.
    """

    def __init__(self, objective: Objective, by_class: bool, nodes: Iterable[float], between: Between) -> None:
        self.objective, self._by_class = objective, by_class
        self._places, self._between = (*nodes, 1.0), between
        self._known: deque[list[Evaluation]] = deque()

    def vector(self, theta: Any) -> torch.Tensor:
        """Return θ on the device, a copy: float32, as snapshots are in the file."""
        tensor = theta if isinstance(theta, torch.Tensor) else torch.as_tensor(np.asarray(theta))
        return tensor.to(self.objective.device, torch.float32, copy=True)

    def at(self, theta: torch.Tensor) -> Evaluation:
        """Evaluate at a snapshot."""
        return self._all([self._point(theta, theta, 1)])[0]

    def move(self, here: torch.Tensor, there: torch.Tensor) -> Iterator[Evaluation]:
        """Yield what the rule starts with: at each node, and at the end of the move."""
        known = self._known.popleft() if self._known else None
        return self.inside(here, there, self._places) if known is None else iter(known)

    def inside(self, here: torch.Tensor, there: torch.Tensor, places: Sequence[float]) -> Iterator[Evaluation]:
        """Yield evaluations at fractions of a move, computed as they are asked for.

        As many are computed at the same time as the objective can; a large gradient is in memory alone.
        """
        at_once = self.objective.at_once
        for first in range(0, len(places), at_once):
            some = places[first : first + at_once]
            yield from self._all([self._point(here, there, s) for s in some], accuracy=1 in some)

    @property
    def moves_at_once(self) -> int:
        """How many moves the objective evaluates together."""
        return max(1, self.objective.together // len(self._places))

    def expect(self, here: torch.Tensor | None, thetas: Iterable[Any]) -> None:
        """Evaluate together what the next moves need, where the objective does that."""
        if self.objective.together < 2 or here is None:
            return
        path = [here, *map(self.vector, thetas)]
        points = [self._point(a, b, s) for a, b in pairwise(path) for s in self._places]
        found = iter(self.objective.evaluate_all(torch.stack(points), classes=self._by_class))
        self._known = deque([next(found) for _ in self._places] for _ in path[1:])

    def forget(self) -> None:
        """Drop what was evaluated in advance."""
        self._known.clear()

    def _all(self, points: list[torch.Tensor], accuracy: bool = True) -> list[Evaluation]:
        if self.objective.at_once > 1:
            return self.objective.evaluate_all(torch.stack(points), classes=self._by_class)
        return [self.objective.evaluate(point, classes=self._by_class, accuracy=accuracy) for point in points]

    def _point(self, here: torch.Tensor, there: torch.Tensor, s: float) -> torch.Tensor:
        dtype = torch.float64 if self.objective.precision == "float64" else torch.float32
        return there.to(dtype) if s == 1 else self._between(here, there, s, dtype)


def gradient_of(evaluation: Evaluation) -> torch.Tensor:
    """Return the gradient of an evaluation; raise RecordingError where it has none."""
    if evaluation.gradient is None:
        raise RecordingError("an allocation needs gradients, and this evaluation has none")
    return evaluation.gradient
