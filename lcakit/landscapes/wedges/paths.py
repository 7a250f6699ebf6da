"""Paths between two points: straight ones over a barrier, and low-loss ones through optimized bends."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.landscapes.wedges.descent import STEPS, minimize
from lcakit.landscapes.wedges.surface import Surface, as_points, loss_array, losses, point_array
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["barrier", "connect", "path_points", "straight_path"]


def __dir__() -> list[str]:
    return __all__


_POINTS = 12
"""Positions on each piece of a path while it is optimized."""
_POSITIONS = 101


@checks_arguments
def straight_path(surface: Surface, start: Any, end: Any, positions: int = _POSITIONS) -> xr.DataArray:
    """Return the loss on the straight line between two points.

    Parameters
    ----------
    start, end
        Points (D,) of the surface.
    positions
        How many points of the line, ends included.

    Returns
    -------
    DataArray
        (position), 0 at the start and 1 at the end; :func:`barrier` tells its height.

    Raises
    ------
    ValueError
        For points of another dimension or not finite, or fewer than 2 positions.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges
    >>> straight_path(Wedges(3, 1), [2, 0, 0], [0, 2, 0], positions=3).values
    array([0. , 0.5, 0. ])
    """
    ends = torch.stack([as_points(surface, start), as_points(surface, end)])
    position = _positions(positions)
    return _path_losses(surface, ends, position)


@checks_arguments
def barrier(path: xr.DataArray) -> xr.DataArray:
    r"""Return how far the loss on a path rises above the line between its ends.

    .. math:: \max_t \left[L(t) - (1 - t)\, L(0) - t\, L(1)\right]

    Parameters
    ----------
    path
        Losses with a dimension ``position``.

    Returns
    -------
    DataArray
        Without ``position``; 0 where the path never rises.
    """
    first, last = path.isel(position=0, drop=True), path.isel(position=-1, drop=True)
    above = path - first - path["position"] * (last - first)
    out = above.max("position").rename("barrier")
    return out.assign_attrs(long_name="barrier", units=path.attrs.get("units", "1"))


@checks_arguments
def connect(
    surface: Surface,
    start: Any,
    end: Any,
    bends: int = 1,
    points: int = _POINTS,
    steps: int = STEPS,
    target: float | None = None,
    positions: int = _POSITIONS,
) -> xr.Dataset:
    r"""Find a low-loss path of straight pieces between two points.

    .. math:: \min_{B_1 \dots B_b} \frac1P \sum_p L(γ(t_p)), \qquad
              γ: θ_{start} \to B_1 \to \dots \to B_b \to θ_{end}

    It starts as the straight line. Two optima of the wedges are joined at zero loss by one bend where their wedges
    meet, which may be near the origin; more bends can pass through other wedges.

    Parameters
    ----------
    start, end
        Points (D,), normally optima.
    bends
        b, at least 1.
    points
        Points on each piece that the path is optimized at; they lie closer together near its ends, as a thin wedge
        is left soon.
    steps, target
        Most iterations of L-BFGS, which stops earlier where the mean loss is not above the target.
    positions
        Points at which the result is looked at.

    Returns
    -------
    Dataset
        ``loss`` and ``straight`` (position), losses on the path and the straight line; ``radius`` (position), the
        distance from the origin; ``theta`` (vertex, parameter), the ends and bends; ``barrier`` and
        ``straight_barrier``. Position counts pieces, from 0 to 1.

    Raises
    ------
    ValueError
        For points of another dimension or not finite, or fewer than 1 bend or point.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges, optima
    >>> surface = Wedges(20, 10)
    >>> a, b = optima(surface, 2)
    >>> path = connect(surface, a, b)
    >>> bool(path["straight_barrier"] > 0.1), bool(path["barrier"] < 1e-6)
    (True, True)
    """
    for name, count in (("bends", bends), ("points", points)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    ends = torch.stack([as_points(surface, start), as_points(surface, end)])
    position = _positions(positions)
    share = torch.arange(1, bends + 1, dtype=ends.dtype)[:, None] / (bends + 1)
    line = ends[0] + share * (ends[1] - ends[0])
    weights = _weights(bends + 2, _nodes(bends + 1, points))

    def whole(free: torch.Tensor) -> torch.Tensor:
        return torch.cat([ends[:1], free, ends[1:]])

    moved, _ = minimize(lambda free: surface.loss(weights @ whole(free)).mean(), line, steps, target)
    vertices = whole(moved)
    out = _path_losses(surface, vertices, position).to_dataset()
    out["straight"] = _path_losses(surface, ends, position).assign_attrs(long_name="loss on the straight line")
    along = _weights(len(vertices), position) @ vertices
    out["radius"] = ("position", along.norm(dim=-1).numpy(), {"long_name": "distance from the origin", "units": "1"})
    out["theta"] = point_array(("vertex", "parameter"), vertices)
    out["barrier"], out["straight_barrier"] = barrier(out["loss"]), barrier(out["straight"])
    out["straight_barrier"].attrs["long_name"] = "barrier on the straight line"
    return out


def path_points(surface: Surface, vertices: Any, positions: int = _POSITIONS) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points of a path of straight pieces through vertices (V, D), (position, D), and their positions 0 … 1.

    Raises
    ------
    ValueError
        For points of another dimension or not finite, or fewer than 2 positions.
    """
    points, position = as_points(surface, vertices, ndim=2), _positions(positions)
    return _weights(len(points), position) @ points, position


def _positions(count: int) -> torch.Tensor:
    if count < 2:
        raise ValueError(f"positions must be at least 2 (both ends of a path), got {count}")
    return torch.linspace(0, 1, count, dtype=torch.float64)


def _nodes(pieces: int, points: int) -> torch.Tensor:
    """Return positions inside equal pieces, denser towards the ends of each (Chebyshev), without the path's ends."""
    inside = (1 - torch.cos(torch.pi * torch.arange(1, points + 1, dtype=torch.float64) / (points + 1))) / 2
    whole = torch.cat([inside + piece for piece in range(pieces)])
    return torch.cat([whole, torch.arange(1, pieces, dtype=torch.float64)]) / pieces


def _weights(vertices: int, position: torch.Tensor) -> torch.Tensor:
    """Return the weight of each vertex at each position, (position, vertex)."""
    place = position * (vertices - 1)
    return (1 - (place[:, None] - torch.arange(vertices)).abs()).clamp(min=0)


def _path_losses(surface: Surface, vertices: torch.Tensor, position: torch.Tensor) -> xr.DataArray:
    values = losses(surface, _weights(len(vertices), position) @ vertices)
    out = loss_array(surface, "position", values, position=np.asarray(position))
    out["position"].attrs = {"long_name": "position on the path", "units": "1"}
    return out
