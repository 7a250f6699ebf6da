"""A simulated run as a trajectory of the format, without torch: every study of lcakit works on it.

Directions are parameters, in their order; bands of directions are layers, so that a study by layer is one by curvature.
Each direction is a unit of its layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import DivergedError
from lcakit.landscapes.nqm.optimizer import Optimizer, warn_if_unstable
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of
from lcakit.landscapes.nqm.simulation import iterates
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import build_dataset

__all__ = ["bands_of", "trajectory", "with_curvature"]


def __dir__() -> list[str]:
    return __all__


_LOSS_UNIT = "loss units"


@checks_arguments
def bands_of(problem: NoisyQuadratic, bands: Sequence[int] | None = None) -> list[tuple[str, slice]]:
    """Return name and place of each band of directions: ``directions_10_99`` is 10 to 99, counted from 1.

    Parameters
    ----------
    bands
        The first direction of each band, ascending from 1; by default the powers of ten.

    Raises
    ------
    ValueError
        For other numbers.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import paper_problem
    >>> [name for name, _ in bands_of(paper_problem(25))]
    ['directions_1_9', 'directions_10_25']
    """
    d = problem.n_directions
    firsts = [10**n for n in range(len(str(d)))] if bands is None else [int(first) for first in bands]
    ends = [*firsts, d + 1]
    if not firsts or firsts[0] != 1 or any(b <= a for a, b in pairwise(ends)):
        raise ValueError(f"bands must be ascending directions from 1 to at most {d}, beginning with 1; got {bands!r}")
    return [(f"directions_{a}_{b - 1}", slice(a - 1, b - 1)) for a, b in pairwise(ends)]


@checks_arguments
def with_curvature(ds: xr.Dataset, problem: NoisyQuadratic) -> xr.Dataset:
    """Return a trajectory with the coordinates ``direction`` (from 1) and ``curvature`` on ``parameter``.

    Raises
    ------
    ValueError
        If the trajectory has another number of parameters.
    """
    if ds.sizes.get("parameter") != problem.n_directions:
        raise ValueError(
            f"the trajectory has {ds.sizes.get('parameter', 0)} parameters and the problem {problem.n_directions} "
            "directions; they must be of one landscape, without a selection"
        )
    coords = problem.coords
    direction = ("parameter", coords["direction"].values.astype(np.int32), {"long_name": "direction", "units": "1"})
    return ds.assign_coords(direction=direction, curvature=("parameter", problem.curvature, coords["curvature"][2]))


@checks_arguments
def trajectory(
    problem: NoisyQuadratic,
    optimizer: Optimizer,
    batch_size: float,
    iterations: int,
    seed: int = 0,
    bands: Sequence[int] | None = None,
) -> xr.Dataset:
    """Run the optimizer once and return the run as a trajectory with its exact LCA.

    Parameters
    ----------
    batch_size
        One number; ``np.inf`` means no noise.
    iterations
        T, at least 1.
    seed
        The same seed gives the same run.
    bands
        See :func:`bands_of`.

    Returns
    -------
    Dataset
        In the format of a recording (NumPy arrays): ``theta``, ``gradient``, ``lca``, ``loss``, ``first_order``,
        ``residual``, ``splits``, ``learning_rate``; ``direction`` and ``curvature`` on ``parameter``. With averaging it
        is the trajectory of the average. LCA is that of the float32 snapshots.

    Raises
    ------
    DivergedError
        If the iterates leave the range of float32.

    Warns
    -----
    LcakitWarning
        If the learning rate is unstable.

    Examples
    --------
    >>> import lcakit as lk
    >>> from lcakit.landscapes.nqm import paper_problem
    >>> ds = trajectory(paper_problem(30), Optimizer(0.5), batch_size=4, iterations=20)
    >>> lk.layers.layer_lca(ds)["layer"].values.tolist()
    ['directions_1_9', 'directions_10_30']
    """
    sizes = batch_sizes_of(batch_size)
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    warn_if_unstable(problem, optimizer)
    steps = iterates(problem, [optimizer], sizes[:1], 1, np.random.default_rng(seed))
    with np.errstate(over="ignore", invalid="ignore"):
        theta = np.array([values[0, 0, 0] for values in islice(steps, iterations + 1)], np.float32)
    bad = np.flatnonzero(~np.isfinite(theta).all(1))
    if bad.size:
        raise DivergedError(
            f"the iterates are not finite after {bad[0]} steps. Stable learning rates are below "
            f"{optimizer.stability_limit(problem):g}, got {optimizer.learning_rate:g}."
        )
    return with_curvature(_dataset(problem, optimizer, theta, seed, bands), problem)


def _dataset(
    problem: NoisyQuadratic, optimizer: Optimizer, theta32: np.ndarray, seed: int, bands: Sequence[int] | None
) -> xr.Dataset:
    theta, h = theta32.astype(np.float64), problem.curvature
    moves, loss = np.diff(theta, axis=0), problem.loss(theta)
    lca = h * moves * (theta[1:] + theta[:-1]) / 2
    n = len(moves)
    variables = {
        "theta": theta32,
        "gradient": h * theta,
        "lca": lca,
        "loss": loss,
        "first_order": (h * theta[:-1] * moves).sum(1),
        "residual": lca.sum(1) - np.diff(loss),
        "splits": np.full(n, 2),
        "learning_rate": np.full(n, optimizer.learning_rate),
    }
    specs = (
        TensorSpec(f"{name}.theta", (part.stop - part.start, 1), "kernel", name, "band")
        for name, part in bands_of(problem, bands)
    )
    steps = {"snapshot": (("snapshot",), np.arange(n + 1)), "iteration": (("iteration",), np.arange(n))}
    attrs: dict[str, Any] = {
        "loss_name": "noisy_quadratic",
        "loss_unit": _LOSS_UNIT,
        "n_examples": 1,
        "norm_mode": "none",
        "evaluation_batch_size": 1,
        "rule": "exact",
        "tolerance": 1e-3,
        "precision": "float64",
        "seed": seed,
        "data_fingerprint": "none: a landscape",
        "model_fingerprint": "none: a landscape",
    }
    return build_dataset(Labels(tuple(specs)).coords() | steps, variables, attrs)
