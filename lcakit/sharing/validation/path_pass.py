"""One pass over snapshots, gradients and LCA: how far each move goes, and what gradients and LCA say of it.

A block of the file gives a :class:`Span`: numbers for each of its snapshots, and the rows at its ends, which the
move to the next block needs. Spans join in order, so every block is read once and no two are in memory together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from lcakit.analysis.kernels.fold import fold
from lcakit.trajectory.schema import split_name, with_suffix

__all__ = ["MOVES", "OWN", "PATH", "TILE_COLUMNS", "TILE_ROWS", "Span", "moves"]


def __dir__() -> list[str]:
    return __all__


TILE_ROWS, TILE_COLUMNS = 32, 8192  # the tiles of all variables fit the cache together

PATH = ("unfinite", "moved", "distance2")
"""Per snapshot t: entries of θ_t that are not finite; is θ_{t+1} another; |θ_{t+1} − θ_t|²."""

OWN = ("unfinite", "norm2", "first_order", "stuck")
"""Per snapshot and objective: entries of the gradient that are not finite; |g|²; g_t · (θ_{t+1} − θ_t); entries of LCA
that are not zero although their parameter does not move."""

MOVES = ("moved", "distance2", "first_order", "stuck")
"""Numbers of the move from snapshot t to the next one."""


def moves(ds: xr.Dataset) -> dict[str, Any]:
    """Return the numbers of :data:`PATH` (suffix None; with ``theta`` only) and :data:`OWN` by suffix; lazy.

    Each is (…, T+1); the entry of the last snapshot is 0 where a number is of a move. Empty without any snapshot per
    parameter.
    """
    suffixes = [suffix for base, suffix in map(split_name, map(str, ds.data_vars)) if base in ("gradient", "lca")]
    suffixes = list(dict.fromkeys(suffixes))
    if not _usable(ds, "theta") and not any(_usable(ds, with_suffix("gradient", s)) for s in suffixes):
        return {}
    runs = [ds.isel(run=r) for r in range(ds.sizes["run"])] if "run" in ds.dims else [ds]
    numbers = [_of_run(run, suffixes) for run in runs]
    stacked = da.stack(numbers) if "run" in ds.dims else numbers[0]
    out = _by_name(stacked, suffixes)
    return out if _usable(ds, "theta") else {suffix: out[suffix] for suffix in suffixes}


def _usable(ds: xr.Dataset, name: str) -> bool:
    return name in ds and "parameter" in ds[name].dims and ds[name].size > 0


def _by_name(numbers: da.Array, suffixes: list[str]) -> dict[str, Any]:
    """Name the rows of (…, numbers, T+1)."""
    groups: dict[Any, tuple[str, ...]] = {None: PATH} | dict.fromkeys(suffixes, OWN)
    out, row = {}, 0
    for key, names in groups.items():
        out[key] = {name: numbers[..., row + k, :] for k, name in enumerate(names)}
        row += len(names)
    return out


def _of_run(ds: xr.Dataset, suffixes: list[str]) -> da.Array:
    """Return the numbers of one run as (numbers, T+1)."""
    rows = ds.sizes["snapshot"]
    wanted = ["theta", *(with_suffix(base, s) for s in suffixes for base in ("gradient", "lca"))]
    arrays = {name: _rows_of(ds[name], rows) for name in wanted if _usable(ds, name)}
    _, blocks = da.core.unify_chunks(*(part for array in arrays.values() for part in (array, "tk")))
    height = len(PATH) + len(OWN) * len(suffixes)
    chunks = tuple((1,) * n for n in blocks[0].numblocks)
    meta = np.empty((0, 0), object)
    options = {"names": list(arrays), "suffixes": suffixes, "dtype": object, "meta": meta, "chunks": chunks}
    spans = da.map_blocks(_span, *blocks, **options)
    join = partial(_join, suffixes=suffixes)
    flat = fold(spans, lambda block: block.item(), join, _column, width=height * rows)
    out: da.Array = flat.sum(axis=-1).reshape(height, rows)
    return out


def _rows_of(array: xr.DataArray, rows: int) -> da.Array:
    """Return an array (rows, K); one row of zeros stands where the last snapshot has no iteration."""
    data = array.transpose(..., "parameter").data
    data = data if isinstance(data, da.Array) else da.from_array(data, chunks=-1, name=False)
    if data.shape[0] == rows:
        return data
    out: da.Array = da.concatenate([data, da.zeros((1, data.shape[1]), chunks=(1, data.chunks[1]), dtype=data.dtype)])
    return out


@dataclass
class Span:
    """Neighbouring snapshots of some parameters: ``numbers`` (numbers, t), and the rows that the next move needs."""

    numbers: np.ndarray
    first: np.ndarray | None
    """θ of the first snapshot."""
    last: dict[str, np.ndarray]
    """All variables at the last one."""


def _span(*blocks: np.ndarray, names: list[str], suffixes: list[str]) -> np.ndarray:
    """Return the span of one block of each variable, in an array of objects."""
    values = dict(zip(names, blocks, strict=True))
    first = values["theta"][0].copy() if "theta" in values else None
    out = np.empty((1, 1), object)
    out[0, 0] = Span(_numbers(values, suffixes), first, {name: value[-1].copy() for name, value in values.items()})
    return out


def _join(left: Span, right: Span, suffixes: list[str]) -> Span:
    """Join neighbours: add the move from the end of the first to the beginning of the second."""
    numbers = np.concatenate([left.numbers, right.numbers], axis=1)
    if right.first is not None:
        between = {name: np.stack([row, row]) for name, row in left.last.items()}  # the second only fills the shape
        between["theta"] = np.stack([left.last["theta"], right.first])
        of_moves = np.array([name in MOVES for name in (*PATH, *OWN * len(suffixes))])
        numbers[of_moves, left.numbers.shape[1] - 1] = _numbers(between, suffixes)[of_moves, 0]
    return Span(numbers, left.first, right.last)


def _numbers(values: Mapping[str, np.ndarray], suffixes: list[str]) -> np.ndarray:
    """Return the numbers of the snapshots of a block, tile by tile; those of its last move are missing."""
    rows, columns = next(iter(values.values())).shape
    numbers = np.zeros((len(PATH) + len(OWN) * len(suffixes), rows))
    for column in range(0, columns, TILE_COLUMNS):
        for row in range(0, rows, TILE_ROWS):
            tile = {
                name: value[row : row + TILE_ROWS, column : column + TILE_COLUMNS] for name, value in values.items()
            }
            out, delta = numbers[:, row : row + TILE_ROWS], None
            if "theta" in tile:
                delta = np.diff(values["theta"][row : row + TILE_ROWS + 1, column : column + TILE_COLUMNS], axis=0)
                _add_path(out[: len(PATH)], tile["theta"], delta)
            for k, suffix in enumerate(suffixes):
                own = out[len(PATH) + k * len(OWN) :][: len(OWN)]
                _add_own(own, tile.get(with_suffix("gradient", suffix)), tile.get(with_suffix("lca", suffix)), delta)
    return numbers


def _add_path(numbers: np.ndarray, theta: np.ndarray, delta: np.ndarray) -> None:
    unfinite, moved, distance2 = numbers
    squares = _dots(delta, delta)
    distance2[: len(delta)] += squares
    if not len(delta) or not np.isfinite(squares).all():
        unfinite += (~np.isfinite(theta)).sum(axis=1)
    moved[: len(delta)] += squares != 0
    if not squares.all():  # the squares of tiny moves are zero too
        moved[: len(delta)] += (squares == 0) & delta.any(axis=1)


def _add_own(
    numbers: np.ndarray, gradient: np.ndarray | None, lca: np.ndarray | None, delta: np.ndarray | None
) -> None:
    unfinite, norm2, first_order, stuck = numbers
    if gradient is not None:
        squares = _dots(gradient, gradient)
        norm2 += squares
        if not np.isfinite(squares).all():
            unfinite += (~np.isfinite(gradient)).sum(axis=1)
        if delta is not None:
            first_order[: len(delta)] += _dots(gradient[: len(delta)], delta)
    if lca is not None and delta is not None:
        wrong = delta == 0
        wrong &= lca[: len(delta)] != 0
        if wrong.any():
            stuck[: len(delta)] += wrong.sum(axis=1)


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Σ a b of each row of a tile, summed in the tile's own precision: about 1e-6 of |a||b| off."""
    with np.errstate(over="ignore", invalid="ignore"):
        out: np.ndarray = np.matmul(a[:, None, :], b[:, :, None])[:, 0, 0].astype(np.float64)  # twice as fast as einsum
        return out


def _column(span: Span) -> np.ndarray:
    return span.numbers.reshape(-1, 1)
