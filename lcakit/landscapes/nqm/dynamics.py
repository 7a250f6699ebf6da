r"""One step of the optimizer as a linear map, and 2, 4, 8, … steps by doubling.

The state of a direction is x = (θ, m, θ̃), without the parts that are off. A step is
:math:`x \mapsto A x + b\, n` with noise n of variance s, so n steps turn a covariance S into
:math:`A^n S A^{n\top} + s\, Q_n`, and

.. math:: A^{2n} = A^n A^n, \qquad Q_{2n} = Q_n + A^n Q_n A^{n\top}, \qquad Q_1 = b b^\top .

Directions with small steps have an eigenvalue just below 1, whose millionth power is lost to rounding when
1 − x is squared again and again. So A is doubled as E + M with a diagonal E of zeros and ones:
:math:`(E + M)^2 = E + (EM + ME + M^2)` never forms 1 − x while x is small. Overdamped directions do it in the basis
(θ − aβm, m, θ̃), a = α/(1−β), in which the slow part stands alone on the diagonal: it is SGD with the learning rate a.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lcakit.landscapes.nqm.optimizer import Optimizer

__all__ = ["Dynamics", "Response", "StepMap", "may_overflow", "walk"]


def __dir__() -> list[str]:
    return __all__


_LEVELS = 40
"""Doublings: 2⁴⁰ steps are more than anyone takes."""


def may_overflow() -> np.errstate:
    """Return a context for many steps of an optimizer that may diverge: what overflows is not warned of."""
    return np.errstate(over="ignore", invalid="ignore", under="ignore")


@dataclass(frozen=True)
class StepMap:
    """Some steps of the optimizer: ``a`` (n, n, …) and the covariance ``q`` (n, n, …) that unit noise adds."""

    a: np.ndarray
    q: np.ndarray

    def after(self, earlier: StepMap) -> StepMap:
        """Return the map of both, ``earlier`` first."""
        return StepMap(_product(self.a, earlier.a), self.q + _sandwich(self.a, earlier.q))


@dataclass(frozen=True)
class Response:
    """What became of the start and of the noise after some steps.

    ``x`` (n, …) is the state from θ(0) = 1 without noise, ``q`` (n, n, …) the covariance from unit noise and
    θ(0) = 0. ``seen`` is the part of the state whose loss counts: θ, or the average where there is one.
    """

    x: np.ndarray
    q: np.ndarray
    seen: int

    def after(self, steps: StepMap) -> Response:
        """Return the response after further steps."""
        x = np.einsum("ij...,j...->i...", steps.a, self.x)
        return Response(x, steps.q + _sandwich(steps.a, self.q), self.seen)

    @property
    def start(self) -> np.ndarray:
        """The seen part of x: what is left of the start."""
        start: np.ndarray = self.x[self.seen]
        return start

    @property
    def noise(self) -> np.ndarray:
        """The seen variance from unit noise."""
        noise: np.ndarray = self.q[self.seen, self.seen]
        return noise


@dataclass(frozen=True)
class Dynamics:
    """The step maps of directions of curvature ``k`` (…) as the optimizer sees it; ``learning_rate`` broadcasts."""

    k: np.ndarray
    learning_rate: Any
    momentum: float = 0.0
    averaging: float = 0.0

    @classmethod
    def of(cls, k: np.ndarray, optimizer: Optimizer) -> Dynamics:
        """Return the dynamics of an optimizer whose preconditioner is already in ``k``."""
        return cls(k, optimizer.learning_rate, optimizer.momentum, optimizer.averaging)

    @property
    def size(self) -> int:
        """n, the number of parts of the state."""
        return 1 + (self.momentum > 0) + (self.averaging > 0)

    @property
    def kick(self) -> np.ndarray:
        """Return b, what one unit of noise in the preconditioned gradient does to the state: (n, …)."""
        alpha = self.learning_rate + 0 * self.k
        parts = [-alpha]
        if self.momentum:
            parts.append(np.ones_like(alpha))
        if self.averaging:
            parts.append(-(1 - self.averaging) * alpha)
        return np.stack(parts)

    def begin(self) -> Response:
        """Return the response after no step."""
        shape = np.broadcast_shapes(np.shape(self.k), np.shape(self.learning_rate))
        x = np.zeros((self.size, *shape))
        x[0] = 1
        if self.averaging:
            x[-1] = 1
        return Response(x, np.zeros((self.size, self.size, *shape)), self.size - 1 if self.averaging else 0)

    def levels(self, count: int = _LEVELS) -> Iterator[StepMap]:
        """Yield the maps of 1, 2, 4, … steps, each made when it is asked for."""
        to_state, from_state = self._bases()
        small = self._small_part()
        ones = np.zeros_like(small)
        for i in self._slow_parts():
            ones[i, i] = 1
        whole = ones + small
        with may_overflow():
            noise = np.einsum("i...,j...->ij...", self.kick, self.kick)
            steps = StepMap(_product(_product(to_state, whole), from_state), noise)
        for level in range(count):
            if level:
                with may_overflow():
                    whole, small = _double(whole, small, ones, self._slow_parts())
                    noise = steps.q + _sandwich(steps.a, steps.q)
                    steps = StepMap(_product(_product(to_state, whole), from_state), noise)
            yield steps

    def _slow_parts(self) -> list[int]:
        return [0, self.size - 1] if self.averaging > 0.5 else [0]

    def _overdamped(self) -> Any:
        """Where both eigenvalues of (θ, m) are real and positive."""
        alpha = np.real(self.learning_rate)
        return alpha * self.k <= (1 - np.sqrt(self.momentum)) ** 2

    def _bases(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the map from the doubling basis to the state, and back."""
        shape = np.broadcast_shapes(np.shape(self.k), np.shape(self.learning_rate))
        eye = np.eye(self.size).reshape(self.size, self.size, *(1 for _ in shape))
        to_state = eye + 0 * (self.k * self.learning_rate)
        from_state = to_state.copy()
        if self.momentum:
            shift = self.learning_rate * self.momentum / (1 - self.momentum)
            to_state[0, 1] = np.where(self._overdamped(), shift, 0)
            from_state[0, 1] = -to_state[0, 1]
        return to_state, from_state

    def _small_part(self) -> np.ndarray:
        """Return M = A − E in the doubling basis."""
        k, alpha, beta, gamma = self.k, self.learning_rate, self.momentum, self.averaging
        apart, rate = self._overdamped(), alpha / (1 - beta)
        out = np.zeros((self.size, self.size, *np.shape(k * alpha)), np.result_type(k, alpha, float))
        out[0, 0] = -np.where(apart, rate, alpha) * k
        if beta:
            out[0, 1] = -beta * np.where(apart, rate**2 * k, alpha)
            out[1, 0] = k
            out[1, 1] = beta * np.where(apart, 1 + rate * k, 1)
        if gamma:
            out[-1, 0] = (1 - gamma) * (1 - alpha * k)
            if beta:
                out[-1, 1] = (1 - gamma) * beta * np.where(apart, rate * (beta - alpha * k), -alpha)
            out[-1, -1] = gamma - 1 if len(self._slow_parts()) > 1 else gamma
        return out


def _double(
    whole: np.ndarray, small: np.ndarray, ones: np.ndarray, slow: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return A² and A² − E, each from the form that keeps its digits: A itself once it is no longer near E."""
    near = np.max([np.abs(small[i, i]) for i in slow], axis=0) < 0.5
    squared = _product(whole, whole)
    doubled = _product(ones, small) + _product(small, ones) + _product(small, small)
    return np.where(near, ones + doubled, squared), np.where(near, doubled, squared - ones)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    product: np.ndarray = np.einsum("ij...,jk...->ik...", a, b)
    return product


def _sandwich(a: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return a q aᵀ."""
    product: np.ndarray = np.einsum("ij...,kj...->ik...", _product(a, q), a)
    return product


def walk(
    dynamics: Dynamics, snapshots: Sequence[int] | np.ndarray, begin: Response | None = None
) -> Iterator[Response]:
    """Yield the response after each of some ascending numbers of steps, each gap in binary.

    The response at 0 steps is ``begin``, by default that at the start.
    """
    gaps = np.diff(np.asarray(snapshots, np.int64), prepend=0)
    coming = dynamics.levels(int(gaps.max(initial=1)).bit_length())
    levels: list[StepMap] = []  # who asks for few steps needs few
    response = dynamics.begin() if begin is None else begin
    with may_overflow():
        for gap in gaps:
            for level in range(int(gap).bit_length()):
                if level == len(levels):
                    levels.append(next(coming))
                if gap >> level & 1:
                    response = response.after(levels[level])
            yield response
