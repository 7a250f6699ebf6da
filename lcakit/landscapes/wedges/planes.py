"""Random affine planes: how low the loss gets inside one, and from which dimension on a plane meets a wedge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.landscapes.wedges.descent import STEPS, minimize
from lcakit.landscapes.wedges.surface import DTYPE, Surface, as_points, loss_array
from lcakit.trajectory.arguments import checks_arguments, checks_itself

__all__ = ["descend_in_plane", "find_threshold", "random_plane", "reachable_loss", "start_at", "threshold"]


def __dir__() -> list[str]:
    return __all__


_LARGEST = 1000
"""Plane that is tried by default."""


@checks_arguments
@checks_itself(plane_dimension=float)
def random_plane(dimension: int, plane_dimension: int, seed: int = 0) -> torch.Tensor:
    r"""Return an orthonormal basis of a random plane through the origin, M (D, k), drawn evenly.

    The first columns of a basis span a random plane too, of a smaller dimension.

    Raises
    ------
    ValueError
        For k outside 1 … D.

    Examples
    --------
    >>> m = random_plane(5, 2)
    >>> (m.T @ m).round(decimals=12).abs()
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)
    """
    _check_plane(dimension, plane_dimension)
    generator = torch.Generator().manual_seed(seed)
    basis: torch.Tensor = torch.linalg.qr(torch.randn(dimension, plane_dimension, generator=generator, dtype=DTYPE))[0]
    return basis


def _check_plane(dimension: int, plane_dimension: int) -> None:
    """Raise ValueError unless 1 ≤ k ≤ D."""
    if not isinstance(plane_dimension, int | np.integer) or not 1 <= plane_dimension <= dimension:
        raise ValueError(
            f"a plane in D = {dimension} dimensions has a whole dimension of 1 to {dimension}, got {plane_dimension!r}"
        )


def descend_in_plane(
    surface: Surface, start: Any, basis: torch.Tensor, steps: int = STEPS, target: float | None = None
) -> tuple[torch.Tensor, float]:
    r"""Minimize the loss over the plane :math:`θ = P + M z` through a point; return where it ends, and the loss.

    Parameters
    ----------
    start
        P (D,).
    basis
        M (D, k), orthonormal columns.
    """
    point = as_points(surface, start)
    z, value = minimize(lambda z: surface.loss(point + basis @ z), torch.zeros(basis.shape[1]), steps, target)
    return point + basis @ z, value


@checks_arguments
@checks_itself(plane_dimensions=Sequence[float])
def reachable_loss(
    surface: Surface,
    plane_dimensions: Sequence[int],
    repeats: int = 1,
    radius: float | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> xr.DataArray:
    """Return the loss that optimization reaches when it is kept to random planes through random starts.

    A k-dimensional plane meets an n-dimensional wedge in general from k = D − n on.

    Parameters
    ----------
    plane_dimensions
        k, each 1 … D.
    repeats
        Starts and planes drawn.
    radius
        Distance of the starts from the origin; None leaves them where the surface puts them.
    steps
        Most iterations of L-BFGS.
    seed
        Of the first start and plane.

    Returns
    -------
    DataArray
        (plane_dimension, repeat), with the loss at the ``start`` of each repeat. The smaller planes of a repeat lie in
        the larger ones, and start from the same point.

    Raises
    ------
    ValueError
        For dimensions outside 1 … D or none, fewer than 1 repeat, or a radius that is not positive.

    Notes
    -----
    The plane of dimension k takes 8 D k bytes.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges
    >>> low = reachable_loss(Wedges(40, 20), [10, 25])
    >>> low.isel(repeat=0).values < 1e-6
    array([False,  True])
    """
    sizes = list(plane_dimensions)
    if not sizes or repeats < 1:
        raise ValueError(f"one or more plane dimensions and repeats are needed, got {sizes} and {repeats}")
    for k in sizes:
        _check_plane(surface.dimension, k)
    out, begin = np.empty((len(sizes), repeats)), np.empty(repeats)
    for r in range(repeats):
        start = start_at(surface, seed + r, radius)
        begin[r] = float(surface.loss(start))
        basis = random_plane(surface.dimension, max(sizes), seed + r)
        for row, k in enumerate(sizes):
            out[row, r] = descend_in_plane(surface, start, basis[:, :k], steps)[1]
    array = loss_array(surface, ("plane_dimension", "repeat"), out, plane_dimension=sizes, repeat=np.arange(repeats))
    array["plane_dimension"].attrs = {"long_name": "dimension of the plane", "units": "1"}
    return array.assign_coords(start=loss_array(surface, "repeat", begin, repeat=np.arange(repeats)))


def start_at(surface: Surface, seed: int, radius: float | None) -> torch.Tensor:
    """Return the surface's random start, moved along its ray to a distance from the origin where one is given."""
    start = surface.initial(seed)
    if radius is None:
        return start
    if not (np.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be positive and finite, got {radius}")
    moved: torch.Tensor = start * (radius / start.norm())
    return moved


@checks_arguments
def threshold(reached: xr.DataArray, target: Any) -> xr.DataArray:
    """Return the smallest plane dimension tried in which the loss falls to a target.

    Parameters
    ----------
    reached
        Result of :func:`reachable_loss`.
    target
        A loss, or one for each repeat.

    Returns
    -------
    DataArray
        (repeat), float64; NaN where no plane tried was large enough.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges
    >>> threshold(reachable_loss(Wedges(40, 20), [10, 15, 20, 25]), 1e-6).values
    array([20.])
    """
    low = reached <= target
    out = reached["plane_dimension"].where(low).min("plane_dimension")
    return out.rename("threshold").assign_attrs(long_name="threshold dimension of a plane", units="1")


@checks_arguments
@checks_itself(largest=float | None)
def find_threshold(
    surface: Surface,
    target: float,
    largest: int | None = None,
    radius: float | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> float:
    """Find, by bisection, the smallest dimension of a random plane in which the loss falls to a target.

    For wedges and a small target it is near D − n, the number of short directions (the intrinsic dimension).

    Parameters
    ----------
    target
        A loss.
    largest
        Largest plane to try; by default D, or 1 000 in larger spaces (its basis takes 8 D k bytes).
    radius, steps, seed
        As for :func:`reachable_loss`.

    Returns
    -------
    float
        The dimension; NaN if the largest plane is too small.

    Raises
    ------
    ValueError
        For a largest dimension outside 1 … D, or a radius that is not positive.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges
    >>> find_threshold(Wedges(40, 30), 1e-6)
    10.0
    """
    top = min(surface.dimension, _LARGEST) if largest is None else largest
    basis = random_plane(surface.dimension, top, seed)
    start = start_at(surface, seed, radius)

    def falls(k: int) -> bool:
        return descend_in_plane(surface, start, basis[:, :k], steps, target)[1] <= target

    if not falls(top):
        return float("nan")
    too_small, enough = 0, top
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        too_small, enough = (too_small, middle) if falls(middle) else (middle, enough)
    return float(enough)
