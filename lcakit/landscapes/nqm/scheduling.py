"""The best learning-rate schedule: every piece's learning rate optimized, for the expected loss at the end.

The gradient of the expected loss is exact: each piece's map is differentiated by its learning rate with a complex
step (the doubling is analytic), and the chain of pieces is gone through backwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import minimize

from lcakit.landscapes.nqm.dynamics import Dynamics, StepMap, may_overflow
from lcakit.landscapes.nqm.optimizer import Optimizer
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of
from lcakit.landscapes.nqm.schedules import Schedule, lengths_of, resampled, responses
from lcakit.landscapes.nqm.spectrum import Spectrum
from lcakit.landscapes.nqm.tuning import tuned_steps
from lcakit.progress import progress
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["best_schedule", "scheduled_steps"]


def __dir__() -> list[str]:
    return __all__


_PIECES = 50
_WIDTH = 0.05
"""Of the bins of merged curvatures while optimizing."""
_COMPLEX_STEP = 1e-30
_RANGE = 12.0
"""Learning rates are searched from e⁻¹² of the limit of stability up."""
_RESOLUTION = 200
"""Steps are found to one part in this many."""


@dataclass(frozen=True)
class _Chain:
    """Pieces one after another: their expected loss at the end, and its gradient by the log learning rates."""

    spectrum: Spectrum
    optimizer: Optimizer
    lengths: np.ndarray
    batch_size: float

    def value_and_gradient(self, log_rates: np.ndarray) -> tuple[float, np.ndarray]:
        """Return log E L at the end and its gradient."""
        dynamics = self._dynamics(log_rates)
        maps, response = self._maps(dynamics), Dynamics.of(self.spectrum.k, self.optimizer).begin()
        a, da = maps.a.real, maps.a.imag / _COMPLEX_STEP
        q, dq = maps.q.real, maps.q.imag / _COMPLEX_STEP
        states = [response]
        for p in range(self.lengths.size):
            states.append(states[-1].after(StepMap(a[:, :, p], q[:, :, p])))
        start, noise = self.spectrum.parts(states[-1])
        loss = float(start + noise / self.batch_size)
        by_x, by_q = np.zeros_like(response.x), np.zeros_like(response.q)
        seen = response.seen
        by_x[seen] = 2 * self.spectrum.w * states[-1].start
        by_q[seen, seen] = self.spectrum.v / self.batch_size
        gradient = np.empty(self.lengths.size)
        for p in reversed(range(self.lengths.size)):
            x, s, one, change = states[p].x, states[p].q, a[:, :, p], da[:, :, p]
            moved = np.einsum("ijk,jlk,mlk->imk", change, s, one)
            gradient[p] = np.einsum("ik,ijk,jk->", by_x, change, x) + np.einsum(
                "ijk,ijk->", by_q, dq[:, :, p] + moved + moved.swapaxes(0, 1)
            )
            by_x = np.einsum("jik,jk->ik", one, by_x)
            by_q = np.einsum("jik,jlk,lmk->imk", one, by_q, one)
        return float(np.log(loss)), gradient / loss

    def _dynamics(self, log_rates: np.ndarray) -> Dynamics:
        rates = np.exp(log_rates)[:, None] * (1 + 1j * _COMPLEX_STEP)
        return Dynamics(self.spectrum.k[None, :], rates, self.optimizer.momentum, self.optimizer.averaging)

    def _maps(self, dynamics: Dynamics) -> StepMap:
        """Return the maps of all pieces at once: (n, n, piece, k)."""
        whole: StepMap | None = None
        with may_overflow():
            for level, steps in enumerate(dynamics.levels(int(self.lengths.max()).bit_length())):
                if whole is None:
                    eye = np.eye(dynamics.size)[:, :, None, None]
                    whole = StepMap(eye + 0 * steps.a, 0 * steps.q)
                further = steps.after(whole)
                taken = (self.lengths >> level & 1).astype(bool)[:, None]
                whole = StepMap(np.where(taken, further.a, whole.a), np.where(taken, further.q, whole.q))
        if whole is None:
            raise ValueError("a schedule without steps has no map")
        return whole


@checks_arguments
def best_schedule(
    problem: NoisyQuadratic,
    optimizer: Optimizer,
    batch_size: float,
    steps: int,
    pieces: int = _PIECES,
    begin: Any = None,
) -> Schedule:
    r"""Return the schedule of piecewise constant learning rates with the smallest expected loss at its end.

    .. math:: \min_{α_1 \dots α_n} E\,L(T), \qquad 0 < α_j < \frac{2(1+β)}{\max_i h_i^{1-p}}

    Parameters
    ----------
    optimizer
        Momentum, preconditioning and averaging; the search begins at its learning rate.
    steps
        T.
    pieces
        n, at most T.
    begin
        Learning rates to begin from instead.

    Returns
    -------
    Schedule
        A local minimum (L-BFGS in log α, deterministic).

    Raises
    ------
    ValueError
        For fewer than one step or piece.

    Notes
    -----
    Zhang et al. (2019) optimize such schedules in the same way.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import paper_problem
    >>> best = best_schedule(paper_problem(100), Optimizer(0.5), 100, steps=200, pieces=4)
    >>> bool(best.rates[0] > best.rates[-1])
    True
    """
    sizes = batch_sizes_of(batch_size)
    if steps < 1 or pieces < 1:
        raise ValueError(f"a schedule needs at least one step and one piece, got {steps} and {pieces}")
    spectrum = Spectrum.of(problem, optimizer.preconditioning).merged(_WIDTH)
    n = min(pieces, steps)
    rates = resampled([optimizer.learning_rate] if begin is None else begin, n)
    return _optimized(_Chain(spectrum, optimizer, lengths_of(steps, n), float(sizes[0])), rates)


def _optimized(chain: _Chain, rates: np.ndarray) -> Schedule:
    top = float(np.log(2 * (1 + chain.optimizer.momentum) / chain.spectrum.k.max() * 0.999))
    found = minimize(
        chain.value_and_gradient,
        np.clip(np.log(rates), top - _RANGE, top),
        jac=True,
        method="L-BFGS-B",
        bounds=[(top - _RANGE, top)] * rates.size,
        options={"maxiter": 300, "ftol": 1e-7},
    )
    return Schedule(tuple(np.exp(found.x)), int(chain.lengths.sum()))


@checks_arguments
def scheduled_steps(
    problem: NoisyQuadratic,
    batch_sizes: Any,
    target: float = 0.01,
    *,
    momentum: float = 0.0,
    preconditioning: float = 0.0,
    averaging: float = 0.0,
    pieces: int = _PIECES,
    quiet: bool = False,
) -> xr.Dataset:
    r"""Return the steps to a target loss with the best schedule, beside those with the best constant learning rate.

    Parameters
    ----------
    batch_sizes, target
        As for :func:`tuned_steps`.
    momentum, preconditioning, averaging
        The same for all.
    pieces
        Of the schedules; fewer where there are fewer steps.
    quiet
        No progress bar.

    Returns
    -------
    Dataset
        Over batch_size: ``steps`` (found to half a per cent), ``constant_steps``, ``loss`` at the end (exact, at most
        the target); ``learning_rate`` (batch_size, piece). Infinite and NaN where the target is out of reach.

    Raises
    ------
    ValueError
        As for :func:`tuned_steps`.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import paper_problem
    >>> curve = scheduled_steps(paper_problem(50), [10], pieces=5, quiet=True)
    >>> bool((curve["steps"] < curve["constant_steps"] / 2).all())
    True
    """
    settings: dict[str, Any] = {"momentum": momentum, "preconditioning": preconditioning, "averaging": averaging}
    constant = tuned_steps(problem, batch_sizes, target, quiet=quiet, **settings)
    full = Spectrum.of(problem, preconditioning)
    rates = np.full((constant.sizes["batch_size"], pieces), np.nan)
    steps, losses = np.full(len(rates), np.inf), np.full(len(rates), np.nan)
    with progress(len(rates), "scheduling", unit="batch size", quiet=quiet) as bar:
        for n in range(len(rates)):
            row = constant.isel(batch_size=n)
            if np.isfinite(row["steps"]):
                optimizer = Optimizer(float(row["learning_rate"]), **settings)
                search = _Shortest(problem, full, optimizer, float(row["batch_size"]), target, pieces)
                found, losses[n] = search.run(int(row["steps"]))
                steps[n], rates[n] = found.steps, resampled(found.rates, pieces)
            bar.update()
    out = constant[["steps"]].rename(steps="constant_steps")
    out["steps"] = ("batch_size", steps, {"long_name": "steps to the target loss", "units": "steps"})
    out["loss"] = ("batch_size", losses, {"long_name": "expected loss at the end", "units": "loss units"})
    attrs = {"long_name": "best learning rate", "units": "1"}
    out["learning_rate"] = (("batch_size", "piece"), rates, attrs)
    return out.assign_coords(piece=np.arange(pieces))


@dataclass(frozen=True)
class _Shortest:
    """The search for the shortest schedule that reaches the target at one batch size."""

    problem: NoisyQuadratic
    spectrum: Spectrum
    optimizer: Optimizer
    batch_size: float
    target: float
    pieces: int

    def run(self, enough: int) -> tuple[Schedule, float]:
        """Halve while that reaches the target, then bisect; ``enough`` steps are known to be enough."""
        constant = Schedule((self.optimizer.learning_rate,), enough)
        best = min(self._best(enough, constant.rates), constant, key=self.loss)
        too_few, high = 0, enough
        while high - too_few > max(1, high // _RESOLUTION):
            trial = (too_few + high) // 2 if too_few else high // 2
            schedule = self._best(trial, best.rates)
            if self.loss(schedule) <= self.target:
                best, high = schedule, trial
            else:
                too_few = trial
        return best, self.loss(best)

    def _best(self, steps: int, begin: Any) -> Schedule:
        return best_schedule(self.problem, self.optimizer, self.batch_size, steps, self.pieces, begin)

    def loss(self, schedule: Schedule) -> float:
        """Return the exact loss at the end, on the whole spectrum."""
        *_, last = responses(self.spectrum, self.optimizer, schedule)
        return float(self.spectrum.loss(last, np.array([self.batch_size]))[0])
