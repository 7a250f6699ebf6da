"""A loss surface: what every experiment needs to know, and the n-wedges as one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import xarray as xr

from lcakit.landscapes.wedges import geometry
from lcakit.landscapes.wedges.shapes import shape_of
from lcakit.trajectory.arguments import checks_creation

__all__ = ["DTYPE", "Surface", "Wedges", "as_points", "check_dimension", "loss_array", "losses", "point_array"]


def __dir__() -> list[str]:
    return __all__


DTYPE = torch.float64
"""Of all points: experiments follow a loss down over many orders of magnitude."""


@runtime_checkable
class Surface(Protocol):
    """A loss over a flat parameter vector. The wedges are one and a network is one, so they share every experiment."""

    @property
    def dimension(self) -> int:
        """D, the length of θ."""
        ...

    @property
    def loss_unit(self) -> str:
        """Unit of the loss."""
        ...

    def loss(self, theta: torch.Tensor) -> torch.Tensor:
        """Return the loss (…) of points (…, D), differentiable twice."""
        ...

    def initial(self, seed: int) -> torch.Tensor:
        """Return a random point (D,) to start from; the same seed gives the same point."""
        ...


@checks_creation
@dataclass(frozen=True)
class Wedges:
    r"""The n-wedges: a loss that grows with the distance to the nearest of the wedges that n of D axes span.

    .. math:: L(θ) = f(d(θ)), \qquad d(θ) = \sqrt{\sum_{i\ \text{short}} θ_i^2}

    over the D − n smallest coordinates. Closed forms are in :mod:`lcakit.landscapes.wedges.geometry`.

    Parameters
    ----------
    dimension
        D, at least 2.
    wedge_dimension
        n, 1 … D−1.
    shape
        f: ``"quadratic"`` d²/2; ``"distance"`` d itself, with a kink on the wedge; ``"softened"`` s√(d²+s²) − s²,
        quadratic near a wedge and straight far off; ``"saturating"`` s²(1 − exp(−d²/2s²)), which levels off.
    scale
        s, the distance where the last two bend.
    radius
        Distance of starting points from the origin; √D by default, where coordinates have variance 1.

    Raises
    ------
    ValueError
        For sizes, shapes, scales or radii that make no wedges.

    Notes
    -----
    Fort and Jastrzębski (2019), section 3.

    Examples
    --------
    >>> Wedges(3, 1).loss(torch.tensor([3.0, -0.6, 0.8])).item()
    0.5
    """

    dimension: int
    wedge_dimension: int
    shape: str = "quadratic"
    scale: float = 1.0
    radius: float | None = None

    def __post_init__(self) -> None:
        geometry.check_sizes(self.dimension, self.wedge_dimension)
        shape_of(self.shape, self.scale)
        if self.radius is not None and not (np.isfinite(self.radius) and self.radius > 0):
            raise ValueError(f"radius must be positive and finite (None: √D), got {self.radius}")

    @property
    def loss_unit(self) -> str:
        """Unit of the loss."""
        return "loss units"

    @property
    def form(self) -> dict[str, Any]:
        """The arguments that name this landscape in :mod:`~lcakit.landscapes.wedges.geometry`."""
        return {"wedge_dimension": self.wedge_dimension, "shape": self.shape, "scale": self.scale}

    def square_distance(self, theta: torch.Tensor) -> torch.Tensor:
        """Return d² (…) of points (…, D)."""
        check_dimension(self, tuple(theta.shape))
        n_short = self.dimension - self.wedge_dimension
        return theta.square().topk(n_short, dim=-1, largest=False, sorted=False).values.sum(-1)

    def loss(self, theta: torch.Tensor) -> torch.Tensor:
        """Return the loss (…) of points (…, D)."""
        value: torch.Tensor = shape_of(self.shape, self.scale).value(torch, self.square_distance(theta), self.scale)
        return value

    def initial(self, seed: int) -> torch.Tensor:
        """Return a random point at the radius, in a direction drawn evenly."""
        direction = np.random.default_rng(seed).standard_normal(self.dimension)
        radius = np.sqrt(self.dimension) if self.radius is None else self.radius
        return torch.from_numpy(radius * direction / np.linalg.norm(direction))


def check_dimension(surface: Surface, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless points of that shape have the surface's dimension."""
    if not shape or shape[-1] != surface.dimension:
        got = f"shape {shape}" if shape else "one number"
        raise ValueError(
            f"points of this surface have {surface.dimension} coordinates (…, {surface.dimension}), got {got}. "
            "Give points of the same surface."
        )


def as_points(surface: Surface, points: Any, ndim: int = 1) -> torch.Tensor:
    """Return points as a float64 tensor of ``ndim`` dimensions, the last of them D.

    Raises
    ------
    ValueError
        For another number of dimensions or coordinates, or coordinates that are not finite.
    """
    values = points.detach() if isinstance(points, torch.Tensor) else torch.from_numpy(np.array(points, np.float64))
    check_dimension(surface, tuple(values.shape))
    if values.dim() != ndim:
        wanted = "one point (D,)" if ndim == 1 else "several points (N, D)"
        raise ValueError(f"{wanted} with D = {surface.dimension} is needed, got shape {tuple(values.shape)}")
    wrong = ~torch.isfinite(values)
    if wrong.any():
        raise ValueError(
            f"a point must be finite, got {values[wrong][0].item()} (coordinate {int(wrong.nonzero()[0][-1])}). "
            "Its loss has no meaning; start from another point."
        )
    return values.to(DTYPE)


def losses(surface: Surface, points: torch.Tensor, block: int = 64) -> np.ndarray:
    """Return the loss (N,) of points (N, D), some of them at a time, without gradients."""
    with torch.no_grad():
        parts = [surface.loss(part) for part in points.split(block)]
    return torch.cat(parts).double().numpy()


def loss_array(surface: Surface, dims: Any, values: Any, **coords: Any) -> xr.DataArray:
    """Return losses with labels and units."""
    attrs = {"long_name": "loss", "units": surface.loss_unit}
    return xr.DataArray(values, dims=dims, coords=coords, name="loss", attrs=attrs)


def point_array(dims: Any, values: Any, **coords: Any) -> xr.DataArray:
    """Return points with labels; their last dimension is ``parameter``."""
    attrs = {"long_name": "parameters", "units": "1"}
    return xr.DataArray(np.asarray(values), dims=dims, coords=coords, name="theta", attrs=attrs)
