"""Buffers that the loss depends on beside θ: read, stored with a snapshot, and put back in an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.record.objective.objective import Objective

__all__ = ["BufferTable", "evaluated_buffers", "loss_with_buffers"]


def __dir__() -> list[str]:
    return __all__


def evaluated_buffers(objective: Objective) -> dict[str, torch.Tensor]:
    """Return the buffers that an objective evaluates with, by clean name: its own copies, not the live model's.

    Running statistics of BatchNorm are among them only where the loss is computed with them.
    """
    return objective._evaluator.sweep.replicas[0].buffers()


def loss_with_buffers(objective: Objective, theta: Any, buffers: Mapping[str, torch.Tensor]) -> float:
    """Return the mean loss at θ (K,) with other buffers in place of the objective's, which stay as they are."""
    own = {name: copy.clone() for name, copy in evaluated_buffers(objective).items() if name in buffers}
    objective._evaluator.copy_frozen(buffers)
    try:
        return objective.loss(theta)
    finally:
        objective._evaluator.copy_frozen(own)


@dataclass(frozen=True)
class BufferTable:
    """Which buffers stand in the columns of ``buffers`` (snapshot, buffer_entry), one after the other.

    ``sizes`` are in numbers; a complex entry is two.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, buffers: Mapping[str, torch.Tensor]) -> BufferTable:
        """Return the table of some buffers, in their order."""
        return cls(tuple(buffers), tuple(_numbers(buffer).numel() for buffer in buffers.values()))

    @classmethod
    def in_file(cls, ds: xr.Dataset) -> BufferTable:
        """Return the table of a trajectory that has ``buffers``."""
        return cls(tuple(map(str, ds["buffer"].values)), tuple(map(int, ds["buffer_size"].values)))

    def coords(self) -> dict[str, Any]:
        """Return the table as coordinates of a trajectory."""
        return {
            "buffer": (("buffer",), np.array(self.names)),
            "buffer_size": (("buffer",), np.array(self.sizes, np.int64)),
        }

    def start(self, buffers: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Return the table and these buffers, as the header of a recording has them when it begins."""
        return self.coords() | {"first_buffers": (("buffer_entry",), self.row(buffers))}

    def row(self, buffers: Mapping[str, torch.Tensor]) -> np.ndarray:
        """Return the numbers of these buffers, float64: exact for every type but whole numbers beyond 2^53."""
        parts = [_numbers(buffers[name].detach()).to("cpu", torch.float64).reshape(-1) for name in self.names]
        return torch.cat(parts).numpy() if parts else np.zeros(0)

    def cut(self, row: np.ndarray, like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a row as the buffers of ``like`` that it has numbers of, in their shapes.

        Raises
        ------
        TrajectoryError
            If one has another size there.
        """
        parts = np.split(np.asarray(row), np.cumsum(self.sizes)[:-1]) if self.names else []
        found = {}
        for name, part in zip(self.names, parts, strict=True):
            if (buffer := like.get(name)) is None:  # running statistics, say, which this objective does not use
                continue
            numbers = _numbers(buffer)
            if numbers.numel() != len(part):
                raise TrajectoryError(
                    f"the buffer {name!r} has {len(part)} numbers in the trajectory and {numbers.numel()} in the "
                    "objective's model. Build the objective from the model that was recorded."
                )
            values = torch.as_tensor(part).reshape(numbers.shape)
            found[name] = torch.complex(*values.unbind(-1)) if buffer.is_complex() else values
        return found


def _numbers(buffer: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(buffer) if buffer.is_complex() else buffer
