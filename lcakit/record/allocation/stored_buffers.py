"""Buffers that a trajectory has with each snapshot, put into an objective while it is allocated along."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import xarray as xr

from lcakit.record.objective.buffers import BufferTable, evaluated_buffers
from lcakit.record.objective.objective import Objective

__all__ = ["StoredBuffers"]


def __dir__() -> list[str]:
    return __all__


class StoredBuffers:
    """The buffers of each snapshot of a trajectory, for an objective.

    Parameters
    ----------
    source
        A trajectory with ``buffers``.
    objective
        It evaluates with those that it has of them.
    """

    def __init__(self, source: xr.Dataset, objective: Objective) -> None:
        self._values, self._objective = source["buffers"], objective
        self._table, self._own = BufferTable.in_file(source), evaluated_buffers(objective)
        self._before = {name: copy.clone() for name, copy in self._own.items()}
        self._last = np.zeros(0)

    def put(self, snapshot: int) -> None:
        """Let the objective evaluate with the buffers of a snapshot, given by its place."""
        self._last = self._values[snapshot].values
        self._objective._evaluator.copy_frozen(self._table.cut(self._last, self._own))

    def mover(self, iteration: int) -> Callable[[], None] | None:
        """Return what puts the buffers at the end of an iteration, or None where they stay as they are."""
        after = self._values[iteration + 1].values
        return None if np.array_equal(after, self._last) else partial(self.put, iteration + 1)

    def restore(self) -> None:
        """Let the objective have its own buffers again."""
        self._objective._evaluator.copy_frozen(self._before)
