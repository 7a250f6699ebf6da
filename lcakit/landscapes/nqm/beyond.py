"""What the closed forms leave out: curvature that is not along the parameters, and noise that is not Gaussian."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr

from lcakit.errors import unknown
from lcakit.landscapes.nqm.optimizer import Optimizer, warn_if_unstable
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of
from lcakit.landscapes.nqm.simulation import Draw, iterates
from lcakit.trajectory.arguments import checks_arguments, require_least

__all__ = ["NOISES", "random_rotation", "simulate_helping"]


def __dir__() -> list[str]:
    return __all__


_FREEDOM = 5
"""Degrees of freedom of Student's t: heavy tails, with a variance and a kurtosis."""

NOISES: dict[str, Draw] = {
    "gaussian": lambda rng, shape: rng.standard_normal(shape),
    "laplace": lambda rng, shape: rng.laplace(scale=math.sqrt(0.5), size=shape),
    "student": lambda rng, shape: rng.standard_t(_FREEDOM, shape) * math.sqrt((_FREEDOM - 2) / _FREEDOM),
    "two_point": lambda rng, shape: 2.0 * rng.integers(0, 2, shape) - 1,
}
"""Noise of mean 0 and variance 1: name to ``(generator, shape) -> values``."""


@checks_arguments
def random_rotation(directions: int, seed: int = 0) -> np.ndarray:
    """Return a rotation Q (d, d), drawn evenly over all (Haar).

    Examples
    --------
    >>> q = random_rotation(5)
    >>> bool(np.allclose(q @ q.T, np.eye(5)))
    True
    """
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((directions, directions)))
    rotation: np.ndarray = q * np.sign(np.diag(r))
    return rotation


@checks_arguments
def simulate_helping(
    problem: NoisyQuadratic,
    optimizer: Optimizer,
    batch_size: float,
    iterations: int,
    runs: int = 10,
    rotation: np.ndarray | None = None,
    noise: str = "gaussian",
    seed: int = 0,
) -> xr.Dataset:
    r"""Train on the landscape and say how many parameters help, where no closed form does.

    .. math:: φ = Q θ, \quad H = Q \operatorname{diag}(h) Q^\top, \qquad
              A_i = \tfrac12 \left[H (φ_t + φ_{t+1})\right]_i (φ_{t+1} - φ_t)_i

    φ are the parameters, θ the directions of curvature; LCA is exact. SGD and momentum know nothing of the basis, so
    the loss is the same for every Q. Its mean depends on second moments alone, so it is the same for every noise of
    one variance: :func:`~lcakit.landscapes.nqm.expectation.expected_loss` holds for all. Who helps is another matter.

    Parameters
    ----------
    batch_size, iterations, runs
        B, T, and how many independent runs.
    rotation
        Q (d, d), orthogonal, such as :func:`random_rotation`; None: each parameter is a direction of curvature.
    noise
        A name of :data:`NOISES`: of the mean gradient of a batch, along the directions of curvature.
    seed
        The same seed gives the same runs.

    Returns
    -------
    Dataset
        ``helping`` (run, iteration), share of the parameters whose LCA is negative; ``loss`` (run, snapshot).

    Raises
    ------
    ValueError
        For an unknown noise, a rotation that is none, or counts below 1.

    Warns
    -----
    LcakitWarning
        If the learning rate is unstable.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import Optimizer, paper_problem
    >>> found = simulate_helping(paper_problem(50), Optimizer(0.5), 10, 20, rotation=random_rotation(50))
    >>> bool(0.4 < found["helping"].mean() < 1)
    True
    """
    if noise not in NOISES:
        raise unknown("noise", noise, NOISES)
    require_least("iterations", iterations, 1)
    require_least("runs", runs, 1)
    turned = _turning(problem.n_directions, rotation)
    warn_if_unstable(problem, optimizer)
    walk = iterates(problem, [optimizer], batch_sizes_of(batch_size), runs, np.random.default_rng(seed), NOISES[noise])
    here = next(walk)[0, 0]
    losses, helping = [problem.loss(here)], []
    for _ in range(iterations):
        there = next(walk)[0, 0]
        lca = turned(problem.curvature * (here + there) / 2) * turned(there - here)
        helping.append((lca < 0).mean(-1))
        losses.append(problem.loss(there))
        here = there
    attrs = {"long_name": "share of parameters that help", "units": "1"}
    return xr.Dataset(
        {
            "helping": (("run", "iteration"), np.transpose(helping), attrs),
            "loss": (("run", "snapshot"), np.transpose(losses), {"long_name": "loss", "units": "loss units"}),
        },
        coords={"run": np.arange(runs), "iteration": np.arange(iterations), "snapshot": np.arange(iterations + 1)},
    )


def _turning(directions: int, rotation: np.ndarray | None) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from the directions of curvature, (…, d), to the parameters."""
    if rotation is None:
        return lambda values: values
    q = np.asarray(rotation, np.float64)
    if q.shape != (directions, directions):
        raise ValueError(f"a rotation of {directions} directions has shape ({directions}, {directions}), got {q.shape}")
    if not np.allclose(q @ q.T, np.eye(directions), atol=1e-6):
        raise ValueError("the rotation is not orthogonal (Q Qᵀ is not 1); take the Q of numpy.linalg.qr(matrix)")
    return lambda values: values @ q.T
