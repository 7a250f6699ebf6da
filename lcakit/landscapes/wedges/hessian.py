"""Spectrum of the Hessian, from Hessian-vector products alone: whole for small surfaces, Lanczos for large ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.sparse.linalg import LinearOperator, eigsh

from lcakit.landscapes.wedges import geometry
from lcakit.landscapes.wedges.surface import Surface, Wedges, as_points
from lcakit.trajectory.arguments import checks_arguments, checks_creation

__all__ = ["DENSE", "SHARE", "HessianOperator", "count_sharp", "spectrum"]


def __dir__() -> list[str]:
    return __all__


DENSE = 400
"""Up to this many dimensions the whole Hessian is formed."""
SHARE = 0.05
_COUNT = 20


@checks_creation
class HessianOperator(LinearOperator):  # type: ignore[misc]  # SciPy has no types
    r"""The Hessian at a point as a linear operator for SciPy, by differentiating the gradient.

    .. math:: H v = \frac1m \sum_{k=1}^m ∇_θ \left(∇L(θ + u_k) \cdot v\right), \qquad u_k \sim N(0, s^2 I)

    Parameters
    ----------
    surface, point
        The surface and a point (D,) on it.
    smoothing
        s, in units of the coordinates; 0 takes the plain Hessian.
    samples, seed
        m, and the seed of the moves; not used without smoothing.

    Raises
    ------
    ValueError
        For a point of another dimension or not finite, negative smoothing, fewer than 1 sample, or where the surface
        has no Hessian.

    Notes
    -----
    The graph of the m gradients is built once and kept, so that a product costs one backward pass.

    Examples
    --------
    >>> HessianOperator(Wedges(3, 1), [3.0, 0.1, -0.2]).matvec(np.array([1.0, 2.0, 3.0]))
    array([0., 2., 3.])
    """

    def __init__(self, surface: Surface, point: Any, smoothing: float = 0.0, samples: int = 1, seed: int = 0) -> None:
        super().__init__(np.dtype(np.float64), (surface.dimension, surface.dimension))
        self._points = _moved(as_points(surface, point), smoothing, samples, seed).requires_grad_()
        if isinstance(surface, Wedges):  # where autograd would say zero
            geometry.hessian_eigenvalues(self._points.detach().numpy(), **surface.form)
        total = surface.loss(self._points).sum()
        (self._gradient,) = torch.autograd.grad(total, self._points, create_graph=True)

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        vector = torch.from_numpy(np.array(x, np.float64)).reshape(-1)
        if not self._gradient.requires_grad:  # a loss linear in θ
            return np.zeros(self.shape[0])
        along = (self._gradient @ vector).sum()
        product = torch.autograd.grad(along, self._points, retain_graph=True, materialize_grads=True)[0]
        return product.mean(0).numpy()

    def _adjoint(self) -> HessianOperator:
        return self


def _moved(point: torch.Tensor, smoothing: float, samples: int, seed: int) -> torch.Tensor:
    if not (np.isfinite(smoothing) and smoothing >= 0):
        raise ValueError(f"smoothing must be 0 or a small positive number, got {smoothing}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if smoothing == 0:
        return point[None].clone()
    generator = torch.Generator().manual_seed(seed)
    return point + smoothing * torch.randn(samples, len(point), generator=generator, dtype=point.dtype)


@checks_arguments
def spectrum(
    surface: Surface,
    point: Any,
    count: int | None = _COUNT,
    smoothing: float = 0.0,
    samples: int = 32,
    seed: int = 0,
    above: float | None = None,
) -> xr.DataArray:
    r"""Return the largest eigenvalues of the Hessian at a point.

    Wedges have n flat directions and D − n sharp ones
    (:func:`lcakit.landscapes.wedges.geometry.hessian_eigenvalues`).

    Parameters
    ----------
    point
        (D,).
    count
        How many eigenvalues, at least 1 (there are only D); None for all.
    smoothing, samples, seed
        Average the Hessian over random moves: :class:`HessianOperator`. The seed also starts Lanczos.
    above
        Instead of a count: as many as lie above this share of the largest, and some more.

    Returns
    -------
    DataArray
        (rank), the largest eigenvalue first.

    Raises
    ------
    ValueError
        For a count or share outside its range, or what :class:`HessianOperator` refuses.

    Notes
    -----
    Up to 400 dimensions the Hessian is formed by D products. Beyond, Lanczos (ARPACK) needs two to three products for
    each eigenvalue; asking for most of a large spectrum is slow.

    Examples
    --------
    >>> spectrum(Wedges(5, 3), [1.0, 0.1, -2.0, 0.2, 3.0], count=4).values
    array([1., 1., 0., 0.])
    """
    size = surface.dimension
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1 (None: all {size}), got {count}")
    if above is not None and not 0 < above < 1:
        raise ValueError(f"above must be a share between 0 and 1, got {above}")
    operator = HessianOperator(surface, point, smoothing, samples, seed)
    if size <= DENSE:
        values = _all(operator)
        values = values if above is not None else values[:count]
    elif above is not None:
        values = _above(operator, above, seed)
    else:
        values = _largest(operator, size if count is None else count, seed)
    attrs = {"long_name": "eigenvalue of the Hessian", "units": surface.loss_unit}
    rank = xr.DataArray(np.arange(1, len(values) + 1), dims="rank", attrs={"long_name": "rank", "units": "1"})
    return xr.DataArray(values, dims="rank", coords={"rank": rank}, name="eigenvalue", attrs=attrs)


@checks_arguments
def count_sharp(eigenvalues: xr.DataArray, share: float = SHARE) -> xr.DataArray:
    """Count the eigenvalues above a share of the largest.

    Parameters
    ----------
    eigenvalues
        With a dimension ``rank``; they must reach below the share (``spectrum(…, above=share)``, or all of them).
    share
        Between 0 and 1.

    Returns
    -------
    DataArray
        Without ``rank``, int64; 0 where no curvature is positive.

    Examples
    --------
    >>> int(count_sharp(spectrum(Wedges(5, 3), [1.0, 0.1, -2.0, 0.2, 3.0])))
    2
    """
    largest = eigenvalues.max("rank")
    out = ((eigenvalues > share * largest) & (largest > 0)).sum("rank")
    return out.rename("sharp").assign_attrs(long_name="sharp directions", units="1")


def _all(operator: HessianOperator) -> np.ndarray:
    matrix = operator @ np.eye(operator.shape[0])
    return np.linalg.eigvalsh((matrix + matrix.T) / 2)[::-1].copy()


def _largest(operator: HessianOperator, count: int, seed: int) -> np.ndarray:
    if count >= operator.shape[0]:
        return _all(operator)
    start = np.random.default_rng(seed).standard_normal(operator.shape[0])
    values = eigsh(operator, k=count, which="LA", v0=start, return_eigenvectors=False)
    return np.sort(values)[::-1].copy()


def _above(operator: HessianOperator, share: float, seed: int) -> np.ndarray:
    """Ask for twice as many eigenvalues until the smallest is below the share."""
    count = _COUNT
    values = _largest(operator, count, seed)
    while values[-1] > share * max(values[0], 0.0) and count < operator.shape[0]:
        count = min(2 * count, operator.shape[0])
        values = _largest(operator, count, seed)
    return values
