"""The parameter axis in pieces: float64 work needs the memory of a piece, however large the network is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from lcakit.trajectory.labels import Labels

__all__ = ["PIECE", "Part", "Piece", "pieces_of"]


def __dir__() -> list[str]:
    return __all__


PIECE = 2**24
"""Float64 numbers of a piece (128 MB). Every network of the paper is a single piece, also by class: pieces that fit the
caches of a CPU are slower (measured: 4.8 against 2.8 ms for a move of MNIST-FC), since both cores share a large one."""


@dataclass(frozen=True)
class Part:
    """Neighbouring parameters of one tensor: all of it, or some rows of a large one.

    ``view`` is their shape (groups, before, units, after), as :attr:`lcakit.trajectory.labels.TensorSpec.unit_view`.
    """

    columns: slice
    view: tuple[int, int, int, int]
    first_unit: int
    layer: int

    @property
    def units(self) -> slice:
        """The units that they belong to."""
        return slice(self.first_unit, self.first_unit + self.view[0] * self.view[2])


@dataclass(frozen=True)
class Piece:
    """Neighbouring parts."""

    parts: tuple[Part, ...]

    @property
    def columns(self) -> slice:
        """The place of the piece on the parameter axis."""
        return slice(self.parts[0].columns.start, self.parts[-1].columns.stop)

    @property
    def width(self) -> int:
        """Number of its parameters."""
        return int(self.columns.stop - self.columns.start)

    def inside(self, part: Part) -> slice:
        """Return the place of a part inside the piece."""
        start = self.columns.start
        return slice(part.columns.start - start, part.columns.stop - start)

    def add_unit_sums(self, values: torch.Tensor, out: torch.Tensor) -> None:
        """Add values (C, width), summed over each unit, to ``out`` (C, U). Fixed order: the same on every device."""
        for part in self.parts:
            view = values[:, self.inside(part)].reshape(len(values), *part.view)
            out[:, part.units] += view.sum((2, 4)).flatten(1)


def pieces_of(labels: Labels, height: int = 1, most: int | None = None) -> tuple[Piece, ...]:
    """Cut the axis between tensors, and between the rows of a tensor that is larger than a piece.

    Parameters
    ----------
    height
        Numbers for each parameter: C of them by class.
    most
        Numbers of a piece, :data:`PIECE` by default; a single row of a tensor is never cut.
    """
    width = max(1, (most or PIECE) // height)
    pieces: list[Piece] = []
    waiting: list[Part] = []
    for part in _parts(labels, width):
        if waiting and part.columns.stop - waiting[0].columns.start > width:
            pieces.append(Piece(tuple(waiting)))
            waiting = []
        waiting.append(part)
    return (*pieces, Piece(tuple(waiting)))


def _parts(labels: Labels, width: int) -> Iterator[Part]:
    rows_of_layers = {name: row for row, name in enumerate(labels.layers)}
    for spec, offset in zip(labels.tensors, labels.offsets, strict=True):
        first, layer = labels.first_unit[spec.layer] + spec.first_unit, rows_of_layers[spec.layer]
        for start, view, unit in _cuts(spec.unit_view, width):
            yield Part(slice(offset + start, offset + start + math.prod(view)), view, first + unit, layer)


def _cuts(view: tuple[int, int, int, int], width: int) -> Iterator[tuple[int, tuple[int, int, int, int], int]]:
    """Yield start, view and first unit of the parts of a tensor, none larger than ``width`` where it has rows."""
    groups, before, units, after = view
    block = units * after
    if groups * before * block <= width:
        yield 0, view, 0
    elif groups * units == 1:  # a single unit can be cut anywhere
        for start in range(0, before * after, width):
            yield start, (1, 1, 1, min(width, before * after - start)), 0
    elif block <= width:
        for group in range(groups):
            for row in range(0, before, rows := width // block):
                count = min(rows, before - row)
                yield (group * before + row) * block, (1, count, units, after), group * units
    else:
        for row in range(groups * before):
            for unit in range(0, units, rows := max(1, width // after)):
                count, start = min(rows, units - unit), row * block + unit * after
                yield start, (1, 1, count, after), row // before * units + unit
