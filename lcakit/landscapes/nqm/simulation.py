"""The optimizers run on drawn noise: what the closed forms are held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import xarray as xr

from lcakit.landscapes.nqm.expectation import settings_coords, squeeze_scalars, with_rates
from lcakit.landscapes.nqm.optimizer import Optimizer, warn_if_unstable
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of, times_of
from lcakit.trajectory.arguments import checks_arguments, checks_itself

__all__ = ["Draw", "iterates", "simulate"]


def __dir__() -> list[str]:
    return __all__


Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
"""Draws noise of mean 0 and variance 1: ``(generator, shape) -> values``."""


def _gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


def iterates(
    problem: NoisyQuadratic,
    optimizers: list[Optimizer],
    batch_sizes: np.ndarray,
    runs: int,
    rng: np.random.Generator,
    draw: Draw = _gaussian,
) -> Iterator[np.ndarray]:
    """Yield the iterates (their average, with averaging) step by step from the start on, without end.

    Shape (learning rate, batch size, run, direction). A run has the same start and the same noise (``draw``, by default
    normal) at every learning rate and batch size, so that differences between these are not blurred by chance.
    """
    optimizer, h = optimizers[0], problem.curvature
    rates = np.array([o.learning_rate for o in optimizers])[:, None, None, None]
    deviation = np.sqrt(problem.noise / batch_sizes[:, None])[None, :, None, :]
    theta = np.broadcast_to(problem.start(rng, runs), (rates.size, batch_sizes.size, runs, h.size)).copy()
    momentum, average = np.zeros_like(theta), theta.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        while True:
            yield average if optimizer.averaging else theta
            gradient = h * theta + deviation * draw(rng, (runs, h.size))
            if optimizer.preconditioning:
                gradient /= h**optimizer.preconditioning
            momentum = optimizer.momentum * momentum + gradient
            theta = theta - rates * momentum
            average = optimizer.averaging * average + (1 - optimizer.averaging) * theta


@checks_arguments
@checks_itself(snapshots=Any)
def simulate(
    problem: NoisyQuadratic,
    optimizer: Optimizer,
    batch_size: Any,
    snapshots: int | Iterable[int],
    runs: int = 1,
    learning_rate: Any = None,
    seed: int = 0,
    theta: bool = False,
) -> xr.Dataset:
    """Run the optimizer, for all learning rates, batch sizes and runs at once.

    Parameters
    ----------
    batch_size, learning_rate
        One number or several each; a learning rate replaces the optimizer's.
    snapshots
        Numbers of steps after which to look, ascending.
    runs
        Independent runs. Each has the same start and noise at every learning rate and batch size.
    seed
        The same seed gives the same runs.
    theta
        Also keep the iterates.

    Returns
    -------
    Dataset
        ``loss`` ([learning_rate, batch_size,] run[, snapshot]), float64, infinite where the iterates have overflowed;
        with ``theta=True`` also ``theta`` (…, direction). With averaging both are those of the average.

    Raises
    ------
    ValueError
        For numbers of runs or batch sizes that are not positive, or snapshots that are not ascending whole numbers.

    Warns
    -----
    LcakitWarning
        If a learning rate is unstable.

    Notes
    -----
    Memory: learning rates × batch sizes × runs × directions float64 numbers, a few times; with ``theta`` as many
    again for each snapshot.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import Optimizer, paper_problem
    >>> simulate(paper_problem(100), Optimizer(0.5), [1, 10], range(4), runs=3)["loss"].sizes
    Frozen({'batch_size': 2, 'run': 3, 'snapshot': 4})
    """
    sizes, times, optimizers = (
        batch_sizes_of(batch_size),
        times_of(snapshots, "snapshots"),
        with_rates(optimizer, learning_rate),
    )
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}")
    warn_if_unstable(problem, *optimizers)
    wanted, losses, kept = set(times.tolist()), [], []
    walkers = iterates(problem, optimizers, sizes, runs, np.random.default_rng(seed))
    for step, values in zip(range(times[-1] + 1), walkers, strict=False):
        if step in wanted:
            losses.append(problem.loss(values))
            kept.extend([values.copy()] if theta else [])
    dims = ("learning_rate", "batch_size", "run", "snapshot")
    loss = np.moveaxis(np.array(losses), 0, -1)
    coords = settings_coords(optimizers, sizes) | {"run": np.arange(runs), "snapshot": times}
    loss = np.where(np.isnan(loss), np.inf, loss)
    out = xr.Dataset({"loss": (dims, loss, {"long_name": "loss", "units": "loss units"})}, coords=coords)
    if theta:
        attrs = {"long_name": "parameters", "units": "1"}
        out["theta"] = ((*dims, "direction"), np.moveaxis(np.array(kept), 0, -2), attrs)
        out = out.assign_coords(problem.coords)
    return squeeze_scalars(out, batch_size=batch_size, learning_rate=learning_rate, snapshot=snapshots)
