"""Two-dimensional cuts through a surface, flat and polar: low-loss wedges show as radial tunnels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.landscapes.wedges.surface import Surface, as_points, loss_array, losses
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["plane_cut", "polar_cut"]


def __dir__() -> list[str]:
    return __all__


_RESOLUTION = 61
_PARALLEL = 1e-8
"""Sine of the angle between two points below which they span no plane."""


@checks_arguments
def plane_cut(
    surface: Surface, first: Any, second: Any, origin: Any = None, extent: float = 1.5, resolution: int = _RESOLUTION
) -> xr.Dataset:
    r"""Return the loss on a grid in the plane through an origin and two points.

    .. math:: L(O + x\, e_1 + y\, e_2)

    with orthonormal :math:`e_1` towards the first point and :math:`e_2` on the side of the second. Cut through the
    origin of space and two optima, wedges look like tunnels that lead away from it.

    Parameters
    ----------
    first, second
        Points (D,), not on a line with the origin.
    origin
        O (D,); that of space by default.
    extent
        Half the side of the square, as a multiple of the distance from O to the farther of the two points.
    resolution
        Points on each side.

    Returns
    -------
    Dataset
        ``loss`` (y, x); ``point_x`` and ``point_y`` (point) are the places of ``origin, first, second``. x and y are
        distances in parameter space.

    Raises
    ------
    ValueError
        For points of another dimension, not finite or on one line, a resolution below 2, or an extent not positive.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges
    >>> cut = plane_cut(Wedges(3, 1), [1, 0, 0], [0, 1, 0], extent=1, resolution=3)
    >>> cut["loss"].values
    array([[0.5, 0. , 0.5],
           [0. , 0. , 0. ],
           [0.5, 0. , 0.5]])
    """
    if resolution < 2 or not (np.isfinite(extent) and extent > 0):
        raise ValueError(f"resolution must be at least 2 and extent positive, got {resolution} and {extent}")
    base = torch.zeros(surface.dimension, dtype=torch.float64) if origin is None else as_points(surface, origin)
    axes, places = _frame(as_points(surface, first) - base, as_points(surface, second) - base)
    side = extent * float(np.linalg.norm(places, axis=1).max()) * np.linspace(-1, 1, resolution)
    x, y = (torch.from_numpy(side.copy()) for _ in range(2))
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)
    values = losses(surface, base + grid.flip(-1) @ axes).reshape(resolution, resolution)
    out = loss_array(surface, ("y", "x"), values, x=side, y=side).to_dataset()
    for name, column in (("x", 0), ("y", 1)):
        attrs = {"long_name": f"distance along the {'first' if name == 'x' else 'second'} axis", "units": "1"}
        out[name].attrs = attrs
        out[f"point_{name}"] = ("point", np.r_[0.0, places[:, column]], attrs)
    return out.assign_coords(point=["origin", "first", "second"])


@checks_arguments
def polar_cut(
    surface: Surface, first: Any, second: Any, radius: float | None = None, angles: int = 181, radii: int = 31
) -> xr.DataArray:
    r"""Return the loss in the plane of two points by direction and distance from the origin of space.

    .. math:: L(r \cos φ\, e_1 + r \sin φ\, e_2)

    A radial tunnel is a direction φ along which the loss stays low. In the wedges the distance to the nearest one is r
    times a function of φ alone, so every tunnel is radial.

    Parameters
    ----------
    first, second
        Points (D,), not on a line with the origin.
    radius
        Largest r; by default the distance of the farther point.
    angles, radii
        Values of φ in a full turn, and of r.

    Returns
    -------
    DataArray
        (radius, angle), φ in radians, 0 towards the first point; ``first_angle`` and ``second_angle`` are theirs.

    Raises
    ------
    ValueError
        For points of another dimension, not finite or on one line, a radius not positive, or counts below 1.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges
    >>> polar_cut(Wedges(3, 1), [1, 0, 0], [1, 1, 0], angles=8, radii=2)[-1].values.round(6)
    array([0. , 0.5, 0. , 0.5, 0. , 0.5, 0. , 0.5])
    """
    if angles < 1 or radii < 1:
        raise ValueError(f"angles and radii must be at least 1, got {angles} and {radii}")
    axes, places = _frame(as_points(surface, first), as_points(surface, second))
    top = float(np.linalg.norm(places, axis=1).max()) if radius is None else radius
    if not (np.isfinite(top) and top > 0):
        raise ValueError(f"radius must be positive and finite, got {radius}")
    phi = np.arange(angles) * 2 * np.pi / angles
    r = top * np.arange(1, radii + 1) / radii
    directions = torch.from_numpy(np.stack([np.cos(phi), np.sin(phi)], -1)) @ axes
    points = torch.from_numpy(r)[:, None, None] * directions
    values = losses(surface, points.reshape(-1, surface.dimension)).reshape(radii, angles)
    out = loss_array(surface, ("radius", "angle"), values, radius=r, angle=phi)
    out["radius"].attrs = {"long_name": "distance from the origin", "units": "1"}
    out["angle"].attrs = {"long_name": "direction", "units": "rad"}
    return out.assign_coords(first_angle=0.0, second_angle=float(np.arctan2(places[1, 1], places[1, 0])))


def _frame(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """Return orthonormal axes (2, D) of the plane of two vectors, and the coordinates (2, 2) of both in it."""
    along = first / first.norm().clamp(min=torch.finfo(first.dtype).tiny)
    rest = second - (second @ along) * along
    rest = rest - (rest @ along) * along
    if first.norm() == 0 or rest.norm() <= _PARALLEL * second.norm():
        raise ValueError(
            "the two points lie on one line with the origin, so they span no plane. Give two independent points."
        )
    axes = torch.stack([along, rest / rest.norm()])
    return axes, torch.stack([axes @ first, axes @ second]).numpy()
