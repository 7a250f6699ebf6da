"""Oscillation in closed form: how often weights turn and gradients cross zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from lcakit.landscapes.nqm.dynamics import Dynamics, StepMap
from lcakit.landscapes.nqm.expectation import settings_coords, squeeze_scalars
from lcakit.landscapes.nqm.gaussian import opposite_signs
from lcakit.landscapes.nqm.joint import Joint, joints, move_row, quadratic_form, step_map
from lcakit.landscapes.nqm.optimizer import Optimizer, seen_curvature, warn_if_unstable
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of, times_of
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["expected_oscillation"]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
def expected_oscillation(
    problem: NoisyQuadratic, optimizer: Optimizer, batch_size: Any, iterations: int | Iterable[int]
) -> xr.Dataset:
    r"""Return how probable it is that a weight turns around, and that its gradient crosses zero.

    .. math:: P_{turn}[t] &= P\big((θ(t{+}2) - θ(t{+}1))\,(θ(t{+}1) - θ(t)) < 0\big) \\
              P_{cross}[t] &= P\big(θ(t{+}1)\, θ(t) < 0\big)

    each :math:`\frac1π \arccos` of the correlation, for starts of mean zero. Noise alone (α → 0, no momentum) turns
    in half of the iterations; momentum makes turns rare. The sums over iterations, averaged over directions, are the
    counts of ``lk.oscillation``; :math:`1/P` are the iterations per turn.

    Parameters
    ----------
    batch_size
        One number or several.
    iterations
        Numbers of steps taken before the iteration, ascending.

    Returns
    -------
    Dataset
        ``turn`` (between iterations t and t+1) and ``crossing`` (between snapshots t and t+1), both
        ([batch_size, iteration,] direction).

    Examples
    --------
    >>> at_the_minimum = NoisyQuadratic([1.0, 0.5], start_variance=0.0)
    >>> expected_oscillation(at_the_minimum, Optimizer(1e-9), 1, 5)["turn"].values.round(6)
    array([0.5, 0.5])
    """
    sizes, times = batch_sizes_of(batch_size), times_of(iterations, "iterations")
    warn_if_unstable(problem, optimizer)
    one = step_map(problem, optimizer, 1)
    kick = Dynamics.of(seen_curvature(problem, optimizer.preconditioning), optimizer).kick
    turn, crossing = np.empty((2, sizes.size, times.size, problem.n_directions))
    for t, at in enumerate(joints(problem, optimizer, sizes, times)):
        for b, joint in enumerate(at):
            turn[b, t] = _turn(joint, one, kick)
            crossing[b, t] = _crossing(joint, one)
    dims = ("batch_size", "iteration", "direction")
    out = xr.Dataset(
        {
            "turn": (dims, turn, {"long_name": "probability of a weight turn", "units": "1"}),
            "crossing": (dims, crossing, {"long_name": "probability of a gradient crossing", "units": "1"}),
        },
        coords={"batch_size": settings_coords([], sizes)["batch_size"], "iteration": times} | problem.coords,
    )
    return squeeze_scalars(out, batch_size=batch_size, iteration=iterations)


def _turn(joint: Joint, one: StepMap, kick: np.ndarray) -> np.ndarray:
    """Move t is r·x + b₀n, move t+1 is r·(A x + b n) + b₀n′, with independent noise n, n′."""
    seen, state = joint.response.seen, joint.covariance
    row = move_row(one, seen)
    later = np.einsum("ik,ijk->jk", row, one.a)
    carried, fresh = np.einsum("ik,ik->k", row, kick), kick[seen]
    var = quadratic_form(row, state, row) + joint.noise * fresh**2
    var_later = quadratic_form(later, state, later) + joint.noise * (carried**2 + fresh**2)
    cov = quadratic_form(row, state, later) + joint.noise * carried * fresh
    means = (np.einsum("ik,ik->k", r, joint.mean) for r in (row, later))
    return opposite_signs(var, var_later, cov, *means)


def _crossing(joint: Joint, one: StepMap) -> np.ndarray:
    pair = joint.pair(one)
    after = np.maximum(pair.var + 2 * pair.cov + pair.var_x, 0)
    return opposite_signs(pair.var, after, pair.var + pair.cov, pair.mean, pair.mean + pair.mean_x)
