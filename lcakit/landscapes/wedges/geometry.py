r"""Closed forms of the n-wedges: distance, gradient, Hessian and its spectrum, at any point. NumPy only.

D-dimensional space holds one wedge for each choice of n axes: the n-dimensional subspace that they span. With the
axes of a point P sorted by :math:`|P_i|`, the nearest wedge is that of the n largest (the *long* axes), and

.. math:: d(P)^2 = \sum_{i\ \text{short}} P_i^2

over the other D − n axes (the *short* ones). Points are arrays (…, D); everything works on the last axis. Where two
axes tie for the last long place d is continuous but has no gradient; one of the two is taken.

Source: Fort and Jastrzębski, "Large Scale Structure of Neural Network Loss Landscapes" (2019), section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtri

from lcakit.landscapes.wedges.shapes import shape_of
from lcakit.trajectory.arguments import checks_arguments

__all__ = [
    "check_sizes",
    "distance",
    "expected_distance",
    "expected_short_directions",
    "gradient",
    "hessian",
    "hessian_eigenvalues",
    "loss",
    "nearest",
    "short_axes",
]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
def check_sizes(dimension: int, wedge_dimension: int) -> None:
    """Raise ValueError unless 1 ≤ n < D."""
    for name, value in (("dimension", dimension), ("wedge_dimension", wedge_dimension)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            raise ValueError(f"{name} must be a whole number, got {value!r}")
    if dimension < 2:
        raise ValueError(f"dimension must be at least 2, got {dimension}: a wedge is smaller than its space")
    if not 1 <= wedge_dimension < dimension:
        why = "With n ≥ D the wedge fills the space and the loss is zero everywhere." if wedge_dimension > 0 else ""
        raise ValueError(
            f"wedge_dimension must be 1 to {dimension - 1} (n < D = {dimension}), got {wedge_dimension}. {why}".strip()
        )


@checks_arguments
def short_axes(points: Any, wedge_dimension: int) -> np.ndarray:
    """Return where the D − n smallest coordinates by size are, a mask (…, D).

    Raises
    ------
    ValueError
        For points that are not finite, or n outside 1 … D−1.

    Examples
    --------
    >>> short_axes([3.0, -0.1, -2.0], 1)
    array([False,  True,  True])
    """
    p = _finite(points)
    check_sizes(p.shape[-1], wedge_dimension)
    n_short = p.shape[-1] - wedge_dimension
    order = np.argsort(np.abs(p), axis=-1, kind="stable")
    mask = np.zeros(p.shape, bool)
    np.put_along_axis(mask, order[..., :n_short], True, axis=-1)
    return mask


@checks_arguments
def nearest(points: Any, wedge_dimension: int) -> np.ndarray:
    """Return the nearest point on a wedge, (…, D): short coordinates are set to zero.

    Examples
    --------
    >>> nearest([3.0, -0.1, -2.0], 1)
    array([3., 0., 0.])
    """
    return np.where(short_axes(points, wedge_dimension), 0.0, _finite(points))


@checks_arguments
def distance(points: Any, wedge_dimension: int) -> np.ndarray:
    r"""Return the distance to the nearest wedge, (…).

    .. math:: d(P) = \sqrt{\sum_{i\ \text{short}} P_i^2}

    Examples
    --------
    >>> float(distance([3.0, -0.6, 0.8], 1))
    1.0
    """
    d: np.ndarray = np.sqrt(np.square(_residual(points, wedge_dimension)).sum(-1))
    return d


@checks_arguments
def loss(points: Any, wedge_dimension: int, shape: str = "quadratic", scale: float = 1.0) -> np.ndarray:
    """Return f(d), (…)."""
    q = np.square(_residual(points, wedge_dimension)).sum(-1)
    return np.asarray(shape_of(shape, scale).value(np, q, scale))


@checks_arguments
def gradient(points: Any, wedge_dimension: int, shape: str = "quadratic", scale: float = 1.0) -> np.ndarray:
    r"""Return the gradient of the loss, (…, D).

    .. math:: ∇f = \frac{f'(d)}{d}\, r, \qquad r_i = P_i \text{ on short axes, 0 on long ones}

    It points straight away from the nearest wedge. On a wedge it is zero (of ``"distance"``: a subgradient).

    Examples
    --------
    >>> gradient([3.0, -0.5, 0.8], 1)
    array([ 0. , -0.5,  0.8])
    """
    r = _residual(points, wedge_dimension)
    slope = shape_of(shape, scale).slope(np, np.square(r).sum(-1), scale)
    return np.asarray(slope[..., None] * r)


@checks_arguments
def hessian(points: Any, wedge_dimension: int, shape: str = "quadratic", scale: float = 1.0) -> np.ndarray:
    r"""Return the Hessian of the loss, (…, D, D).

    .. math:: ∇^2 f = \frac{f'(d)}{d} \left(Π - \frac{r r^T}{d^2}\right) + f''(d) \frac{r r^T}{d^2}

    with Π the projection on the short axes.

    Raises
    ------
    ValueError
        On a wedge, for the shape ``"distance"``: a cone has no Hessian at its tip.
    """
    slope, curvature, r = _curvatures(points, wedge_dimension, shape, scale)
    q = np.square(r).sum(-1)
    along = r[..., :, None] * r[..., None, :] / np.where(q > 0, q, 1.0)[..., None, None]
    short = short_axes(points, wedge_dimension)[..., None] * np.eye(r.shape[-1])
    return np.asarray(slope[..., None, None] * (short - along) + curvature[..., None, None] * along)


@checks_arguments
def hessian_eigenvalues(points: Any, wedge_dimension: int, shape: str = "quadratic", scale: float = 1.0) -> np.ndarray:
    """Return the eigenvalues of the Hessian, largest first, (…, D).

    0 n times (along the wedge), f'(d) / d in D − n − 1 directions across it, f''(d) away from it.

    Examples
    --------
    >>> hessian_eigenvalues([3.0, -0.6, 0.8], 1, "distance")
    array([1., 0., 0.])
    """
    slope, curvature, r = _curvatures(points, wedge_dimension, shape, scale)
    values = np.zeros(r.shape)
    values[..., : r.shape[-1] - wedge_dimension] = slope[..., None]
    values[..., 0] = curvature
    return np.sort(values, axis=-1)[..., ::-1]


@checks_arguments
def expected_distance(dimension: int, wedge_dimension: int, radius: float = 1.0) -> float:
    r"""Return the distance of a random point at a radius from its nearest wedge, for many dimensions.

    .. math:: d^2 / R^2 \to (1 - φ) - 2 z\, p(z), \qquad φ = n / D, \quad Φ(z) = 1 - φ / 2

    with p and Φ the standard normal density and distribution: the share of the sum of squares of normal numbers that
    the D − n smallest hold. At any D the distance is proportional to the radius.

    Examples
    --------
    >>> round(expected_distance(1000, 500), 3)
    0.267
    """
    check_sizes(dimension, wedge_dimension)
    share = wedge_dimension / dimension
    z = -ndtri(share / 2)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return float(radius * np.sqrt((1 - share) - 2 * z * density))


@checks_arguments
def expected_short_directions(dimension: int, wedge_dimension: int, optima: int) -> float:
    r"""Return how many directions are short where the wedges of N independent optima meet, on average.

    .. math:: D - |W_1 ∩ … ∩ W_N| \approx D \left(1 - (n / D)^N\right)

    Examples
    --------
    >>> [expected_short_directions(100, 50, n) for n in (1, 2, 3)]
    [50.0, 75.0, 87.5]
    """
    check_sizes(dimension, wedge_dimension)
    if optima < 1:
        raise ValueError(f"optima must be at least 1, got {optima}")
    return float(dimension * (1 - (wedge_dimension / dimension) ** optima))


def _finite(points: Any) -> np.ndarray:
    p = np.asarray(points, np.float64)
    if p.ndim == 0:
        raise ValueError("a point is an array of coordinates (…, D), got one number")
    if not np.isfinite(p).all():
        raise ValueError(f"points must be finite, got {p[~np.isfinite(p)][0]}; no wedge is nearest to such a point")
    return p


def _residual(points: Any, wedge_dimension: int) -> np.ndarray:
    """Return r: the points with their long coordinates set to zero."""
    return np.where(short_axes(points, wedge_dimension), _finite(points), 0.0)


def _curvatures(
    points: Any, wedge_dimension: int, shape: str, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return f'(d) / d, f''(d) and r."""
    r = _residual(points, wedge_dimension)
    q = np.square(r).sum(-1)
    formulas = shape_of(shape, scale)
    if shape == "distance" and (q == 0).any():
        raise ValueError(
            "the shape 'distance' has no Hessian on a wedge (d = 0), where it has a kink. "
            "Ask off the wedge, or use a smooth shape: 'quadratic', 'softened' or 'saturating'."
        )
    return np.asarray(formulas.slope(np, q, scale)), np.asarray(formulas.curvature(np, q, scale)), r
