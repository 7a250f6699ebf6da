"""The frames of a film: a quantity of one tensor, window by window, as codes of colours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import windowed
from lcakit.analysis.computing import compute
from lcakit.errors import unknown
from lcakit.plot._raster import MOST_PIXELS, even_blocks, strongest
from lcakit.plot._runs import one_run
from lcakit.plot._style import label
from lcakit.plot._tiles import Tiles, tensor_row, tiles_of
from lcakit.plot.parameters import QUANTITIES
from lcakit.progress import progress
from lcakit.text import printable
from lcakit.trajectory.require import require
from lcakit.trajectory.schema import loss_unit
from lcakit.trajectory.select import select, select_iterations
from lcakit.views.animation.scale import SignedLog, scale_of

__all__ = ["MOST_BYTES", "MOST_NUMBERS", "Frames", "frames_of"]


def __dir__() -> list[str]:
    return __all__


MOST_BYTES = 64_000_000
"""Most bytes of all frames, one per cell: what a browser can hold and a reader will wait for."""
MOST_NUMBERS = 2_000_000_000
"""Most bytes of the numbers that frames are made of, four each: they are in memory at once."""
_HELPING = ("lca", "cumulative")


@dataclass(frozen=True)
class Frames:
    """A film as numbers.

    Attributes
    ----------
    codes
        (frame, row, column), uint8: see :class:`lcakit.views.animation.scale.SignedLog`.
    spans
        Labels of the first and the last iteration of each frame.
    texts
        The text above each frame: its iterations, and the loss after them.
    title, label
        The quantity and tensor shown, and the name of the colour bar with units.
    axes
        The names of columns and rows.
    helps
        Whether the sign means helping or hurting.
    """

    codes: np.ndarray
    scale: SignedLog
    spans: list[tuple[int, int]]
    texts: list[str]
    title: str
    label: str
    axes: tuple[str, str]
    helps: bool


def frames_of(
    ds: xr.Dataset,
    layer: str | None,
    iterations: slice | None,
    step: int,
    quantity: str,
    tensor: str | None,
    lca: str,
    quiet: bool,
) -> Frames:
    """Read and reduce what :func:`lcakit.animate` shows."""
    if quantity not in QUANTITIES:
        raise unknown("quantity", quantity, QUANTITIES)
    ds = one_run(ds, "a film of a layer")
    row = tensor_row(ds, layer, tensor)
    tiles, name = tiles_of(ds, row), str(ds["tensor"].values[row])
    part = ds if iterations is None else select_iterations(ds, iterations)
    _check_size(part.sizes["iteration"], step, tiles)
    array = _windows(select(ds, tensor=name), part["iteration"].values, step, quantity, lca)
    values = compute(array.astype(np.float32), quiet=quiet)
    scale = scale_of(values.values)
    spans = _spans(part["iteration"].values, step)
    return Frames(
        _codes(values.values, tiles, scale, quiet),
        scale,
        spans,
        _texts(part, spans, step, lca),
        f"{_capital(QUANTITIES[quantity])} of {printable(name, 60)}",
        label(values),
        tiles.axes,
        quantity in _HELPING,
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


# ---- values ----------------------------------------------------------------------------------------------------


def _windows(ds: xr.Dataset, labels: np.ndarray, step: int, quantity: str, lca: str = "lca") -> xr.DataArray:
    """Return a quantity over windows of ``step`` iterations, (window, parameter). Lazy.

    As :func:`lcakit.plot.parameter_map` shows it for a slice of iterations: sums of LCA, mean gradients at the starts
    of the iterations, movements from the start to the end; and at the end cumulative LCA and parameters.
    """
    part = select_iterations(ds, slice(labels[0], labels[-1]))
    attrs = {"long_name": QUANTITIES[quantity]}
    n = part.sizes["iteration"]
    ends = np.minimum(np.arange(0, n, step) + step, n)
    if quantity in _HELPING:
        out = windowed(require(part, lca).astype(np.float64), step)
        if quantity == "cumulative":
            before = require(ds, lca).isel(iteration=slice(0, int(np.searchsorted(ds["iteration"].values, labels[0]))))
            out = out.cumsum("window") + before.sum("iteration", dtype=np.float64)
        return out.assign_attrs(require(part, lca).attrs | attrs)
    if quantity == "gradient":
        starts = require(part, "gradient").isel(snapshot=slice(0, n)).rename(snapshot="iteration")
        sizes = xr.DataArray(np.diff(ends, prepend=0), dims="window")
        return (windowed(starts, step) / sizes).assign_attrs(part["gradient"].attrs | attrs)
    theta = require(part, "theta")
    at_end = theta.isel(snapshot=ends).astype(np.float64)
    if quantity == "movement":
        at_end = at_end - theta.isel(snapshot=np.append(0, ends[:-1])).astype(np.float64).data
    out = at_end.drop_vars("snapshot", errors="ignore").rename(snapshot="window")
    return out.assign_attrs(theta.attrs | attrs)


def _check_size(n: int, step: int, tiles: Tiles) -> None:
    if step < 1 or step != int(step):
        raise ValueError(f"step is the number of iterations in a frame, at least 1; got {step!r}")
    rows, columns = (min(size, MOST_PIXELS) for size in tiles.places.shape)
    frames, cells, numbers = -(-n // step), rows * columns, 4 * np.count_nonzero(tiles.places >= 0)
    fits = max(1, min(MOST_BYTES // cells, MOST_NUMBERS // numbers))
    if frames > fits:
        raise ValueError(
            f"{frames:,} frames of {rows} × {columns} are {frames * cells / 1e6:,.0f} MB, made from "
            f"{frames * numbers / 1e6:,.0f} MB of numbers; the limits are {MOST_BYTES / 1e6:.0f} MB and "
            f"{MOST_NUMBERS / 1e6:,.0f} MB. Put several iterations into a frame, step={math.ceil(n / fits)}, "
            "or show fewer, iterations=slice(first, last)."
        )


def _codes(values: np.ndarray, tiles: Tiles, scale: SignedLog, quiet: bool) -> np.ndarray:
    """Return the codes of each frame in the layout of the tensor, large ones reduced to their strongest values."""
    rows, columns = tiles.places.shape
    blocks = even_blocks(rows, MOST_PIXELS), even_blocks(columns, MOST_PIXELS)
    out = np.empty((len(values), len(blocks[0]), len(blocks[1])), np.uint8)
    with progress(len(values), "frames", unit="frame", quiet=quiet) as bar:
        for n, row in enumerate(values):
            shown = np.where(tiles.places < 0, np.nan, row[tiles.places])
            out[n] = scale.encode(strongest(shown, blocks))
            bar.update(1)
    return out


# ---- words -----------------------------------------------------------------------------------------------------


def _spans(labels: np.ndarray, step: int) -> list[tuple[int, int]]:
    return [(int(labels[n]), int(labels[min(n + step, len(labels)) - 1])) for n in range(0, len(labels), step)]


def _texts(part: xr.Dataset, spans: list[tuple[int, int]], step: int, lca: str) -> list[str]:
    """Return the text above each frame; the loss is that after its last iteration."""
    words = [f"iteration {first}" if first == last else f"iterations {first} to {last}" for first, last in spans]
    name = "loss" + lca.removeprefix("lca")
    if name not in part:
        return words
    loss, unit = part[name].values, printable(loss_unit(part, name), 20)
    ends = [min((n + 1) * step, len(loss) - 1) for n in range(len(spans))]
    return [f"{word}, loss {loss[end]:.4g} {unit}".rstrip() for word, end in zip(words, ends, strict=True)]
