"""Running statistics of a recording: a few numbers for each parameter, in place of its series.

They are of the numbers as they would be stored (float32), in the order of the iterations, and add up in float64. A
move is a stretch of one iteration: adding it and joining the blocks of a cluster are the same :func:`merge`. Zeros
between signs count as in :mod:`lcakit.analysis.oscillation`: a stretch keeps its first and last sign that is not zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lcakit.errors import RecordingError
from lcakit.record.allocation.axis_blocks import Piece
from lcakit.storage.npz import ITERATIONS
from lcakit.trajectory.schema import SIGNS, VARIABLES

__all__ = ["ADDED", "Statistics", "merge", "merge_files", "wanted"]


def __dir__() -> list[str]:
    return __all__


ADDED = ("total_lca", "total_square_lca", "helped_count", "hurt_count")
_SIGN = "i1"


def merge(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Join the statistics of two neighbouring stretches, the earlier first.

    Parameters
    ----------
    a, b
        Arrays or tensors (K,) by name; a name that ``b`` does not have is left out.

    Returns
    -------
    dict
        Of the types of ``a``; neither is changed.

    Examples
    --------
    >>> up, down = ({"turn_count": np.zeros(1, int), "first_step": s, "last_step": s} for s in np.int8([[1], [-1]]))
    >>> merge(merge(up, down), up)["turn_count"]
    array([2])
    """
    out = {name: a[name] + b[name] for name in ADDED if name in a and name in b}
    for count, (first, last) in SIGNS.items():
        if count in a and count in b:
            out[count] = a[count] + b[count] + (a[last] * b[first] < 0)
            out[first] = a[first] + b[first] * (a[first] == 0)
            out[last] = b[last] + a[last] * (b[last] == 0)
    return out


def merge_files(files: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Join what :meth:`Statistics.arrays` gave for neighbouring blocks, the earliest first; two at a time are read."""
    whole = {name: values[:] for name, values in files[0].items()}
    for file in files[1:]:
        block = {name: values[:] for name, values in file.items()}
        whole = {ITERATIONS: whole[ITERATIONS] + block[ITERATIONS], **merge(whole, block)}
    return whole


class Statistics:
    """The statistics of the iterations so far, on one device.

    Parameters
    ----------
    names
        Which of :data:`lcakit.trajectory.schema.STATISTICS`.
    pieces
        The parameter axis, as the allocator works through it.
    """

    def __init__(self, names: Sequence[str], pieces: Sequence[Piece], device: torch.device) -> None:
        self.names, self._pieces = tuple(names), pieces
        self.iterations = 0
        n = pieces[-1].columns.stop
        types = {name: VARIABLES[name].dtype for name in names}
        types |= {sign: _SIGN for name in names for sign in SIGNS.get(name, ())}
        self._state = {name: torch.zeros(n, dtype=_TORCH[kind], device=device) for name, kind in types.items()}

    def begin(self, gradient: torch.Tensor) -> None:
        """Count the gradient (K,) at the first snapshot of a run; a later stretch begins after its first snapshot."""
        for piece in self._pieces:
            self._add(piece.columns, _of_gradient(gradient[piece.columns]))

    def update(self, lca: torch.Tensor, here: torch.Tensor, there: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add a move: its LCA, the snapshots at both ends, and the gradient at the second; each (K,), float32."""
        count, self.iterations = self.iterations, -1  # an interrupt in between leaves what can be told from a whole
        for piece in self._pieces:
            at = piece.columns
            move = _of_lca(lca[at]) | _of_step(here[at], there[at]) | _of_gradient(gradient[at])
            self._add(at, move)
        self.iterations = count + 1

    def _add(self, at: slice, stretch: dict[str, Any]) -> None:
        stored = {name: values[at] for name, values in self._state.items()}
        for name, values in merge(stored, stretch).items():
            stored[name].copy_(values)

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield what a file of them holds, one by one: on a GPU each takes memory of the host."""
        yield ITERATIONS, np.array([self.iterations])
        for name, values in self._state.items():
            yield name, values.cpu().numpy()

    def load(self, stored: Mapping[str, Any], where: object) -> None:
        """Go on from what :meth:`arrays` gave.

        Raises
        ------
        RecordingError
            If other statistics are in it.
        """
        if set(stored) != {ITERATIONS, *self._state}:
            raise RecordingError(f"{where} holds the statistics {sorted(stored)}, not those of this recording")
        self.iterations = int(stored[ITERATIONS][0])
        for name, values in self._state.items():
            values.copy_(torch.from_numpy(stored[name][:]))

    def variables(self) -> dict[str, np.ndarray]:
        """Return the statistics as variables of the format."""
        return {name: self._state[name].cpu().numpy() for name in self.names}


_TORCH = {"f8": torch.float64, "i4": torch.int32, _SIGN: torch.int8}


def wanted(names: Sequence[str], pieces: Sequence[Piece], device: torch.device) -> Statistics | None:
    """Return empty statistics of these names, or None where there are no names."""
    return Statistics(names, pieces, device) if names else None


def _of_lca(lca: torch.Tensor) -> dict[str, Any]:
    exact = lca.to(torch.float64)  # in float32 the squares of small numbers are zero
    return {
        "total_lca": exact,
        "total_square_lca": exact * exact,
        "helped_count": lca < 0,
        "hurt_count": lca > 0,
    }


def _of_step(here: torch.Tensor, there: torch.Tensor) -> dict[str, Any]:
    return _of_sign("turn_count", there > here, there < here)


def _of_gradient(gradient: torch.Tensor) -> dict[str, Any]:
    return _of_sign("crossing_count", gradient > 0, gradient < 0)


def _of_sign(count: str, up: torch.Tensor, down: torch.Tensor) -> dict[str, Any]:
    sign = up.to(torch.int8) - down.to(torch.int8)
    first, last = SIGNS[count]
    return {count: 0, first: sign, last: sign}
