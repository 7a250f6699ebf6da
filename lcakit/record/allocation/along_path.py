"""A stored path, snapshot by snapshot, through an allocator."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import xarray as xr

from lcakit.errors import DivergedError
from lcakit.record.allocation.allocator import Allocator
from lcakit.record.allocation.rows import Row
from lcakit.record.allocation.stored_buffers import StoredBuffers

__all__ = ["rows_along"]


def __dir__() -> list[str]:
    return __all__


_READ_AT_ONCE = 2**25  # bytes of snapshots


def rows_along(
    source: xr.Dataset,
    allocator: Allocator,
    start: int = 0,
    stop: int | None = None,
    done: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Row, Row]]:
    """Yield the rows of the iterations ``start`` to ``stop`` of a stored path, as (snapshot at the end, iteration).

    Before iteration 0 the row of the first snapshot comes, without an iteration. ``done`` is called after each move.
    """
    buffers = StoredBuffers(source, allocator.objective) if "buffers" in source else None
    try:
        yield from _rows(source, allocator, buffers, start, stop, done)
    finally:
        if buffers is not None:
            buffers.restore()


def _rows(
    source: xr.Dataset,
    allocator: Allocator,
    buffers: StoredBuffers | None,
    start: int,
    stop: int | None,
    done: Callable[[], object],
) -> Iterator[tuple[Row, Row]]:
    theta, steps = source["theta"], source["iteration"].values
    if buffers is not None:
        buffers.put(start)
    first = allocator.start(theta[start].values, first=start == 0)
    if start == 0:
        yield first, {}
    stop = len(steps) if stop is None else stop
    block = max(1, int(_READ_AT_ONCE // (4 * theta.sizes["parameter"])))
    for begin in range(start, stop, block):
        vectors = theta[begin + 1 : min(begin + block, stop) + 1].values
        for index, vector in enumerate(vectors, begin):
            if buffers is None and (ahead := index - begin) % allocator.moves_at_once == 0:
                allocator.expect(vectors[ahead : ahead + allocator.moves_at_once])
            try:
                snapshot, iteration = allocator.advance(vector, *(() if buffers is None else (buffers.mover(index),)))
            except DivergedError as error:
                raise DivergedError(f"iteration {steps[index]}: {error}") from error
            if buffers is not None:
                iteration.setdefault("buffer_change", 0.0)
            iteration["iteration"] = steps[index]  # counts the finished moves of an interrupted call
            yield snapshot, iteration
            done()
