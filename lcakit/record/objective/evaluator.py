"""Evaluations at any θ: without a trace, and in smaller chunks where the device runs out of memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from lcakit.errors import ObjectiveError
from lcakit.record.objective import chunks
from lcakit.record.objective.isolation import Numerics
from lcakit.record.objective.side_by_side import SideBySide
from lcakit.record.objective.sweep import Evaluation, Sweep
from lcakit.record.objective.together import Together
from lcakit.record.objective.trees import of_theta

__all__ = ["Evaluator"]


def __dir__() -> list[str]:
    return __all__


_Result = TypeVar("_Result")


@dataclass
class Evaluator:
    """What an objective evaluates with.

    ``flat`` (K,) is the θ that the replicas of ``sweep`` view. Several θ are evaluated by passes ``beside`` each other
    or ``together``, as one batch of networks, where there are such. ``batch_size`` is halved when the device runs out
    of memory.
    """

    numerics: Numerics
    flat: torch.Tensor
    sweep: Sweep
    beside: SideBySide | None
    together: Together | None
    batch_size: int

    def load(self, theta: Any) -> None:
        """Write θ (K,), an array or a tensor, into the vector that the replicas view."""
        vector = of_theta(theta)
        self._check(vector.shape)
        self.flat.copy_(vector)

    def evaluate(self, *, gradient: bool, classes: bool, accuracy: bool) -> Evaluation:
        """Evaluate at the θ that was loaded."""
        how = {"gradient": gradient, "classes": classes, "accuracy": accuracy}
        with self.numerics.isolated():
            return self._in_memory(partial(self.sweep.run, self.flat, **how))

    def evaluate_all(
        self, way: SideBySide | Together, thetas: torch.Tensor, count: int, classes: bool
    ) -> list[Evaluation]:
        """Evaluate at each θ of (S, K), ``count`` of them at a time."""
        self._check(thetas.shape[1:])
        found: list[Evaluation] = []
        with self.numerics.isolated():
            for some in thetas.to(self.flat.device, self.numerics.dtype).split(count):
                found += self._in_memory(partial(way.run, some, classes))
        return found

    def copy_frozen(self, values: Mapping[str, torch.Tensor]) -> None:
        """Copy the frozen parameters and the buffers that ``values`` has by name to all replicas."""
        others = [way.replicas for way in (self.beside, self.together) if way is not None]
        for replica in (*self.sweep.replicas, *itertools.chain(*others)):
            replica.copy_frozen(values)

    def _check(self, shape: torch.Size) -> None:
        if shape != self.flat.shape:
            raise ObjectiveError(
                f"theta must be a flat vector of the {len(self.flat)} trainable parameters, got shape {tuple(shape)}"
            )

    def _in_memory(self, evaluate: Callable[..., _Result]) -> _Result:
        """Evaluate; with smaller chunks from now on if the device runs out of memory."""
        while True:
            try:
                return evaluate(batch_size=self.batch_size)
            except torch.OutOfMemoryError as error:
                shortage = error.with_traceback(None)  # which holds what fills the device
            coupled = self.sweep.data.fixed
            self.batch_size = chunks.halve(self.batch_size, self.flat.device, coupled, shortage)
