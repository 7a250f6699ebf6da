"""The optimizers: SGD with heavy-ball momentum, a preconditioner and an average of the iterates."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np

from lcakit.errors import LcakitWarning
from lcakit.landscapes.nqm.problem import NoisyQuadratic
from lcakit.trajectory.arguments import checks_creation

__all__ = ["Optimizer", "seen_curvature", "step_noise", "warn_if_unstable"]


def __dir__() -> list[str]:
    return __all__


@checks_creation
@dataclass(frozen=True)
class Optimizer:
    r"""Settings of an optimizer; every part is off by default, which leaves SGD.

    .. math:: m(t{+}1) &= β\, m(t) + P^{-1} g(t), \quad P = H^p \\
              θ(t{+}1) &= θ(t) - α\, m(t{+}1) \\
              \tildeθ(t{+}1) &= γ\, \tildeθ(t) + (1 - γ)\, θ(t{+}1)

    with m(0) = 0 and θ̃(0) = θ(0). Momentum is that of ``torch.optim.SGD``.

    Parameters
    ----------
    learning_rate
        α > 0.
    momentum
        0 ≤ β < 1.
    preconditioning
        0 ≤ p ≤ 1: the power of the curvature that the gradient is divided by.
    averaging
        0 ≤ γ < 1: decay of the exponential moving average. With γ > 0 every loss is that of the average θ̃.

    Raises
    ------
    ValueError
        For a setting outside its range.

    Examples
    --------
    >>> Optimizer(0.25, momentum=0.5).effective_learning_rate
    0.5
    """

    learning_rate: float
    momentum: float = 0.0
    preconditioning: float = 0.0
    averaging: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate}")
        for name in ("momentum", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, got {getattr(self, name)}")
        if not 0 <= self.preconditioning <= 1:
            raise ValueError(f"preconditioning must be 0 to 1, got {self.preconditioning}")

    @property
    def effective_learning_rate(self) -> float:
        r"""Where SGD goes as far with small steps: :math:`α / (1 - β)`."""
        return self.learning_rate / (1 - self.momentum)

    def at(self, learning_rate: float) -> Optimizer:
        """Return the same optimizer with another learning rate."""
        return replace(self, learning_rate=float(learning_rate))

    def without_momentum(self) -> Optimizer:
        r"""Return SGD with the learning rate :math:`α / (1 - β)`, equivalent at small batches (and small steps)."""
        return replace(self, learning_rate=self.learning_rate / (1 - self.momentum), momentum=0.0)

    def stability_limit(self, problem: NoisyQuadratic) -> float:
        r"""Return the learning rate from which on the iterates diverge: :math:`2 (1 + β) / \max_i h_i^{1-p}`."""
        top = seen_curvature(problem, self.preconditioning).max()
        return float(2 * (1 + self.momentum) / top) if top > 0 else np.inf

    def is_stable(self, problem: NoisyQuadratic) -> bool:
        """Say whether the learning rate is below the limit."""
        return self.learning_rate < self.stability_limit(problem)


def seen_curvature(problem: NoisyQuadratic, preconditioning: float) -> np.ndarray:
    """Return k = h / hᵖ, the curvature that the optimizer meets, (d,).

    Raises
    ------
    ValueError
        Where a direction without curvature would be divided by zero.
    """
    if preconditioning and (problem.curvature == 0).any():
        index = int(np.flatnonzero(problem.curvature == 0)[0])
        raise ValueError(
            f"preconditioning divides by the curvature, which is 0 at index {index}. "
            "Leave that direction out, or use preconditioning=0."
        )
    k: np.ndarray = problem.curvature ** (1 - preconditioning)
    return k


def step_noise(problem: NoisyQuadratic, preconditioning: float) -> np.ndarray:
    """Return c / h²ᵖ, the variance of the preconditioned gradient of one example, (d,)."""
    variance: np.ndarray = problem.noise / problem.curvature ** (2 * preconditioning)
    return variance


def warn_if_unstable(problem: NoisyQuadratic, *optimizers: Optimizer) -> None:
    """Warn, once, of learning rates with which the iterates diverge."""
    wrong = [o.learning_rate for o in optimizers if not o.is_stable(problem)]
    if wrong:
        limit = optimizers[0].stability_limit(problem)
        rates = ", ".join(f"{rate:g}" for rate in wrong[:5]) + (" …" if len(wrong) > 5 else "")
        warnings.warn(
            f"learning rate {rates} is unstable: with α·h_max ≥ 2(1+β) the iterates diverge, and so do the results. "
            f"Stable learning rates are below {limit:g}.",
            LcakitWarning,
            stacklevel=3,
        )
