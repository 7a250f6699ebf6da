"""Where each parameter lies in a picture: kernels are grids of tiles, first layers images, all else a matrix."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError, unknown
from lcakit.trajectory.labels import parameter_coord, tensor_shapes
from lcakit.trajectory.require import require_tables

SMALLEST_IMAGE = 16
"""Fewest inputs that are drawn as an image: a 4 × 4 square."""


@dataclass(frozen=True)
class Tiles:
    """A picture of a tensor.

    Attributes
    ----------
    places
        (row, column): position inside the flat tensor, -1 between tiles.
    units, inputs
        (row, column): output and input of that parameter, -1 between tiles.
    axes
        The names of columns and rows.
    ticks
        Places and names along the columns and along the rows.
    square
        Cells are pixels of an image or taps of a kernel, so they are drawn about square.
    """

    places: np.ndarray
    units: np.ndarray
    inputs: np.ndarray
    axes: tuple[str, str]
    ticks: tuple[list[tuple[float, str]], list[tuple[float, str]]]
    square: bool


def tensor_row(ds: xr.Dataset, layer: str | None, tensor: str | None) -> int:
    """Return the row of the tensor to show: the named one, else the kernel of a layer, by default of the first."""
    require_tables(ds)
    names = [str(name) for name in ds["tensor"].values]
    if tensor is not None:
        if tensor not in names:
            raise unknown("tensor", tensor, names)
        return names.index(tensor)
    owners = ds["layer"].values.astype(str)[parameter_coord(ds, "tensor_layer")]
    kernels = ds["tensor_role"].values.astype(str) == "kernel"
    if layer is None:
        return int(np.argmax(kernels))
    if layer not in owners:
        raise unknown("layer", layer, dict.fromkeys(owners))
    found = np.flatnonzero((owners == layer) & kernels)
    if found.size > 1:
        several = ", ".join(names[row] for row in found)
        raise ValueError(f"layer {layer!r} has several kernels ({several}): name one, tensor={names[found[0]]!r}")
    return int(found[0]) if found.size else int(np.flatnonzero(owners == layer)[0])


def tiles_of(ds: xr.Dataset, row: int, images: bool = True) -> Tiles:
    """Lay out a tensor; the units of a first layer as images, or as rows of a matrix.

    Raises
    ------
    TrajectoryError
        If the dataset holds only a part of it.
    """
    name, shape = list(tensor_shapes(ds).items())[row]
    held = np.count_nonzero(parameter_coord(ds, "tensor_index") == row)
    if held != math.prod(shape):
        raise TrajectoryError(
            f"the dataset holds {held} of the {math.prod(shape)} parameters of {name!r}, and a picture of it "
            "needs all: select less narrowly"
        )
    kind = str(ds["layer_kind"].values[ds["tensor_layer"].values[row]])
    index = np.arange(math.prod(shape)).reshape(shape)
    if kind.startswith("convtranspose") and index.ndim >= 2:
        index = np.swapaxes(index, 0, 1)  # its own order is (in, out, taps)
    if index.ndim < 2:
        one = _matrix(index.reshape(-1, 1))
        return dataclasses.replace(one, axes=("", "unit"), ticks=([], one.ticks[1]))
    if index.ndim == 2 or index[0, 0].size == 1:
        matrix = index.reshape(index.shape[:2])
        image = images and _first_layer(ds, row) and index.ndim == 2 and _image_shape(matrix.shape[1])
        return _images(matrix, image) if image else _matrix(matrix)
    taps = index.reshape(*index.shape[:2], -1, index.shape[-1])
    return _kernels(taps)


def _first_layer(ds: xr.Dataset, row: int) -> bool:
    return row == int(np.argmax(ds["tensor_role"].values.astype(str) == "kernel"))


def _image_shape(inputs: int) -> tuple[int, int] | None:
    """Return channels and side of a square image with this number of inputs."""
    for channels in (1, 3):
        side = math.isqrt(inputs // channels)
        if channels * side * side == inputs and inputs >= SMALLEST_IMAGE:
            return channels, side
    return None


def _matrix(index: np.ndarray) -> Tiles:
    units, inputs = (np.asarray(part) for part in np.indices(index.shape))
    ends = [_ticks(n, 1) for n in index.shape]
    return Tiles(index, units, inputs, ("input", "unit"), (ends[1], ends[0]), square=False)


def _kernels(taps: np.ndarray) -> Tiles:
    """Lay out (out, in, y, x): a row of tiles for each output channel; where these are many more, a column."""
    parts = [taps, *np.indices(taps.shape)[:2]]
    names = "input channel", "output channel"
    if taps.shape[0] > 2 * taps.shape[1]:
        parts, names = [part.swapaxes(0, 1) for part in parts], names[::-1]
    rows, columns, high, wide = parts[0].shape
    places, units, inputs = (grid(part) for part in parts)
    return Tiles(places, units, inputs, names, (_ticks(columns, wide + 1), _ticks(rows, high + 1)), square=True)


def _images(matrix: np.ndarray, image: tuple[int, int]) -> Tiles:
    """Lay out (unit, input) as images, one a unit, with the channels of a unit side by side."""
    channels, side = image
    units, inputs = np.indices(matrix.shape)
    rows, columns = near_square(len(matrix), channels)
    parts = []
    for part in (matrix, units, inputs):
        images = part.reshape(-1, channels, side, side).transpose(0, 2, 1, 3).reshape(-1, side, channels * side)
        missing = np.full((rows * columns - len(images), *images.shape[1:]), -1)
        parts.append(grid(np.concatenate([images, missing]).reshape(rows, columns, *images.shape[1:])))
    text = f"units, {columns} to a row, each {side} × {side} inputs" + (f" of {channels} channels" * (channels > 1))
    ticks = [(side / 2 - 0.5 + row * (side + 1), str(row * columns)) for row in range(rows)]
    return Tiles(parts[0], parts[1], parts[2], (text, "first unit of the row"), ([], ticks), square=True)


def near_square(n: int, wide: int = 1) -> tuple[int, int]:
    """Return rows and columns of a grid of n tiles, each ``wide`` times wider than high."""
    columns = min(n, max(1, math.ceil(math.sqrt(1.4 * n / wide))))
    return -(-n // columns), columns


def grid(tiles: np.ndarray, gap: float = -1) -> np.ndarray:
    """Join tiles (row, column, y, x) into one array, one cell apart."""
    rows, columns, high, wide = tiles.shape
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=gap)
    return padded.transpose(0, 2, 1, 3).reshape(rows * (high + 1), columns * (wide + 1))[:-1, :-1]


def _ticks(n: int, step: int) -> list[tuple[float, str]]:
    """Return at most twelve ticks in the middle of n tiles that are ``step`` cells apart."""
    middle = (step - 1) / 2 - 0.5 if step > 1 else 0.0
    return [(middle + k * step, str(k)) for k in range(0, n, tick_step(n, 12))]


def tick_step(n: int, most: int) -> int:
    """Return a round number of rows from tick to tick, so that there are at most ``most``."""
    power = 1
    while n > 5 * most * power:
        power *= 10
    return next(step for step in (power, 2 * power, 5 * power) if n <= most * step)
