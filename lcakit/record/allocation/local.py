"""An allocation in this process: all rows in memory, or in segments, from which an interrupted one goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import RecordingError
from lcakit.progress import progress
from lcakit.record.allocation.allocator import Allocator
from lcakit.record.allocation.along_path import rows_along
from lcakit.record.allocation.continuing import refuse_other_settings
from lcakit.record.allocation.facts import facts_of
from lcakit.record.allocation.rows import Row
from lcakit.record.allocation.settings import AllocationSettings
from lcakit.record.allocation.spec import ObjectiveSpec
from lcakit.record.allocation.stored import Stored
from lcakit.record.objective.objective import Objective
from lcakit.storage import continuing, segments
from lcakit.storage.atomic import Lock
from lcakit.storage.partial import open_partial
from lcakit.storage.segments import BLOCK, SegmentWriter, read_header
from lcakit.trajectory import schema

__all__ = ["LocalWork"]


def __dir__() -> list[str]:
    return __all__


class LocalWork:
    """An allocation in this process; :class:`lcakit.record.allocation.cluster.SharedWork` is that of a cluster."""

    def __init__(self, objective: Objective | ObjectiveSpec) -> None:
        self.objective = objective.build() if isinstance(objective, ObjectiveSpec) else objective
        self.facts = facts_of(self.objective)

    def in_memory(
        self, source: xr.Dataset, settings: AllocationSettings, stored: Stored, attrs: Row, quiet: bool
    ) -> xr.Dataset:
        """Return what was computed, with ``attrs``."""
        allocator = Allocator(self.objective, settings, stored)
        with _bar(source, 0, quiet) as bar:
            rows = [tuple(map(_on_host, pair)) for pair in rows_along(source, allocator, done=bar.update)]
        parts = [snapshot for snapshot, _ in rows], [iteration for _, iteration in rows if iteration]
        new = {key: np.stack([row[key] for row in part]) for part in parts for key in (part[0] if part else {})}
        new.pop("iteration", None)
        new |= {} if allocator.statistics is None else allocator.statistics.variables()
        return schema.build_dataset({}, new, attrs)

    def allocate(
        self,
        source: xr.Dataset,
        settings: AllocationSettings,
        stored: Stored,
        partial: Path,
        attrs: Row,
        quiet: bool,
    ) -> None:
        """Compute all rows into segments in ``partial``, going on where an interrupted call ended."""
        if (partial / segments.HEADER).exists() and BLOCK in read_header(partial).attrs:
            raise RecordingError(f"{partial} was begun on a cluster. Continue it there (cluster=…), or remove it.")
        if partial.is_dir() and not segments.has_rows(partial):
            Lock(partial).release()  # raises if another allocation has just begun there
            segments.remove(partial)
        done, allocator = 0, Allocator(self.objective, settings, stored)
        if partial.is_dir():
            refuse_other_settings(read_header(partial).attrs, attrs, partial)
            done = _continued(partial, allocator)
        header = schema.stamp(xr.Dataset(), attrs)
        writer = SegmentWriter(partial, header, resume=partial.is_dir(), running=allocator.running)
        try:
            with _bar(source, done, quiet) as bar:
                for snapshot, iteration in rows_along(source, allocator, done, done=bar.update):
                    writer.append(snapshot, iteration)
        finally:
            writer.close()


def _on_host(row: Row) -> Row:
    """Return a row whose numbers are in ordinary memory."""
    return {name: np.array(value) for name, value in row.items()}


def _continued(partial: Path, allocator: Allocator) -> int:
    """Go on where an interrupted call ended; return the number of iterations that it finished."""
    if allocator.statistics is not None:
        continuing.go_back_to_running(partial)
    if not segments.segment_paths(partial):
        return 0
    allocator.resume(partial)
    return open_partial(partial).sizes.get("iteration", 0)


def _bar(source: xr.Dataset, done: int, quiet: bool) -> Any:
    return progress(source.sizes["iteration"], "allocating", unit="it", initial=done, quiet=quiet)
