"""The problem: curvature, gradient noise and start of each direction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from lcakit.trajectory.arguments import checks_arguments, checks_creation

__all__ = ["NoisyQuadratic", "batch_sizes_of", "paper_problem", "times_of"]


def __dir__() -> list[str]:
    return __all__


_DIRECTIONS = 10_000
"""Of the paper's experiments."""


@checks_creation
@dataclass(frozen=True, eq=False)
class NoisyQuadratic:
    r"""A quadratic loss whose gradients are noisy, direction by direction.

    .. math:: L(θ) = \frac12 \sum_i h_i θ_i^2, \qquad g_i = h_i θ_i + ε_i, \quad
              ε_i \sim N(0, c_i / B), \qquad θ_i(0) \sim N(μ_i, σ_i^2)

    Parameters
    ----------
    curvature
        h (d,), not negative.
    noise
        c, the variance of the gradient of one example: (d,) or one number; by default the curvature.
    start_mean, start_variance
        μ and σ² of the start, (d,) or one number.

    Raises
    ------
    ValueError
        For negative or non-finite curvature, noise or variance, a non-finite start, or shapes that do not fit.

    Notes
    -----
    Zhang et al., "Which Algorithmic Choices Matter at Which Batch Sizes?" (2019), section 3.

    Examples
    --------
    >>> problem = NoisyQuadratic([1.0, 0.5])
    >>> problem.initial_loss
    0.75
    """

    curvature: Any
    noise: Any = None
    start_mean: Any = 0.0
    start_variance: Any = 1.0

    def __post_init__(self) -> None:
        h = _numbers("curvature", self.curvature)
        if h.ndim != 1 or h.size == 0:
            raise ValueError(f"curvature must have one entry per direction (shape (d,), d ≥ 1), got shape {h.shape}")
        given = {
            "curvature": h,
            "noise": h if self.noise is None else _numbers("noise", self.noise),
            "start_mean": _numbers("start_mean", self.start_mean),
            "start_variance": _numbers("start_variance", self.start_variance),
        }
        for name, values in given.items():
            if values.shape not in ((), h.shape):
                raise ValueError(f"{name} must be one number or have shape {h.shape}, got shape {values.shape}")
            if name != "start_mean" and (values < 0).any():
                raise ValueError(f"{name} must not be negative, got {_first_at(values, values < 0)}. {_WHY[name]}")
            full = np.broadcast_to(values, h.shape).copy()
            full.flags.writeable = False
            object.__setattr__(self, name, full)

    @property
    def n_directions(self) -> int:
        """Number of directions d."""
        return int(self.curvature.size)

    @property
    def start_second_moment(self) -> np.ndarray:
        """E θ(0)², (d,)."""
        moment: np.ndarray = self.start_mean**2 + self.start_variance
        return moment

    @property
    def initial_loss(self) -> float:
        """Expected loss at the start."""
        return float(0.5 * self.curvature @ self.start_second_moment)

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates of results by direction: ``direction`` 1 … d, ``curvature``."""
        attrs = {"long_name": "curvature", "units": "1"}
        number = xr.DataArray(np.arange(1, self.n_directions + 1), dims="direction", attrs={"long_name": "direction"})
        return {"direction": number, "curvature": ("direction", self.curvature, attrs)}

    def loss(self, theta: np.ndarray) -> np.ndarray:
        """Return L(θ) over the last axis of ``theta`` (…, d)."""
        loss: np.ndarray = 0.5 * (np.square(theta) @ self.curvature)
        return loss

    def start(self, rng: np.random.Generator, runs: int) -> np.ndarray:
        """Draw θ(0) of some runs, (runs, d)."""
        theta: np.ndarray = self.start_mean + np.sqrt(self.start_variance) * rng.standard_normal(
            (runs, self.n_directions)
        )
        return theta


_WHY = {
    "curvature": "Along a direction of negative curvature the loss has no lower bound.",
    "noise": "It is a variance.",
    "start_variance": "It is a variance.",
}


@checks_arguments
def paper_problem(directions: int = _DIRECTIONS) -> NoisyQuadratic:
    r"""Return the problem of the paper: :math:`h_i = c_i = 1/i`, :math:`θ_i(0) \sim N(0, 1)`.

    Parameters
    ----------
    directions
        d, at least 1.

    Examples
    --------
    >>> paper_problem(4).curvature
    array([1.        , 0.5       , 0.33333333, 0.25      ])
    """
    if directions < 1:
        raise ValueError(f"directions must be at least 1, got {directions}")
    return NoisyQuadratic(1 / np.arange(1, directions + 1))


def batch_sizes_of(values: Any) -> np.ndarray:
    """Return batch sizes as float64 (n,), positive; ``inf`` is the whole population (no noise)."""
    array = np.atleast_1d(np.asarray(values, np.float64))
    if array.ndim != 1 or array.size == 0 or not (array > 0).all():
        raise ValueError(f"batch sizes must be positive numbers (np.inf: no noise), got {values!r}")
    return array


def times_of(values: int | Iterable[int], name: str, least: int = 0) -> np.ndarray:
    """Return snapshots or iterations as ascending int64 (n,)."""
    array = np.atleast_1d(np.asarray(values if isinstance(values, int | np.integer) else list(values)))
    whole = array.size and np.issubdtype(array.dtype, np.number) and np.array_equal(array, np.floor(array))
    if not whole or array.ndim != 1 or array.min() < least or (np.diff(array) <= 0).any():
        raise ValueError(f"{name} must be ascending whole numbers from {least} on, got {values!r}")
    return array.astype(np.int64)


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers: {error}") from error
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {_first_at(array, ~np.isfinite(array))}")
    return array


def _first_at(values: np.ndarray, wrong: np.ndarray) -> str:
    """Say what the first wrong entry is and where."""
    if values.ndim == 0:
        return str(values)
    index = int(np.flatnonzero(wrong)[0])
    return f"{values.reshape(-1)[index]} at index {index}"
