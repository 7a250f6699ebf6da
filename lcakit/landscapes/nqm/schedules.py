"""Learning-rate schedules: constant in pieces, and the best of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from lcakit.landscapes.nqm.dynamics import Dynamics, Response, walk
from lcakit.landscapes.nqm.expectation import LOSS, settings_coords, squeeze_scalars
from lcakit.landscapes.nqm.optimizer import Optimizer, warn_if_unstable
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of
from lcakit.landscapes.nqm.spectrum import Spectrum
from lcakit.trajectory.arguments import checks_arguments, checks_creation

__all__ = ["Schedule", "lengths_of", "resampled", "responses", "scheduled_loss"]


def __dir__() -> list[str]:
    return __all__


@checks_creation
@dataclass(frozen=True)
class Schedule:
    """Learning rates, each held for an equal share of the steps (up to one step).

    Parameters
    ----------
    rates
        One per piece, above 0.
    steps
        Of the whole, at least one per piece.

    Examples
    --------
    >>> Schedule((0.5, 0.1, 0.01), 10).edges
    (0, 3, 6, 10)
    """

    rates: tuple[float, ...]
    steps: int

    def __post_init__(self) -> None:
        rates = np.asarray(self.rates, np.float64)
        if rates.ndim != 1 or not rates.size or not (np.isfinite(rates) & (rates > 0)).all():
            raise ValueError(f"rates must be one positive number per piece, got {self.rates!r}")
        if self.steps < rates.size:
            raise ValueError(f"{rates.size} pieces need at least as many steps, got {self.steps}")
        object.__setattr__(self, "rates", tuple(float(rate) for rate in rates))

    @property
    def edges(self) -> tuple[int, ...]:
        """Numbers of steps at which pieces begin, and the end."""
        n = len(self.rates)
        return tuple(self.steps * piece // n for piece in range(n + 1))

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each piece."""
        return np.diff(self.edges)

    def rate_at(self, step: int) -> float:
        """Return the learning rate of step 0 … steps − 1."""
        if not 0 <= step < self.steps:
            raise ValueError(f"the schedule has steps 0 to {self.steps - 1}, got {step}")
        return self.rates[int(np.searchsorted(self.edges, step, side="right")) - 1]


def responses(spectrum: Spectrum, optimizer: Optimizer, schedule: Schedule) -> Iterator[Response]:
    """Yield the response at each edge of a schedule; the optimizer's own learning rate is not used."""
    response: Response | None = None
    for rate, length in zip(schedule.rates, schedule.lengths, strict=True):
        dynamics = Dynamics.of(spectrum.k, optimizer.at(rate))
        if response is None:
            response = dynamics.begin()
            yield response
        *_, response = walk(dynamics, [int(length)], response)
        yield response


@checks_arguments
def scheduled_loss(problem: NoisyQuadratic, optimizer: Optimizer, batch_size: Any, schedule: Schedule) -> xr.DataArray:
    """Return the expected loss at the edges of a schedule, exactly.

    Parameters
    ----------
    optimizer
        Momentum, preconditioning and averaging; its learning rate is replaced by those of the schedule.
    batch_size
        One number or several.

    Returns
    -------
    DataArray
        ([batch_size,] snapshot).

    Warns
    -----
    LcakitWarning
        If a learning rate is unstable.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import paper_problem
    >>> decay = Schedule((1.0, 0.1), 1000)
    >>> scheduled_loss(paper_problem(100), Optimizer(1.0), 10, decay).values.round(3)
    array([2.594, 0.164, 0.018])
    """
    sizes = batch_sizes_of(batch_size)
    warn_if_unstable(problem, *(optimizer.at(rate) for rate in schedule.rates))
    spectrum = Spectrum.of(problem, optimizer.preconditioning)
    losses = [spectrum.loss(response, sizes) for response in responses(spectrum, optimizer, schedule)]
    coords = {"batch_size": settings_coords([], sizes)["batch_size"], "snapshot": list(schedule.edges)}
    out = xr.DataArray(np.array(losses).T, dims=("batch_size", "snapshot"), coords=coords, name="loss", attrs=LOSS)
    return squeeze_scalars(out, batch_size=batch_size)


def resampled(rates: Sequence[float], pieces: int) -> np.ndarray:
    """Return the learning rates at the middles of another number of equal pieces."""
    middles = (np.arange(pieces) + 0.5) / pieces
    chosen: np.ndarray = np.asarray(rates)[np.minimum((middles * len(rates)).astype(int), len(rates) - 1)]
    return chosen


def lengths_of(steps: int, pieces: int) -> np.ndarray:
    """Return the lengths of the pieces that :class:`Schedule` cuts."""
    return np.array([b - a for a, b in pairwise(steps * n // pieces for n in range(pieces + 1))])
