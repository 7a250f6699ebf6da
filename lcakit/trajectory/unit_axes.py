"""Which entries of a tensor belong to which unit, a word for each axis: a convolution's kernel is ``unit input tap``.

A word for each axis, in order:

``unit``
    Entries at different places are of different units.
``input``, ``tap``
    Entries at different places are of the same unit: of different inputs, or different taps (also: gates).
``group``
    Entries at different places are of different units and of different inputs: groups of a transposed convolution.
``(tap=4 unit)``
    One axis that is two, the first of four places: the rows of an LSTM's weights, four gates of each neuron.
``input...``, ``tap...``
    Any number of further axes, also none.

``"none"`` for a tensor whose units are not known: all its entries are of one unit, that of its layer.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np

from lcakit.errors import TrajectoryError

__all__ = ["NONE", "PLAIN_UNITS", "UnitAxes", "parse_axes"]


def __dir__() -> list[str]:
    return __all__


NONE = "none"
PLAIN_UNITS = ("neuron", "channel", "row")
"""Units along one axis of their tensor, whose other axes are inputs and taps. A file names only other kinds."""

_WORDS = ("unit", "input", "tap", "group")
_OF_UNITS = ("unit", "group")
_TOKEN = re.compile(r"\([^()]*\)|[^\s()]+")
_EXAMPLES = '"unit input", "input unit", "unit input tap...", "(tap=4 unit) input" or "none"'


@dataclass(frozen=True)
class UnitAxes:
    """The axes of a tensor, after splitting, each with its size and its word."""

    sizes: tuple[int, ...]
    words: tuple[str, ...]

    @property
    def n_units(self) -> int:
        """Number of units."""
        return math.prod(size for size, word in zip(self.sizes, self.words, strict=True) if word in _OF_UNITS)

    @property
    def view(self) -> tuple[int, int, int, int]:
        """Shape (groups, before, units, after) of the tensor such that units are axes 0 and 2 (C order)."""
        axes = zip(self.sizes, self.words, strict=True)
        runs = [
            (key, math.prod(size for size, _ in run)) for key, run in groupby(axes, lambda axis: axis[1] in _OF_UNITS)
        ]
        sizes = [size for _, size in runs]
        if not any(is_unit for is_unit, _ in runs):
            return 1, 1, 1, math.prod(sizes)
        if sum(is_unit for is_unit, _ in runs) == 1:
            before, units, *after = sizes if not runs[0][0] else [1, *sizes]
            return 1, before, units, math.prod(after)
        groups, before, units, *after = sizes
        return groups, before, units, math.prod(after)

    def index(self, word: str, rows: slice = slice(None)) -> np.ndarray:
        """Return the place of each entry along the axes of a word, flat in C order, int32; -1 where there is none.

        ``rows``: only of the entries at these places of the first axis.
        """
        sizes = self.sizes or (1,)
        place = np.full(1, -1 if word != "unit" else 0, np.int32)
        for axis, (size, own) in enumerate(zip(self.sizes, self.words, strict=True)):
            if own == word or (own == "group" and word in ("unit", "input")):
                steps = np.arange(size, dtype=np.int32)[rows if axis == 0 else slice(None)]
                place = np.maximum(place, 0) * size + steps.reshape(-1, *[1] * (len(sizes) - axis - 1))
        return np.broadcast_to(place, (len(range(sizes[0])[rows]), *sizes[1:])).ravel()


@lru_cache(maxsize=1024)
def parse_axes(axes: str, shape: tuple[int, ...]) -> UnitAxes:
    """Return what ``axes`` says of a tensor.

    Raises
    ------
    TrajectoryError
        If it has an unknown word, or fits no tensor of that shape.

    Examples
    --------
    >>> parse_axes("(tap=4 unit) input", (12, 5)).n_units
    3
    >>> parse_axes("(tap=4 unit)", (12,)).index("unit").tolist()
    [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    """
    tokens = _TOKEN.findall(axes)
    if tokens == [NONE]:
        words = ("input", *["tap"] * (len(shape) - 1)) if len(shape) > 1 else ("tap",) * len(shape)
        return UnitAxes(shape, words)
    if tokens and tokens[-1].endswith("..."):
        word = tokens.pop().removesuffix("...")
        tokens += [word] * (len(shape) - len(tokens))
    if len(tokens) != len(shape):
        raise _misfit(axes, shape, f"it names {len(tokens)} axes of {len(shape)}")
    parts = [part for token, size in zip(tokens, shape, strict=True) for part in _split(token, size, axes, shape)]
    found = UnitAxes(tuple(size for size, _ in parts), tuple(word for _, word in parts))
    runs = [is_unit for is_unit, _ in groupby(word in _OF_UNITS for word in found.words)]
    if sum(runs) > 2 or (sum(runs) == 2 and not runs[0]):
        raise _misfit(axes, shape, "the axes of units must be neighbours, or the first axis and one more")
    return found


def _split(token: str, size: int, axes: str, shape: tuple[int, ...]) -> list[tuple[int, str]]:
    """Return size and word of the axes that one axis stands for."""
    parts = [part.partition("=")[::2] for part in token.strip("()").split()]
    unknown = [word for word, _ in parts if word not in _WORDS]
    if unknown or not all(count.isdecimal() for _, count in parts if count):
        raise _misfit(axes, shape, f"the words are {', '.join(_WORDS)}, with a whole number as in tap=4")
    known = math.prod(int(count) for _, count in parts if count)
    open_ones = sum(not count for _, count in parts)
    if open_ones > 1 or known == 0 or size % known or (not open_ones and size != known):
        raise _misfit(axes, shape, f"{token} does not divide an axis of {size}")
    return [(int(count) if count else size // known, word) for word, count in parts]


def _misfit(axes: str, shape: tuple[int, ...], why: str) -> TrajectoryError:
    return TrajectoryError(
        f"the units {axes!r} do not fit a tensor of shape {shape}: {why}. Write a word for each axis: {_EXAMPLES}."
    )
