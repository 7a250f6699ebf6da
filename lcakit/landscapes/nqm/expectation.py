"""Exact expectations after any number of steps, from the recursion of second moments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from lcakit.landscapes.nqm.dynamics import Dynamics, walk
from lcakit.landscapes.nqm.optimizer import Optimizer, step_noise, warn_if_unstable
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of, times_of
from lcakit.landscapes.nqm.spectrum import Spectrum
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["LOSS", "expected_loss", "moments", "settings_coords", "squeeze_scalars", "with_rates"]


def __dir__() -> list[str]:
    return __all__


Result = TypeVar("Result", xr.DataArray, xr.Dataset)

LOSS = {"long_name": "expected loss", "units": "loss units"}


def with_rates(optimizer: Optimizer, learning_rate: Any) -> list[Optimizer]:
    """Return the optimizer at each of some learning rates; as it is for None."""
    if learning_rate is None:
        return [optimizer]
    rates = np.atleast_1d(np.asarray(learning_rate, np.float64))
    if rates.ndim != 1 or rates.size == 0:
        raise ValueError(f"learning_rate must be one number or several, got {learning_rate!r}")
    return [optimizer.at(rate) for rate in rates]


def settings_coords(optimizers: list[Optimizer], batch_sizes: np.ndarray) -> dict[str, Any]:
    """Return the coordinates ``learning_rate`` and ``batch_size``."""
    rates = xr.DataArray([o.learning_rate for o in optimizers], dims="learning_rate", attrs={"units": "1"})
    sizes = xr.DataArray(batch_sizes, dims="batch_size", attrs={"units": "examples"})
    return {"learning_rate": rates, "batch_size": sizes}


def squeeze_scalars(result: Result, **given: Any) -> Result:
    """Drop the dimensions of settings that were not given, or as one number; they stay as coordinates."""
    ones = [dim for dim, value in given.items() if value is None or isinstance(value, int | float | np.number)]
    squeezed: Result = result.squeeze([dim for dim in ones if dim in result.dims])
    return squeezed


@checks_arguments
def expected_loss(
    problem: NoisyQuadratic,
    optimizer: Optimizer,
    batch_size: Any,
    snapshots: int | Iterable[int],
    learning_rate: Any = None,
) -> xr.DataArray:
    r"""Return the expected loss after some steps, exactly.

    .. math:: E\,L(t) = \frac12 \sum_i h_i\, E\,θ_i(t)^2, \qquad
              E\,θ_i(t+1)^2 = (1 - αk_i)^2\, E\,θ_i(t)^2 + α^2 \frac{c_i}{h_i^{2p} B}

    (the recursion of SGD, k = h¹⁻ᵖ; with momentum or averaging that of the 2 × 2 or 3 × 3 moments). Steps are taken
    by doubling, so a millionth costs as much as twenty.

    Parameters
    ----------
    batch_size
        B, one number or several; ``np.inf`` means no noise.
    snapshots
        Numbers of steps taken, ascending.
    learning_rate
        Replaces the optimizer's; one number or several.

    Returns
    -------
    DataArray
        ([learning_rate, batch_size, snapshot]), those that were given as several; float64, infinite where the iterates
        have overflowed. With averaging it is the loss of the average.

    Raises
    ------
    ValueError
        For batch sizes that are not positive or snapshots that are not ascending whole numbers.

    Warns
    -----
    LcakitWarning
        If a learning rate is unstable.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import Optimizer, paper_problem
    >>> expected_loss(paper_problem(), Optimizer(0.1), [10, 1000], [0, 100, 10**6]).values.round(3)
    array([[4.894, 2.829, 0.025],
           [4.894, 2.819, 0.   ]])
    """
    sizes, times, optimizers = (
        batch_sizes_of(batch_size),
        times_of(snapshots, "snapshots"),
        with_rates(optimizer, learning_rate),
    )
    warn_if_unstable(problem, *optimizers)
    spectrum = Spectrum.of(problem, optimizer.preconditioning)
    losses = [[spectrum.loss(r, sizes) for r in walk(Dynamics.of(spectrum.k, o), times)] for o in optimizers]
    out = xr.DataArray(
        np.moveaxis(np.array(losses), 1, -1),
        dims=("learning_rate", "batch_size", "snapshot"),
        coords=settings_coords(optimizers, sizes) | {"snapshot": times},
        name="loss",
        attrs=LOSS,
    )
    return squeeze_scalars(out, batch_size=batch_size, learning_rate=learning_rate, snapshot=snapshots)


@checks_arguments
def moments(
    problem: NoisyQuadratic, optimizer: Optimizer, batch_size: Any, snapshots: int | Iterable[int]
) -> xr.Dataset:
    r"""Return the mean and the variance of each direction after some steps, exactly.

    .. math:: E\,θ_i(t) = μ_i x_i(t), \qquad
              \operatorname{Var} θ_i(t) = σ_i^2 x_i(t)^2 + \frac{c_i}{h_i^{2p} B}\, q_i(t)

    with the responses x to the start and q to unit noise. The distribution is Gaussian.

    Parameters
    ----------
    batch_size, snapshots
        As for :func:`expected_loss`.

    Returns
    -------
    Dataset
        ``mean`` ([snapshot,] direction) and ``variance`` ([batch_size, snapshot,] direction) of θ, or of the average
        where the optimizer has one.
    """
    sizes, times = batch_sizes_of(batch_size), times_of(snapshots, "snapshots")
    warn_if_unstable(problem, optimizer)
    spectrum = Spectrum.of(problem, optimizer.preconditioning)
    noise = step_noise(problem, optimizer.preconditioning)
    responses = list(walk(Dynamics.of(spectrum.k, optimizer), times))
    x = np.array([r.start for r in responses])
    q = np.array([r.noise for r in responses]) * noise
    with np.errstate(over="ignore", invalid="ignore"):
        variance = problem.start_variance * x**2 + q / sizes[:, None, None]
        mean = problem.start_mean * x
    out = xr.Dataset(
        {
            "mean": (("snapshot", "direction"), mean, {"long_name": "mean of the parameter", "units": "1"}),
            "variance": (
                ("batch_size", "snapshot", "direction"),
                variance,
                {"long_name": "variance of the parameter", "units": "1"},
            ),
        },
        coords={"batch_size": settings_coords([], sizes)["batch_size"], "snapshot": times} | problem.coords,
    )
    return squeeze_scalars(out, batch_size=batch_size, snapshot=snapshots)
