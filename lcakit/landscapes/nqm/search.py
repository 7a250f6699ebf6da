"""The best learning rate, momentum and averaging for each batch size: a grid, then ever finer grids around the best.

The search minimizes the steps to the target, read off tables of the expected loss at some times (eight an octave)
and made continuous by interpolation, on a spectrum with merged curvatures. It draws nothing: the same problem
gives the same answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from lcakit.landscapes.nqm.dynamics import Dynamics, walk
from lcakit.landscapes.nqm.limits import asymptotic_noise_loss
from lcakit.landscapes.nqm.spectrum import Spectrum, mixed

__all__ = ["Search", "Setting"]


def __dir__() -> list[str]:
    return __all__


_PER_OCTAVE = 8
_COARSE = 0.3
"""Spacing of log α in the first grid."""
_ROUNDS = 5


@dataclass(frozen=True)
class Setting:
    """One point of the search, in coordinates in which equal distances mean equal ratios, and the steps it needs."""

    log_rate: float
    log_beta: float
    log_gamma: float
    steps: float = np.inf

    @property
    def momentum(self) -> float:
        """β."""
        return float(1 - np.exp(self.log_beta))

    @property
    def averaging(self) -> float:
        """γ."""
        return float(1 - np.exp(self.log_gamma))

    @property
    def learning_rate(self) -> float:
        """α."""
        return float(np.exp(self.log_rate))


def _table_times(max_steps: int) -> np.ndarray:
    """Return 0, 1, 2, … 16 and then eight times an octave, whose gaps are powers of two: one map each."""
    octaves = range(max(int(max_steps).bit_length() - 3, 1))
    times = np.array([(_PER_OCTAVE + part) << octave for octave in octaves for part in range(_PER_OCTAVE)], np.int64)
    return np.concatenate([np.arange(_PER_OCTAVE), times])


def _crossings(
    spectrum: Spectrum,
    log_rates: np.ndarray,
    momentum: float,
    averaging: float,
    batch_sizes: np.ndarray,
    target: float,
    max_steps: int,
) -> np.ndarray:
    """Return where the interpolated loss first crosses the target, (batch size, learning rate); infinite if never."""
    times = _table_times(max_steps)
    dynamics = Dynamics(spectrum.k, np.exp(log_rates)[:, None], momentum, averaging)
    out = np.full((batch_sizes.size, log_rates.size), np.inf)
    before = np.full_like(out, np.inf)
    was = 0
    for time, response in zip(times, walk(dynamics, times), strict=True):
        start, noise = spectrum.parts(response)
        loss = mixed(start, noise, batch_sizes)
        now = (loss <= target) & np.isinf(out)
        out[now] = _between(was, time, before[now], loss[now], target)
        hopeless = ~(noise / batch_sizes[:, None] <= target)
        if (hopeless | np.isfinite(out)).all():
            break
        before, was = loss, time
    return out


def _between(was: int, time: int, before: np.ndarray, after: np.ndarray, target: float) -> np.ndarray:
    """Interpolate log loss against log(1 + time)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(before / target) / np.log(before / after)
    share = np.where(np.isfinite(share), share, 1.0)
    time_of_crossing: np.ndarray = np.expm1(np.log1p(was) + share * (np.log1p(time) - np.log1p(was)))
    return time_of_crossing


@dataclass(frozen=True)
class Search:
    """What is searched: log(1 − β) and log(1 − γ) between two values each (or only one)."""

    spectrum: Spectrum
    betas: tuple[float, float]
    gammas: tuple[float, float]
    target: float
    max_steps: int

    def run(self, batch_sizes: np.ndarray) -> Iterator[Setting]:
        """Yield the best setting of each batch size; its steps are infinite where nothing reaches the target."""
        best = [Setting(0.0, self.betas[0], self.gammas[0])] * batch_sizes.size
        for beta, gamma in itertools.product(*(_octaves(span, self._stride) for span in (self.betas, self.gammas))):
            rates = self._rates(beta, gamma, float(batch_sizes.min()))
            best = self._better(best, rates, beta, gamma, batch_sizes)
        for size, setting in zip(batch_sizes, best, strict=True):
            yield self._refined(setting, np.array([size])) if np.isfinite(setting.steps) else setting

    @property
    def _stride(self) -> int:
        """Octaves between the values of the first grid: two where it has three dimensions, which would be long."""
        return 2 if self.betas[0] > self.betas[1] and self.gammas[0] > self.gammas[1] else 1

    def _refined(self, best: Setting, size: np.ndarray) -> Setting:
        spacing = float(self._stride)
        for _ in range(_ROUNDS + self._stride - 1):
            centre, spacing = best, spacing / 2
            betas = _around(self.betas, centre.log_beta, spacing)
            gammas = _around(self.gammas, centre.log_gamma, spacing)
            for beta, gamma in itertools.product(betas, gammas):
                # with the momentum the learning rate that goes as far changes too
                moved = centre.log_rate + beta - centre.log_beta
                rates = moved + _COARSE * spacing * np.arange(-4, 5) / 2
                (best,) = self._better([best], rates[rates < self._limit(beta)], beta, gamma, size)
        return best

    def _better(
        self, best: list[Setting], rates: np.ndarray, beta: float, gamma: float, sizes: np.ndarray
    ) -> list[Setting]:
        """Compare with some learning rates at one momentum and averaging."""
        if not rates.size:
            return best
        at = Setting(0.0, beta, gamma)
        steps = _crossings(self.spectrum, rates, at.momentum, at.averaging, sizes, self.target, self.max_steps)
        first = steps.argmin(1)
        new = [Setting(float(rates[n]), beta, gamma, float(row[n])) for row, n in zip(steps, first, strict=True)]
        return [a if a.steps < b.steps else b for a, b in zip(new, best, strict=True)]

    def _limit(self, beta: float) -> float:
        """Return log α at the limit of stability."""
        return float(np.log(2 * (1 + Setting(0, beta, 0).momentum) / self.spectrum.k.max()))

    def _rates(self, beta: float, gamma: float, smallest_batch: float) -> np.ndarray:
        """Return log α from where the noise floor is a fiftieth of the target up to the limit of stability."""
        top, point = self._limit(beta), Setting(0.0, beta, gamma)

        def floor(log_rate: float) -> float:
            loss = asymptotic_noise_loss(self.spectrum, np.exp(log_rate), point.momentum, point.averaging)
            return float(np.log(max(float(loss) / smallest_batch, 1e-300) / (0.02 * self.target)))

        highest = top - 1e-3
        low, high = top - 60, top - 5
        lowest = brentq(floor, low, highest, xtol=0.01) if floor(low) < 0 < floor(highest) else high
        count = int(np.ceil((highest - min(lowest, high)) / _COARSE)) + 1
        return np.linspace(min(lowest, high), highest, count)


def _octaves(span: tuple[float, float], stride: int) -> np.ndarray:
    high, low = span
    return np.linspace(high, low, int(np.ceil((high - low) / np.log(2) / stride)) + 1)


def _around(span: tuple[float, float], centre: float, spacing: float) -> np.ndarray:
    near = centre + np.log(2) * spacing * np.arange(-1, 2)
    return np.unique(np.clip(near, span[1], span[0]))
