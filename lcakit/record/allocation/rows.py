"""Rows for the file: what is stored of a snapshot and of an iteration, by the names of the format."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lcakit.errors import DivergedError
from lcakit.record.allocation.integral import Integral, is_finite
from lcakit.record.allocation.stored import Stored
from lcakit.record.host_copy import to_host
from lcakit.record.objective.objective import Evaluation

__all__ = ["Row", "iteration_row", "single", "snapshot_row"]


def __dir__() -> list[str]:
    return __all__


Row = dict[str, Any]
"""Values by the name of their variable."""


def single(tensor: torch.Tensor) -> torch.Tensor:
    """Return numbers as they are stored, float32."""
    return tensor.to(torch.float32)


def snapshot_row(at: Evaluation, total: torch.Tensor, stored: Stored) -> Row:
    """Return the row of a snapshot: loss, loss_class, accuracy, gradient.

    Parameters
    ----------
    at
        The evaluation there.
    total
        Its gradient (K,), summed over classes.
    stored
        Whether the gradient is stored.

    Raises
    ------
    DivergedError
        If the loss or the gradient is not finite.
    """
    row: Row = {"loss": at.loss} | ({} if np.isnan(at.accuracy) else {"accuracy": at.accuracy})
    if at.class_losses is not None:
        row["loss_class"] = at.class_losses
    if not np.isfinite(at.loss):
        raise DivergedError(f"the loss is {at.loss}")
    gradient = single(total)
    if not is_finite(gradient):
        raise DivergedError(f"the gradient has entries that are not finite (the loss is {at.loss})")
    return row | ({"gradient": to_host(gradient)} if "gradient" in stored.keep else {})


def iteration_row(found: Integral, stored: Stored, by_class: bool) -> Row:
    """Return the LCA of an iteration at every resolution that is stored; ``by_class`` says that units are by class."""
    row: Row = {}
    if found.lca is not None and "lca" in stored.keep:
        row["lca"] = to_host(found.lca)
    if found.by_class is not None:
        row["lca_class"] = to_host(found.by_class)
    if found.units is not None:
        row |= {"lca_unit_class": to_host(found.units.T)} if by_class else {"unit_lca": to_host(found.units[0])}
    return row
