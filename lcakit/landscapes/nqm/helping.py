r"""LCA in closed form, and the probability that a direction helps.

On a quadratic rk4 is exact: :math:`A_i = \frac12 h_i (θ_i'^2 - θ_i^2)`, so a direction helps where it ends nearer to
zero than it began. Every θ here is Gaussian, and with x = θ' − θ and y = θ' + θ it helps where xy < 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtr

from lcakit.landscapes.nqm.expectation import settings_coords, squeeze_scalars
from lcakit.landscapes.nqm.gaussian import opposite_signs
from lcakit.landscapes.nqm.joint import joints, step_map
from lcakit.landscapes.nqm.optimizer import Optimizer, seen_curvature, step_noise, warn_if_unstable
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of, times_of
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["expected_helping", "lca", "probability_helping"]


def __dir__() -> list[str]:
    return __all__


_LCA_ATTRS = {"long_name": "loss change allocation", "units": "loss units"}


@checks_arguments
def lca(problem: NoisyQuadratic, theta: xr.DataArray) -> xr.DataArray:
    r"""Return the exact LCA of iterates.

    .. math:: A[t, i] = \tfrac12 h_i (θ_i(t+1) - θ_i(t)) (θ_i(t+1) + θ_i(t))

    Parameters
    ----------
    theta
        (…, snapshot, direction), from :func:`simulate`, or (…, snapshot, parameter) of a recording.

    Returns
    -------
    DataArray
        (…, iteration, direction or parameter), float64. Lazy where ``theta`` is.

    Raises
    ------
    ValueError
        For other dimensions or another number of directions.

    Examples
    --------
    >>> theta = xr.DataArray([[2.0, 1.0], [1.0, 1.5]], dims=("snapshot", "direction"))
    >>> lca(NoisyQuadratic([1.0, 0.5]), theta).values
    array([[-1.5   ,  0.3125]])
    """
    dim = _direction_dim(problem, theta)
    if "snapshot" not in theta.dims:
        raise ValueError(f"theta has dimensions {theta.dims}; LCA needs 'snapshot', two or more of them")
    theta = theta.transpose(..., "snapshot", dim).astype(np.float64)
    before, after = (
        theta.isel(snapshot=part).drop_vars("snapshot", errors="ignore").rename(snapshot="iteration")
        for part in (slice(None, -1), slice(1, None))
    )
    out = (after - before) * (after + before) * xr.DataArray(problem.curvature / 2, dims=dim)
    if "snapshot" in theta.coords:
        out = out.assign_coords(iteration=theta["snapshot"].values[:-1])
    return out.rename("lca").assign_attrs(_LCA_ATTRS)


@checks_arguments
def probability_helping(
    problem: NoisyQuadratic, optimizer: Optimizer, theta: xr.DataArray, batch_size: float, momentum: Any = 0.0
) -> xr.DataArray:
    r"""Return the probability that the next step of a direction helps, given where it is.

    .. math:: P(|θ'| < |θ|) = Φ\!\left(\frac{|θ| - \bar θ}{σ}\right) - Φ\!\left(\frac{-|θ| - \bar θ}{σ}\right), \quad
              \bar θ = (1 - αk)\, θ - αβ\, m, \quad σ^2 = α^2 \frac{c}{h^{2p} B}

    Near the minimum noise carries any direction away, far from it the gradient wins.

    Parameters
    ----------
    theta
        (…, direction) or (…, parameter).
    batch_size
        One number.
    momentum
        m, the momentum buffer at that θ (broadcasts against ``theta``).

    Returns
    -------
    DataArray
        Like ``theta``; lazy where it is. Without noise 0 or 1; NaN for directions without curvature, whose LCA is zero.

    Raises
    ------
    ValueError
        For other dimensions, or an optimizer with averaging: the average alone does not say where it goes.
    """
    if optimizer.averaging:
        raise ValueError("the average alone does not say where it goes: ask for an optimizer with averaging=0")
    dim = _direction_dim(problem, theta)
    (size,) = batch_sizes_of(batch_size)
    step = optimizer.learning_rate * seen_curvature(problem, optimizer.preconditioning)
    noise = optimizer.learning_rate * np.sqrt(step_noise(problem, optimizer.preconditioning) / size)
    drift = optimizer.learning_rate * optimizer.momentum * momentum
    out: xr.DataArray = xr.apply_ufunc(
        _helps_next,
        theta,
        drift,
        *(xr.DataArray(v, dims=dim) for v in (step, noise)),
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    out = out.where(xr.DataArray(problem.curvature > 0, dims=dim))
    return out.rename("helping").assign_attrs(long_name="probability of helping", units="1")


def _helps_next(theta: np.ndarray, drift: np.ndarray, step: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return Φ((|θ| − θ̄) / σ) − Φ((−|θ| − θ̄) / σ), mirrored to θ ≥ 0, where the step down is |θ| − θ̄."""
    theta = np.asarray(theta, np.float64)
    size = np.abs(theta)
    down = step * size + np.where(theta < 0, -drift, drift)
    with np.errstate(divide="ignore", invalid="ignore"):
        random = ndtr(down / noise) - ndtr((down - 2 * size) / noise)
    probability: np.ndarray = np.where(noise == 0, ((down > 0) & (down < 2 * size)).astype(float), random)
    return probability


@checks_arguments
def expected_helping(
    problem: NoisyQuadratic, optimizer: Optimizer, batch_size: Any, iterations: int | Iterable[int], window: int = 1
) -> xr.Dataset:
    r"""Return the expected LCA of each direction, and the probability that it helps.

    .. math:: E\,A[t, i] = \tfrac12 h_i \left(E\,θ_i(t+n)^2 - E\,θ_i(t)^2\right), \qquad
              P(A < 0) = P(xy < 0) = \frac1π \arccos \frac{V' - V}{\sqrt{(V' + V)^2 - 4 C^2}}

    with the variances V, V′ and the covariance C of θ(t) and θ(t+n), for starts of mean zero (otherwise the
    bivariate normal distribution function). Once a direction is stationary V′ = V, and it helps in exactly half
    of the iterations, whatever the optimizer, batch size and curvature: "barely over 50 %" is what is left of learning.

    Parameters
    ----------
    batch_size
        One number or several.
    iterations
        Numbers of steps taken before the iteration, ascending.
    window
        n, the number of iterations that LCA is summed over.

    Returns
    -------
    Dataset
        ``lca`` and ``helping`` ([batch_size, iteration,] direction). ``helping`` is NaN where LCA is always zero: a
        direction without curvature, or that never moves. Its mean over directions is the expected fraction helping.

    Raises
    ------
    ValueError
        For a window below 1, or batch sizes or iterations as for :func:`expected_loss`.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import paper_problem
    >>> late = expected_helping(paper_problem(3), Optimizer(0.5), 1, 1000)
    >>> late["helping"].values.round(6)
    array([0.5, 0.5, 0.5])
    """
    sizes, times = batch_sizes_of(batch_size), times_of(iterations, "iterations")
    if window < 1:
        raise ValueError(f"window must be at least 1 iteration, got {window}")
    warn_if_unstable(problem, optimizer)
    steps = step_map(problem, optimizer, window)
    flat = problem.curvature == 0
    half = problem.curvature / 2
    lcas, helping = np.empty((2, sizes.size, times.size, problem.n_directions))
    for t, at in enumerate(joints(problem, optimizer, sizes, times)):
        for b, joint in enumerate(at):
            pair = joint.pair(steps)
            cov_xy = 2 * pair.cov + pair.var_x
            var_y = np.maximum(4 * pair.var + 4 * pair.cov + pair.var_x, 0)
            mean_y = 2 * pair.mean + pair.mean_x
            lcas[b, t] = half * (cov_xy + pair.mean_x * mean_y)
            p = opposite_signs(pair.var_x, var_y, cov_xy, pair.mean_x, mean_y)
            still = (pair.var_x == 0) & (pair.mean_x == 0)
            helping[b, t] = np.where(flat | still, np.nan, p)
    dims = ("batch_size", "iteration", "direction")
    out = xr.Dataset(
        {
            "lca": (dims, lcas, {"long_name": "expected loss change allocation", "units": "loss units"}),
            "helping": (dims, helping, {"long_name": "probability of helping", "units": "1"}),
        },
        coords={"batch_size": settings_coords([], sizes)["batch_size"], "iteration": times} | problem.coords,
    )
    return squeeze_scalars(out, batch_size=batch_size, iteration=iterations)


def _direction_dim(problem: NoisyQuadratic, theta: xr.DataArray) -> str:
    dim = next((d for d in ("direction", "parameter") if d in theta.dims), None)
    if dim is None or theta.sizes[dim] != problem.n_directions:
        raise ValueError(
            f"theta must have {problem.n_directions} entries along 'direction' or 'parameter', "
            f"got dimensions {dict(theta.sizes)}"
        )
    return dim
