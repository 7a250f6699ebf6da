"""The joint distribution of an iterate and the next ones: Gaussian, direction by direction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lcakit.landscapes.nqm.dynamics import Dynamics, Response, StepMap, may_overflow, walk
from lcakit.landscapes.nqm.optimizer import Optimizer, seen_curvature, step_noise
from lcakit.landscapes.nqm.problem import NoisyQuadratic

__all__ = ["Joint", "Pair", "joints", "move_row", "quadratic_form", "step_map"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Pair:
    """Means and covariances of θ(t) and of the move x = θ(t+n) − θ(t), each (d,)."""

    mean: np.ndarray
    mean_x: np.ndarray
    var: np.ndarray
    var_x: np.ndarray
    cov: np.ndarray


@dataclass(frozen=True)
class Joint:
    """The joint distribution of neighbouring iterates, of the seen part of the state, at one batch size."""

    problem: NoisyQuadratic
    response: Response
    noise: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Of the state at time t, (n, n, d)."""
        x = self.response.x
        covariance: np.ndarray = self.problem.start_variance * x[:, None] * x[None] + self.noise * self.response.q
        return covariance

    @property
    def mean(self) -> np.ndarray:
        """Of the state at time t, (n, d)."""
        mean: np.ndarray = self.problem.start_mean * self.response.x
        return mean

    def pair(self, steps: StepMap) -> Pair:
        """Return what is known of θ(t) and θ(t+n) − θ(t), for the map of n steps."""
        seen, state, x = self.response.seen, self.covariance, self.mean
        row = move_row(steps, seen)
        return Pair(
            mean=x[seen],
            mean_x=np.einsum("jk,jk->k", row, x),
            var=state[seen, seen],
            var_x=quadratic_form(row, state, row) + self.noise * steps.q[seen, seen],
            cov=np.einsum("jk,jk->k", row, state[seen]),
        )


def move_row(steps: StepMap, seen: int) -> np.ndarray:
    """Return the row r of the seen part's move r·x(t), without the new noise: (n, d)."""
    row: np.ndarray = steps.a[seen].copy()
    row[seen] -= 1
    return row


def quadratic_form(a: np.ndarray, s: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a s bᵀ for rows a, b (n, d) and matrices s (n, n, d)."""
    form: np.ndarray = np.einsum("ik,ijk,jk->k", a, s, b)
    return form


def joints(
    problem: NoisyQuadratic, optimizer: Optimizer, sizes: np.ndarray, times: np.ndarray
) -> Iterator[list[Joint]]:
    """Yield, for each time, the joint distribution at every batch size."""
    k = seen_curvature(problem, optimizer.preconditioning)
    noise = step_noise(problem, optimizer.preconditioning)
    for response in walk(Dynamics.of(k, optimizer), times):
        yield [Joint(problem, response, noise / size) for size in sizes]


def step_map(problem: NoisyQuadratic, optimizer: Optimizer, steps: int) -> StepMap:
    """Return the map of some steps, at least one."""
    k = seen_curvature(problem, optimizer.preconditioning)
    whole: StepMap | None = None
    with may_overflow():
        for level, one in enumerate(Dynamics.of(k, optimizer).levels(steps.bit_length())):
            if steps >> level & 1:
                whole = one if whole is None else one.after(whole)
    if whole is None:
        raise ValueError(f"a map needs at least one step, got {steps}")
    return whole
