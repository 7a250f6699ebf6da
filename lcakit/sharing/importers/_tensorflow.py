"""From TensorFlow's order of a network's numbers to PyTorch's: the tables of a foreign file, column by column.

Kernels are stored ``taps …, in, out`` (dense: ``in, out``) and wanted ``out, in, taps …``. Depthwise kernels, stored
``taps …, in, multiplier``, are wanted ``in × multiplier, 1, taps …``; kernels of transposed convolutions (a layer with
"transpose" in its name), stored ``taps …, out, in``, are wanted ``in, out, taps …``. Everything else keeps its order.
The tensors keep theirs, so only the columns inside a kernel move.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcakit.errors import TrajectoryError
from lcakit.sharing.importers._h5 import File
from lcakit.sharing.importers.names import DEPTHWISE, guess_labels, is_learned, split
from lcakit.sharing.importers.rows import BLOCK_BYTES, Rows
from lcakit.trajectory.labels import Labels

_SHAPE = re.compile(r"(TensorShape|Dimension|[\s()\[\],]|[0-9]{1,10}L?)*")


@dataclass(frozen=True)
class Piece:
    """One tensor: where it lies among the columns of the file and of the trajectory, and how its axes are turned."""

    source: int
    target: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of columns."""
        return math.prod(self.shape)

    def turned(self, block: np.ndarray) -> np.ndarray:
        """Return the tensor's columns (rows, size) in PyTorch's order."""
        if self.axes == tuple(range(len(self.shape))):
            return block
        axes = (0, *(axis + 1 for axis in self.axes))
        return block.reshape(len(block), *self.shape).transpose(axes).reshape(len(block), -1)


@dataclass(frozen=True)
class Network:
    """The tensors of a file, in the order of the columns: names, TensorFlow's shapes, labels in PyTorch's layout."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    labels: Labels

    @property
    def n_columns(self) -> int:
        """Number of columns of all tensors, learned or not."""
        return sum(math.prod(shape) for shape in self.shapes)

    def pieces(self, columns: int) -> tuple[Piece, ...]:
        """Return where what is learned lies in a table of that many columns: all tensors, or only what is learned.

        Raises
        ------
        TrajectoryError
            For any other number of columns.
        """
        if columns not in (self.n_columns, self.labels.n_parameters):
            raise TrajectoryError(
                f"{columns} columns, but var_shapes has {self.n_columns} entries ({self.labels.n_parameters} learned)"
            )
        rows = zip(self.names, self.shapes, strict=True)
        held = [row for row in rows if columns == self.n_columns or is_learned(row[0])]
        out, source, target = [], 0, 0
        for name, shape in held:
            if is_learned(name):
                out.append(Piece(source, target, shape, _axes(name, shape)))
                target += math.prod(shape)
            source += math.prod(shape)
        return tuple(out)


def network(names: str, shapes: str) -> Network:
    """Return the tensors that two texts list, separated by ``;``: names, and shapes such as ``(3, 3, 1, 20)``."""
    listed = [_items(text) for text in (names, shapes)]
    if len(listed[0]) != len(listed[1]) or not listed[0]:
        raise TrajectoryError(f"var_names lists {len(listed[0])} tensors, var_shapes {len(listed[1])}")
    if len(set(listed[0])) < len(listed[0]):
        raise TrajectoryError("var_names lists a name twice")
    found = {name: _shape(text) for name, text in zip(*listed, strict=True)}
    transposed = [n for n, shape in found.items() if "transpose" in split(n)[0].lower() and len(shape) > 2]
    labels = guess_labels({name: _torch_shape(name, shape) for name, shape in found.items()}, transposed)
    return Network(tuple(found), tuple(found.values()), labels)


def _items(text: str) -> list[str]:
    items = [part.strip() for part in text.split(";")]
    return items[:-1] if items and not items[-1] else items


def _shape(text: str) -> tuple[int, ...]:
    if not _SHAPE.fullmatch(text):
        raise TrajectoryError(f"var_shapes: {text[:80]!r} is not a shape such as (3, 3, 1, 20)")
    return tuple(int(n) for n in re.findall("[0-9]+", text))


def _is_kernel(name: str, shape: Sequence[int]) -> bool:
    return len(shape) >= 2 and guess_labels({name: (1,) * len(shape)}).tensors[0].role == "kernel"


def _axes(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    rank = len(shape)
    if not (is_learned(name) and _is_kernel(name, shape)):
        return tuple(range(rank))
    taps = tuple(range(rank - 2))
    return (rank - 2, rank - 1, *taps) if split(name)[1] == DEPTHWISE else (rank - 1, rank - 2, *taps)


def _torch_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    turned = tuple(shape[axis] for axis in _axes(name, shape))
    return (turned[0] * turned[1], 1, *turned[2:]) if split(name)[1] == DEPTHWISE and len(shape) > 2 else turned


class Columns(Rows):
    """A dataset (rows, columns) of a file, in PyTorch's order and without what is not learned."""

    def __init__(self, file: File, name: str, network: Network, rows: int | None = None) -> None:
        shape = file.shape(name, (rows, None))
        self.file, self.name = file, name
        try:
            self.pieces = network.pieces(shape[1])
        except TrajectoryError as error:
            raise TrajectoryError(f"{file}: {name!r} has {error}") from error
        super().__init__(shape[0], network.labels.n_parameters)

    def read(self, start: int, stop: int, left: int, right: int) -> np.ndarray:
        """Read the tensors that overlap ``left:right``, a few rows at a time: their columns lie apart in the file."""
        out = np.empty((stop - start, right - left), self.dtype)
        pieces = [p for p in self.pieces if p.target < right and p.target + p.size > left]
        if not pieces or start == stop:
            return out
        first, last = pieces[0].source, pieces[-1].source + pieces[-1].size
        step = max(1, BLOCK_BYTES // (4 * (last - first)))
        for row in range(start, stop, step):
            block = self.file.read(self.name, slice(row, min(row + step, stop)), slice(first, last))
            into = out[row - start : row - start + len(block)]
            for p in pieces:
                a, b = max(left, p.target), min(right, p.target + p.size)
                values = p.turned(block[:, p.source - first : p.source - first + p.size])
                into[:, a - left : b - left] = values[:, a - p.target : b - p.target]
        return out
