"""Evaluations at any θ: without a trace, and in smaller chunks where the device runs out of memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from lcakit.errors import ObjectiveError
from lcakit.record.objective import chunks
from lcakit.record.objective.isolation import Numerics
from lcakit.record.objective.side_by_side import SideBySide
from lcakit.record.objective.sweep import Evaluation, Sweep
from lcakit.record.objective.together import Together

__all__ = ["Evaluator"]


def __dir__() -> list[str]:
    return __all__


_Result = TypeVar("_Result")


@dataclass
class Evaluator:
    """What an objective evaluates with.

    ``beside`` holds each θ (K,) and the pass whose replicas view it, one or several; ``several`` evaluates many θ as
    one batch of networks, or is None. ``batch_size`` is halved when the device runs out of memory.
    """

    numerics: Numerics
    beside: SideBySide
    several: Together | None
    batch_size: int

    @property
    def flat(self) -> torch.Tensor:
        """The θ (K,) that the replicas of ``sweep`` view."""
        return self.beside.passes[0][0]

    @property
    def sweep(self) -> Sweep:
        """The pass that evaluates a single θ."""
        return self.beside.passes[0][1]

    def load(self, theta: Any, place: int = 0) -> None:
        """Write θ (K,), an array or a tensor, into the vector that the replicas of a pass view."""
        vector = theta if isinstance(theta, torch.Tensor) else torch.as_tensor(np.asarray(theta))
        if vector.shape != self.flat.shape:
            raise ObjectiveError(
                f"theta must be a flat vector of the {len(self.flat)} trainable parameters, "
                f"got shape {tuple(vector.shape)}"
            )
        self.beside.passes[place][0].copy_(vector.detach())

    def evaluate(self, *, gradient: bool, classes: bool, accuracy: bool) -> Evaluation:
        """Evaluate at the θ that was loaded."""
        how = {"gradient": gradient, "classes": classes, "accuracy": accuracy}
        with self.numerics.isolated():
            return self._in_memory(partial(self.sweep.run, self.flat, **how))

    def evaluate_beside(self, thetas: torch.Tensor, classes: bool) -> list[Evaluation]:
        """Evaluate at each θ of (S, K), as many at the same time as there are passes."""
        found: list[Evaluation] = []
        with self.numerics.isolated():
            for some in thetas.split(self.beside.count):
                for place, theta in enumerate(some):
                    self.load(theta, place)
                found += self._in_memory(partial(self.beside.run, len(some), classes))
        return found

    def evaluate_together(self, several: Together, thetas: torch.Tensor, count: int, classes: bool) -> list[Evaluation]:
        """Evaluate at each θ of (S, K), ``count`` of them as one batch of networks."""
        found: list[Evaluation] = []
        with self.numerics.isolated():
            for some in thetas.to(self.flat.device, self.numerics.dtype).split(count):
                found += self._in_memory(partial(several.run, some, classes))
        return found

    def copy_frozen(self, values: Mapping[str, torch.Tensor]) -> None:
        """Copy the frozen parameters and the buffers that ``values`` has by name to all replicas."""
        replicas = [replica for _, sweep in self.beside.passes for replica in sweep.replicas]
        for replica in (*replicas, *(self.several.replicas if self.several else ())):
            replica.copy_frozen(values)

    def _in_memory(self, evaluate: Callable[..., _Result]) -> _Result:
        """Evaluate; with smaller chunks from now on if the device runs out of memory."""
        while True:
            try:
                return evaluate(batch_size=self.batch_size)
            except torch.OutOfMemoryError as error:
                shortage = error.with_traceback(None)  # which holds what fills the device
            coupled = self.sweep.data.fixed
            self.batch_size = chunks.halve(self.batch_size, self.flat.device, coupled, shortage)
