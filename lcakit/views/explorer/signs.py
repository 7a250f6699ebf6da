"""Sums and counts of signs of LCA by tensor, of all classes or of some; made once for each choice of classes."""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import sum_by
from lcakit.analysis.computing import compute
from lcakit.analysis.noise import help_hurt_zero
from lcakit.trajectory.labels import parameter_coord
from lcakit.trajectory.schema import CHUNK_ITERATIONS
from lcakit.views.explorer.reading import Reader, values_of

__all__ = ["CLASS_BYTES", "Counts", "Signs", "by_class", "helping_share"]


def __dir__() -> list[str]:
    return __all__


CLASS_BYTES = 128 * 2**20
"""Largest span, in bytes of LCA by class, whose signs are counted when classes change: about 0.1 s."""
_CACHE_NUMBERS = 2**17
"""Numbers that are compared at a time: half a megabyte to one stays in the cache."""
_MOST_CHOICES = 8
"""Most choices of classes whose numbers are kept: each has a few numbers for every iteration and tensor."""


@dataclass(frozen=True)
class Counts:
    """Numbers of every iteration and tensor."""

    sums: np.ndarray
    """LCA (iteration, tensor)."""
    outcomes: np.ndarray
    """Parameters that help, hurt and do neither (iteration, outcome, tensor)."""


class Signs:
    """What one pass over LCA of single parameters gives, for datasets that differ in their classes only.

    Parameters
    ----------
    lca
        Name of the variable.
    small, window
        Largest LCA in bytes that is read as a whole, and largest span in bytes of what is larger.
    """

    def __init__(self, lca: str, small: int, window: int) -> None:
        self._lca, self._most, self._window = lca, small, window
        self._kept: OrderedDict[tuple[str, ...], Counts] = OrderedDict()

    def small(self, ds: xr.Dataset, classes: tuple[str, ...]) -> bool:
        """Return whether all LCA is read at once, to have sums and signs of all tensors ready."""
        return self._row_bytes(ds, classes) * ds.sizes["iteration"] <= self._most

    def all(self, ds: xr.Dataset, classes: tuple[str, ...]) -> Counts:
        """Return sums and counts of all iterations, in one pass; ``classes`` are those of ``ds``, () for all."""
        if classes not in self._kept:
            sums, shares = compute(sum_by(ds, "tensor", self._lca), self._shares(ds), quiet=True)
            self._kept[classes] = Counts(np.asarray(sums.values), _counted(ds, shares))
            if len(self._kept) > _MOST_CHOICES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(classes)
        return self._kept[classes]

    def between(self, ds: xr.Dataset, classes: tuple[str, ...], first: int, last: int) -> np.ndarray | int:
        """Return the counts of a span; where that would take too long, the most iterations that are counted."""
        if self.small(ds, classes):
            return self.all(ds, classes).outcomes[first : last + 1]
        most = max(1, self._window // self._row_bytes(ds, classes))
        if last - first + 1 > most:
            return most
        part = ds.isel(iteration=slice(first, last + 1))
        return _counted(ds, compute(self._shares(part), quiet=True))

    def _row_bytes(self, ds: xr.Dataset, classes: tuple[str, ...]) -> int:
        return 4 * int(ds.sizes["parameter"]) * max(1, len(classes))

    def _shares(self, ds: xr.Dataset) -> xr.DataArray:
        others = [str(name) for name in ds.data_vars if name != self._lca]  # counts in the file may lack a grouping
        return help_hurt_zero(ds.drop_vars(others), self._lca, "tensor")


def by_class(reader: Reader, ds: xr.Dataset, name: str, classes: tuple[int, ...], first: int, last: int) -> np.ndarray:
    """Return the outcomes of a span for the sum of some classes: (iteration, outcome, tensor), as in :class:`Counts`.

    They are counted in blocks of iterations, which ``reader`` keeps: a span that moves counts only what is new in it.

    Parameters
    ----------
    name
        A variable (iteration, class, parameter).
    classes
        Positions of the classes.
    first, last
        Positions of the first and last iteration.
    """
    outcomes = []
    for start in range(first - first % CHUNK_ITERATIONS, last + 1, CHUNK_ITERATIONS):
        rows = slice(start, start + CHUNK_ITERATIONS)
        found = reader.keep(("outcomes", name, classes, start), functools.partial(_counts, ds, name, classes, rows))
        outcomes.append(found[max(first - start, 0) : last + 1 - start])
    return np.concatenate(outcomes)


def _counts(ds: xr.Dataset, name: str, classes: tuple[int, ...], rows: slice) -> np.ndarray:
    """Return the outcomes of some iterations, counted in blocks that fit the cache."""
    ends = np.flatnonzero(np.diff(parameter_coord(ds, "tensor_index"), prepend=-1))
    array = ds[name].transpose("iteration", "class", "parameter")
    parts = [values_of(array[rows, cls]) for cls in classes]
    few = max(1, _CACHE_NUMBERS // parts[0].shape[1])
    outcomes = []
    for row in range(0, len(parts[0]), few):
        of_rows = [part[row : row + few] for part in parts]
        block = of_rows[0] if len(parts) == 1 else np.sum(of_rows, axis=0, dtype=np.float64)
        outcomes.append(_signs(np.asarray(block), ends))
    return np.concatenate(outcomes)


def _signs(block: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return how many numbers of each row are negative, positive and zero (row, outcome, tensor)."""
    spans = list(zip(ends.tolist(), [*ends[1:].tolist(), block.shape[1]], strict=True))
    kinds = [block < 0, block > 0, block == 0]  # counted span by span: NumPy counts a single row fastest
    counts = [[[np.count_nonzero(row[a:b]) for a, b in spans] for row in kind] for kind in kinds]
    return np.asarray(counts).transpose(1, 0, 2)


def _counted(ds: xr.Dataset, shares: xr.DataArray) -> np.ndarray:
    index = parameter_coord(ds, "tensor_index")
    sizes = np.bincount(index)[np.unique(index)]
    return np.asarray(np.rint(np.asarray(shares.values) * sizes))


def helping_share(outcomes: np.ndarray) -> float | None:
    """Return the mean over iterations of helping / (helping + hurting), as in Table 1; None where nothing moves."""
    helping, hurting, _ = outcomes.sum(-1).T
    moving = helping + hurting
    return float(np.mean(helping[moving > 0] / moving[moving > 0])) if moving.any() else None
