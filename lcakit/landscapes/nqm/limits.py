"""What remains after infinitely many steps, and how fast the start is forgotten."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.landscapes.nqm.expectation import settings_coords, squeeze_scalars, with_rates
from lcakit.landscapes.nqm.optimizer import Optimizer, seen_curvature, warn_if_unstable
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of
from lcakit.landscapes.nqm.spectrum import Spectrum
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["asymptotic_noise_loss", "asymptotic_risk", "convergence_rate", "stationary_noise"]


def __dir__() -> list[str]:
    return __all__


def stationary_noise(k: np.ndarray, learning_rate: Any, momentum: float = 0.0, averaging: float = 0.0) -> np.ndarray:
    r"""Return the stationary variance from unit noise; infinite where the learning rate is unstable.

    Without averaging θ is an autoregressive process of order 2 with :math:`a_1 = 1 + β - αk` and :math:`a_2 = -β`:

    .. math:: V = \frac{α^2 (1 + β)}{(1 - β)\, αk\, (2(1 + β) - αk)}

    The average is that process through a filter :math:`(1 - γ) \sum_τ γ^τ θ(t - τ)`:

    .. math:: \tilde V = V\, \frac{1 - γ}{1 + γ} \left(2\, \frac{1 - βγ\, a_1 / (1 + β)}{1 - γ a_1 + βγ^2} - 1\right)
    """
    step = learning_rate * k
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = learning_rate**2 * (1 + momentum) / ((1 - momentum) * step * (2 * (1 + momentum) - step))
        if averaging:
            a1 = 1 + momentum - step
            sums = (1 - momentum * averaging * a1 / (1 + momentum)) / (1 - averaging * a1 + momentum * averaging**2)
            variance = variance * (1 - averaging) / (1 + averaging) * (2 * sums - 1)
    return np.where((step > 0) & (step < 2 * (1 + momentum)), variance, np.inf)


def asymptotic_noise_loss(spectrum: Spectrum, learning_rate: Any, momentum: float, averaging: float) -> np.ndarray:
    """Return the asymptotic loss for batch size 1, (…) for learning rates (…, 1): flat directions cost nothing."""
    matters = (spectrum.v > 0) & (spectrum.k > 0)
    variance = stationary_noise(spectrum.k[matters], learning_rate, momentum, averaging)
    loss: np.ndarray = (variance * spectrum.v[matters]).sum(-1)
    return loss


@checks_arguments
def asymptotic_risk(
    problem: NoisyQuadratic, optimizer: Optimizer, batch_size: Any, learning_rate: Any = None
) -> xr.DataArray:
    r"""Return the expected loss after infinitely many steps: the floor that noise keeps.

    .. math:: L_\infty = \frac1{2B} \sum_i h_i^{1-2p} c_i V_i, \qquad
              V_i = \frac{α}{k_i (2 - αk_i)} \text{ for SGD}

    For momentum and averaging see :func:`stationary_noise`.

    Parameters
    ----------
    batch_size, learning_rate
        One number or several each; a learning rate replaces the optimizer's.

    Returns
    -------
    DataArray
        ([learning_rate, batch_size]); infinite where the learning rate is unstable.

    Warns
    -----
    LcakitWarning
        If a learning rate is unstable.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import NoisyQuadratic, Optimizer
    >>> round(asymptotic_risk(NoisyQuadratic([1.0]), Optimizer(0.5), batch_size=4).item() * 24, 12)
    1.0
    """
    sizes, optimizers = batch_sizes_of(batch_size), with_rates(optimizer, learning_rate)
    warn_if_unstable(problem, *optimizers)
    spectrum = Spectrum.of(problem, optimizer.preconditioning)
    noise = [asymptotic_noise_loss(spectrum, o.learning_rate, o.momentum, o.averaging) for o in optimizers]
    stable = np.array([o.is_stable(problem) for o in optimizers])
    out = xr.DataArray(
        np.where(stable, noise, 0)[:, None] / sizes + np.where(stable, 0, np.inf)[:, None],
        dims=("learning_rate", "batch_size"),
        coords=settings_coords(optimizers, sizes),
        name="asymptotic_risk",
        attrs={"long_name": "asymptotic risk", "units": "loss units"},
    )
    return squeeze_scalars(out, batch_size=batch_size, learning_rate=learning_rate)


@checks_arguments
def convergence_rate(problem: NoisyQuadratic, optimizer: Optimizer) -> xr.DataArray:
    r"""Return the factor per step by which the loss of each direction approaches its floor in the end.

    .. math:: \max(|r_+|^2, |r_-|^2[, γ^2]), \qquad r^2 - (1 + β - αk)\, r + β = 0

    That is :math:`(1 - αk)^2` for SGD, and β where momentum oscillates. Its maximum over directions is the rate of the
    whole; 1 and more does not converge.

    Returns
    -------
    DataArray
        (direction), float64. Directions without curvature stay where they are: 1.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import NoisyQuadratic, Optimizer
    >>> convergence_rate(NoisyQuadratic([1.0, 0.5]), Optimizer(0.5)).values
    array([0.25  , 0.5625])
    """
    warn_if_unstable(problem, optimizer)
    step = optimizer.learning_rate * seen_curvature(problem, optimizer.preconditioning)
    beta, middle = optimizer.momentum, (1 + optimizer.momentum - step) / 2
    root = np.sqrt(beta)
    discriminant = ((1 - root) ** 2 - step) * ((1 + root) ** 2 - step) / 4
    largest = np.where(discriminant > 0, np.abs(middle) + np.sqrt(np.maximum(discriminant, 0)), root)
    rate = np.maximum(largest, optimizer.averaging) ** 2
    attrs = {"long_name": "factor of the excess loss per step", "units": "1"}
    return xr.DataArray(rate, dims="direction", coords=problem.coords, name="convergence_rate", attrs=attrs)
