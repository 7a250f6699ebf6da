"""Recordings written row by row from a trajectory that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from lcakit.storage.paths import partial_path
from lcakit.storage.segments import SegmentWriter


def record(ds: xr.Dataset, path: Path, stop: int | None = None, start: int = 0, **options: Any) -> SegmentWriter:
    """Write a trajectory as a recording does, iterations ``start`` to ``stop``; the caller closes the writer."""
    writer = SegmentWriter(partial_path(path), ds.drop_dims(["snapshot", "iteration"]), **options)
    snapshots, iterations = rows(ds, "snapshot"), rows(ds, "iteration")
    if not start:
        writer.append(snapshots[0], {})
    for t in range(start, len(iterations) if stop is None else stop):
        writer.append(snapshots[t + 1], iterations[t])
    return writer


def rows(ds: xr.Dataset, dim: str) -> list[dict[str, Any]]:
    """Return the values of each snapshot or iteration, by variable."""
    values = {str(name): ds[name].values for name in ds.variables if ds[name].dims[:1] == (dim,)}
    return [{name: value[t] for name, value in values.items()} for t in range(ds.sizes[dim])]
