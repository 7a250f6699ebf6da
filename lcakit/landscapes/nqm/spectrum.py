"""The loss as a sum over curvatures: what the start weighs, what the noise weighs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcakit.landscapes.nqm.dynamics import Response
from lcakit.landscapes.nqm.optimizer import seen_curvature, step_noise
from lcakit.landscapes.nqm.problem import NoisyQuadratic

__all__ = ["Spectrum", "mixed"]


def __dir__() -> list[str]:
    return __all__


_BIN_WIDTH = 0.02


@dataclass(frozen=True)
class Spectrum:
    r"""Curvatures as the optimizer sees them, with the weights of the expected loss.

    .. math:: E\,L(t) = \sum_i w_i\, x_i(t)^2 + \frac1B \sum_i v_i\, q_i(t), \quad
              w_i = \tfrac12 h_i E\,θ_i(0)^2, \quad v_i = \tfrac12 h_i^{1-2p} c_i

    x and q are the responses to the start and to unit noise (:class:`~.dynamics.Response`).
    """

    k: np.ndarray
    w: np.ndarray
    v: np.ndarray

    @classmethod
    def of(cls, problem: NoisyQuadratic, preconditioning: float) -> Spectrum:
        """Return the spectrum of a problem, every direction for itself."""
        h = problem.curvature
        k, noise = seen_curvature(problem, preconditioning), step_noise(problem, preconditioning)
        return cls(k, 0.5 * h * problem.start_second_moment, 0.5 * h * noise)

    def merged(self, width: float = _BIN_WIDTH) -> Spectrum:
        """Return a spectrum with one curvature per bin of relative width ``width``, for searches.

        A bin's curvature is the mean of its members, so the error of a loss is of second order in the width.
        """
        some = self.k > 0
        k, w, v = self.k[some], self.w[some], self.v[some]
        bins = np.unique(np.floor(np.log(k) / width), return_inverse=True)[1]
        count = np.bincount(bins)
        return Spectrum(np.bincount(bins, k) / count, np.bincount(bins, w), np.bincount(bins, v))

    def parts(self, response: Response) -> tuple[np.ndarray, np.ndarray]:
        """Return the parts of the loss from the start and, for batch size 1, from the noise (sums over k)."""
        return (response.start**2) @ self.w, response.noise @ self.v

    def loss(self, response: Response, batch_sizes: np.ndarray) -> np.ndarray:
        """Return the expected loss, (batch size, …): infinite where the iterates have overflowed."""
        start, noise = self.parts(response)
        return mixed(start, noise, batch_sizes)


def mixed(start: np.ndarray, noise: np.ndarray, batch_sizes: np.ndarray) -> np.ndarray:
    """Add the two parts of the loss for each batch size, (batch size, …)."""
    shape = (-1, *(1 for _ in np.shape(start)))
    with np.errstate(invalid="ignore"):
        total = start + noise / batch_sizes.reshape(shape)
    return np.where(np.isnan(total), np.inf, total)
