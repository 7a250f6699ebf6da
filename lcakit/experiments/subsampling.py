"""How well do gradients on a part of the training set approximate LCA? What a cheaper recording costs in accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from lcakit.errors import TrajectoryError
from lcakit.experiments.path import require_path, rule_of
from lcakit.progress import progress
from lcakit.record.allocation.allocator import Allocator
from lcakit.record.objective.objective import Objective
from lcakit.trajectory import labels
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.require import require_tables

__all__ = ["FRACTIONS", "MEASURES", "RESOLUTIONS", "subset_accuracy"]


def __dir__() -> list[str]:
    return __all__


FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of the examples that are compared by default."""

RESOLUTIONS = ("parameter", "unit", "layer")
"""What is compared: LCA of parameters, or sums over units or layers."""

MEASURES = {
    "correlation": "correlation with LCA over the full set",
    "relative_error": "root mean square error over root mean square",
    "sign_agreement": "share of equal signs",
}
"""Measures of agreement, and what each is."""


@checks_arguments
def subset_accuracy(
    ds: xr.Dataset,
    objective_on: Callable[[np.ndarray], Objective],
    fractions: Sequence[float] = FRACTIONS,
    seeds: Sequence[int] = (0, 1, 2),
    quiet: bool = False,
) -> xr.Dataset:
    r"""Allocate a recorded trajectory again with the loss over random subsets, and compare with the full set.

    With :math:`a` the LCA of the file and :math:`b` that of the subset's loss along the same path, over all iterations
    and all members (parameters, units or layers):

    .. math:: \mathrm{correlation} = \mathrm{corr}(a, b), \quad
              \mathrm{relative\_error} = \sqrt{\frac{\sum (b - a)^2}{\sum a^2}}, \quad
              \mathrm{sign\_agreement} = \frac{\#\{ab > 0\}}{\#\{ab \ne 0\}}

    Parameters
    ----------
    ds
        Trajectory with ``theta`` and ``lca`` allocated over the whole set (attribute ``n_examples``); select iterations
        before (``ds.lk.sel``) to make it cheaper.
    objective_on
        Makes the objective on the examples with these indices: ``lambda i: lk.Objective(model, (x[i], y[i]))``.
    fractions
        Of the examples, more than 0 and at most 1.
    seeds
        Each draws an order of the examples; a smaller fraction is the beginning of a larger one. The subset is the same
        in all iterations.
    quiet
        No progress bar.

    Returns
    -------
    Dataset
        (seed, fraction, resolution), float64: ``correlation``, ``relative_error``, ``sign_agreement``; ``examples``
        (fraction). A gradient costs in proportion to the examples.

    Raises
    ------
    TrajectoryError
        If ``theta`` or ``lca`` was not recorded, or the file does not say how many examples there were.
    ValueError
        For a fraction outside 0 … 1.

    Notes
    -----
    Not in the paper; a question of its reviewers. Iterations are refined by the file's rule, tolerance and most splits.
    """
    require_path(ds, "theta", "lca")
    require_tables(ds)
    if "n_examples" not in ds.attrs:
        raise TrajectoryError("the file does not say n_examples, the size of the full set: set ds.attrs['n_examples']")
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"a fraction of the examples is more than 0 and at most 1, got {fraction}")
    n = int(ds.attrs["n_examples"])
    counts = [max(1, round(fraction * n)) for fraction in fractions]
    values = np.empty((len(seeds), len(counts), len(RESOLUTIONS), len(MEASURES)))
    with progress(values[..., 0, 0].size * ds.sizes["iteration"], "allocating subsets", quiet=quiet) as bar:
        for s, seed in enumerate(seeds):
            order = np.random.default_rng(seed).permutation(n)
            for f, count in enumerate(counts):
                values[s, f] = _compare(ds, objective_on(np.sort(order[:count])), bar.update)
    dims = ("seed", "fraction", "resolution")
    coords = {"seed": list(seeds), "fraction": list(fractions), "resolution": list(RESOLUTIONS)}
    out = {
        name: (dims, values[..., k], {"long_name": text, "units": "1"})
        for k, (name, text) in enumerate(MEASURES.items())
    }
    return xr.Dataset(out, coords=coords | {"examples": ("fraction", counts)})


def _compare(ds: xr.Dataset, objective: Objective, tick: Callable[[], object]) -> np.ndarray:
    """Return (resolution, measure) of one subset, one iteration in memory at a time."""
    allocator = Allocator(objective, rule_of(ds))
    members = [None, *(np.unique(labels.group_ids(ds, by)[0], return_inverse=True)[1] for by in RESOLUTIONS[1:])]
    pairs = [_Pairs() for _ in members]
    allocator.start(ds["theta"][0].values)
    for t in range(ds.sizes["iteration"]):
        _, row = allocator.advance(ds["theta"][t + 1].values)
        full, part = (np.asarray(x, np.float64) for x in (ds["lca"][t].values, row["lca"]))
        for ids, sums in zip(members, pairs, strict=True):
            sums.add(*(x if ids is None else np.bincount(ids, x) for x in (full, part)))
        tick()
    return np.array([sums.measures() for sums in pairs])


@dataclass
class _Pairs:
    """Running sums over pairs (a, b), from which all measures follow."""

    moments: np.ndarray = field(default_factory=lambda: np.zeros(6))
    agree: int = 0
    both: int = 0

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        self.moments += [
            a.size,
            a.sum(),
            b.sum(),
            *(product.sum() for product in (a * a, b * b, a * b)),
        ]  # no BLAS threads
        signs = np.sign(a) * np.sign(b)
        self.agree += int(np.count_nonzero(signs > 0))
        self.both += int(np.count_nonzero(signs))

    def measures(self) -> tuple[float, float, float]:
        n, a, b, aa, bb, ab = self.moments
        variances = (aa - a * a / n) * (bb - b * b / n)
        correlation = (ab - a * b / n) / np.sqrt(variances) if variances > 0 else np.nan
        error = np.sqrt(max(aa + bb - 2 * ab, 0.0) / aa) if aa > 0 else np.nan
        return float(correlation), float(error), self.agree / self.both if self.both else np.nan
