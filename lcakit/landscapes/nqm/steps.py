r"""Steps to a target loss, exactly: the first t with E L(t) ≤ target.

The loss of momentum oscillates, so a bisection could miss the first passage. But the part from the noise only ever
grows, and the part from the start falls steadily in every direction that does not oscillate. Between t₁ and t₂

.. math:: E\,L(t) \ge \sum_{i\ \text{steady}} w_i\, x_i(t_2)^2 + \frac1B \sum_i v_i\, q_i(t_1)

so an interval in which this is above the target is passed over as a whole; any other is halved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from lcakit.landscapes.nqm.dynamics import Dynamics, Response, StepMap, may_overflow
from lcakit.landscapes.nqm.expectation import settings_coords, squeeze_scalars, with_rates
from lcakit.landscapes.nqm.optimizer import Optimizer, warn_if_unstable
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of
from lcakit.landscapes.nqm.spectrum import Spectrum
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["MAX_STEPS", "check_target", "first_passage", "steps_to_target"]


def __dir__() -> list[str]:
    return __all__


MAX_STEPS = 2**34


@dataclass
class _Passage:
    """The search of several batch sizes at once. ``steady`` are the weights of directions that do not oscillate."""

    spectrum: Spectrum
    steady: np.ndarray
    batch_sizes: np.ndarray
    target: float
    first: np.ndarray
    levels: list[StepMap] = field(default_factory=list)

    def least(self, before: Response, after: Response) -> np.ndarray:
        """Return a lower bound of the loss between two responses, for each batch size."""
        bound: np.ndarray = (after.start**2) @ self.steady + before.noise @ self.spectrum.v / self.batch_sizes
        return bound

    def look(self, before: Response, t: int, level: int, those: np.ndarray) -> None:
        """Find the first passage in (t, t + 2^level] for those batch sizes that have none yet."""
        those = those & np.isinf(self.first)
        if not those.any():
            return
        after = before.after(self.levels[level])
        if level == 0:
            reached = self.spectrum.loss(after, self.batch_sizes) <= self.target
            self.first[those & reached] = t + 1
            return
        those &= self.least(before, after) <= self.target
        if those.any():
            self.look(before, t, level - 1, those)
            self.look(before.after(self.levels[level - 1]), t + 2 ** (level - 1), level - 1, those)

    def run(self, response: Response, levels: Iterator[StepMap]) -> None:
        """Look at 0, then through (0, 1], (1, 2], (2, 4], (4, 8], …"""
        self.first[self.spectrum.loss(response, self.batch_sizes) <= self.target] = 0
        for level, steps in enumerate(levels):
            self.levels.append(steps)
            if level == 0:
                self.look(response, 0, 0, self.first > 0)
                response = response.after(steps)
            quiet = response.noise @ self.spectrum.v / self.batch_sizes <= self.target
            if not (quiet & np.isinf(self.first)).any():
                return  # where the noise alone is above the target it stays so
            self.look(response, 2**level, level, quiet)
            response = response.after(steps)


def _steady(dynamics: Dynamics) -> np.ndarray:
    """Say which directions, without noise, approach zero without ever moving away from it."""
    step = dynamics.learning_rate * dynamics.k
    limit = (1 - np.sqrt(dynamics.momentum)) ** 2 if dynamics.momentum else 1 if dynamics.averaging else 2
    steady: np.ndarray = step <= limit
    return steady


def first_passage(
    spectrum: Spectrum, optimizer: Optimizer, batch_sizes: np.ndarray, target: float, max_steps: int
) -> np.ndarray:
    """Return the first t with expected loss ≤ target for each batch size; infinite if later than ``max_steps``."""
    dynamics = Dynamics.of(spectrum.k, optimizer)
    steady = np.where(_steady(dynamics), spectrum.w, 0)
    search = _Passage(spectrum, steady, batch_sizes, target, np.full(batch_sizes.size, np.inf))
    with may_overflow():
        search.run(dynamics.begin(), dynamics.levels(int(max_steps).bit_length()))
    return np.where(search.first <= max_steps, search.first, np.inf)


def check_target(target: float) -> float:
    """Raise ValueError unless the target is a positive number."""
    if not (np.isfinite(target) and target > 0):
        raise ValueError(f"the target loss must be a positive number, got {target}")
    return float(target)


@checks_arguments
def steps_to_target(
    problem: NoisyQuadratic,
    optimizer: Optimizer,
    batch_size: Any,
    target: float = 0.01,
    learning_rate: Any = None,
    max_steps: int = MAX_STEPS,
) -> xr.DataArray:
    r"""Return the number of steps after which the expected loss is first at the target, exactly.

    .. math:: S = \min \{t : E\,L(t) \le \text{target}\}

    Parameters
    ----------
    batch_size, learning_rate
        One number or several each; a learning rate replaces the optimizer's.
    target
        Loss, above 0.
    max_steps
        Where to give up.

    Returns
    -------
    DataArray
        ([learning_rate, batch_size]), whole numbers as float64; infinite where the target is never reached: the noise
        floor is above it, or the learning rate is unstable.

    Warns
    -----
    LcakitWarning
        If a learning rate is unstable.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import Optimizer, paper_problem
    >>> steps_to_target(paper_problem(100), Optimizer(1.0), [100, 1000, 10_000]).values
    array([ inf, 141., 134.])
    """
    sizes, optimizers = batch_sizes_of(batch_size), with_rates(optimizer, learning_rate)
    check_target(target)
    warn_if_unstable(problem, *optimizers)
    spectrum = Spectrum.of(problem, optimizer.preconditioning)
    never = np.full(sizes.size, np.inf)
    steps = [
        first_passage(spectrum, o, sizes, target, max_steps) if o.is_stable(problem) else never for o in optimizers
    ]
    out = xr.DataArray(
        np.array(steps),
        dims=("learning_rate", "batch_size"),
        coords=settings_coords(optimizers, sizes),
        name="steps",
        attrs={"long_name": "steps to the target loss", "units": "steps"},
    )
    return squeeze_scalars(out, batch_size=batch_size, learning_rate=learning_rate)
