"""What going along a recorded path again needs: its variables, both ends of each iteration, its rule and objective."""

from __future__ import annotations

import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.record.allocation.settings import AllocationSettings
from lcakit.record.objective.objective import Objective
from lcakit.trajectory.labels import tensor_shapes
from lcakit.trajectory.require import require

__all__ = ["refuse_other_objective", "require_path", "rule_of"]


def __dir__() -> list[str]:
    return __all__


_SAME_LOSS = 1e-3  # relative; float32 and float64 differ by less, other data or weights by more


def require_path(ds: xr.Dataset, *variables: str) -> None:
    """Raise TrajectoryError unless these variables are there and the iterations are neighbours."""
    for name in variables:
        require(ds, name)
    snapshots, iterations = ds.sizes.get("snapshot", 0), ds.sizes.get("iteration", 0)
    if snapshots != iterations + 1 or "run" in ds.dims:
        sizes = ", ".join(f"{dim} {n}" for dim, n in ds.sizes.items() if dim in ("run", "snapshot", "iteration"))
        raise TrajectoryError(
            f"expected one run with a snapshot at both ends of each iteration, got sizes {sizes or 'without either'}. "
            "Open one file, and select with ds.lk.sel(iteration=slice(first, last))."
        )


def rule_of(ds: xr.Dataset) -> AllocationSettings:
    """Return how a file's LCA was integrated, without classes; by default where it does not say."""
    default = AllocationSettings(classes=None)
    tolerance = float(ds.attrs.get("tolerance", 1e-3))
    return AllocationSettings(
        str(ds.attrs.get("rule", default.rule)),
        tolerance if tolerance > 0 else None,  # the file's -1: none
        int(ds.attrs.get("max_splits", default.max_splits)),
        classes=None,
    )


def refuse_other_objective(ds: xr.Dataset, objective: Objective) -> None:
    """Raise TrajectoryError if the objective has other parameters than the file, or another loss at its beginning."""
    shapes = {spec.name: spec.shape for spec in objective.labels.tensors}
    if tensor_shapes(ds) != shapes:
        raise TrajectoryError("the objective's model has other parameters than the trajectory: build the one recorded")
    stored, found = float(ds["loss"][0]), objective.loss(ds["theta"][0].values)
    if abs(found - stored) > _SAME_LOSS * max(abs(stored), 1):
        raise TrajectoryError(
            f"at the first snapshot the objective's loss is {found:.6g}, the file's {stored:.6g}: it is another "
            "objective. Build it with the data, loss and evaluation batch size of the recording."
        )
