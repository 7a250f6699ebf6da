"""What going along a recorded path again needs: its variables, and a snapshot at both ends of every iteration."""

from __future__ import annotations

import xarray as xr

from lcakit.analysis._check import require
from lcakit.errors import TrajectoryError


def require_path(ds: xr.Dataset, *variables: str) -> None:
    """Raise TrajectoryError unless these variables are there and the iterations are neighbours."""
    for name in variables:
        require(ds, name)
    snapshots, iterations = ds.sizes.get("snapshot", 0), ds.sizes.get("iteration", 0)
    if snapshots != iterations + 1 or "run" in ds.dims:
        sizes = ", ".join(f"{dim} {n}" for dim, n in ds.sizes.items() if dim in ("run", "snapshot", "iteration"))
        raise TrajectoryError(
            f"needed is one run with a snapshot at both ends of each iteration, got sizes {sizes or 'without either'}. "
            "Open one file, and select with ds.lk.sel(iteration=slice(first, last))."
        )
