"""Low-loss connectors of several optima: (N−1)-dimensional, and how their middle sharpens as N grows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.landscapes.wedges.descent import STEPS, minimize
from lcakit.landscapes.wedges.hessian import SHARE, count_sharp, spectrum
from lcakit.landscapes.wedges.surface import Surface, as_points, loss_array, losses, point_array
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["Subset", "connect_all", "short_directions"]


def __dir__() -> list[str]:
    return __all__


_MOST_OPTIMA = 6
"""A connector of N optima has N! pieces."""

Subset = tuple[int, ...]


@checks_arguments
def connect_all(
    surface: Surface,
    optima: Any,
    rays: int = 8,
    points: int = 12,
    steps: int = STEPS,
    target: float | None = None,
    samples: int = 500,
    seed: int = 0,
) -> xr.Dataset:
    r"""Find an (N−1)-dimensional low-loss connector of N optima.

    The simplex that the optima span is cut at the centre :math:`M_S` of each of its faces S (barycentric
    subdivision). A piece is the simplex of the centres of a chain of subsets :math:`\{i\} ⊂ \{i, j\} ⊂ \dots`, so that
    the connector of N optima holds those of all its subsets; for N = 2 it is a path with one bend. The centres are
    found one after the other, small subsets first: with the connector's boundary ∂S fixed,

    .. math:: \min_{M_S} \operatorname{mean}_{b ∈ ∂S,\ t} L((1 - t)\, b + t M_S)

    over the optima of S and random points of its boundary. In the wedges the connector is free of loss once every
    centre lies where the wedges of its optima meet.

    Parameters
    ----------
    optima
        (N, D), 2 to 6 of them.
    rays
        Random points b of the boundary of a subset, beside its optima.
    points
        Values of t on each ray, denser near the boundary.
    steps, target
        Most iterations of L-BFGS for each centre, which stops earlier where the mean loss is not above the target.
    samples
        Points, drawn evenly over the pieces, at which the result is looked at.
    seed
        Of the points drawn.

    Returns
    -------
    Dataset
        ``theta`` (subset, parameter), the optima and the centres, with their ``loss`` and number of optima
        (``size``); subsets are named ``"0"``, ``"0-1"``, … by position. ``connector`` and ``flat`` (sample), the loss
        at random points of the connector and at the same places of the straight simplex.

    Raises
    ------
    ValueError
        For optima of another dimension or not finite, fewer than 2 or more than 6, or counts less than 1.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges, optima
    >>> surface = Wedges(20, 10)
    >>> found = connect_all(surface, optima(surface, 3))
    >>> bool(found["flat"].mean() > 0.1), bool(found["connector"].max() < 1e-6)
    (True, True)
    """
    corners = as_points(surface, optima, ndim=2)
    if not 2 <= len(corners) <= _MOST_OPTIMA:
        raise ValueError(f"a connector joins 2 to {_MOST_OPTIMA} optima (it has N! pieces), got {len(corners)}")
    for name, count in (("rays", rays), ("points", points), ("samples", samples)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    subsets = _subsets(len(corners))
    flat = torch.stack([corners[list(subset)].mean(0) for subset in subsets])
    rng = np.random.default_rng(seed)
    t = 1 - torch.cos(torch.pi / 2 * torch.arange(1, points + 1, dtype=corners.dtype) / points)[:, None, None]
    theta = flat.clone()
    for row, subset in enumerate(subsets):
        if len(subset) > 1:
            boundary = _boundary(subset, subsets, rays, rng) @ theta
            theta[row] = _centre(surface, boundary, t, flat[row], steps, target)
    return _labelled(surface, subsets, theta, flat, _spread(subsets, samples, rng))


def _subsets(n: int) -> list[Subset]:
    """Return the subsets of 0 … n−1 that are not empty, the small ones first."""
    return [subset for size in range(1, n + 1) for subset in itertools.combinations(range(n), size)]


def _centre(
    surface: Surface, boundary: torch.Tensor, t: torch.Tensor, start: torch.Tensor, steps: int, target: float | None
) -> torch.Tensor:
    """Return the centre of the cone over points of a boundary (B, D) that has the least mean loss."""
    return minimize(lambda centre: surface.loss((1 - t) * boundary + t * centre).mean(), start, steps, target)[0]


def _boundary(subset: Subset, subsets: Sequence[Subset], rays: int, rng: np.random.Generator) -> torch.Tensor:
    """Return the weights of the corners of a subset and of random points of its boundary, (point, subset)."""
    corners = np.eye(len(subsets))[list(subset)]
    if len(subset) == 2:
        return torch.from_numpy(corners)
    chains = [tuple(rng.permutation(subset)[:-1].tolist()) for _ in range(rays)]
    return torch.from_numpy(np.concatenate([corners, _weights(chains, subsets, rng)]))


def _spread(subsets: Sequence[Subset], samples: int, rng: np.random.Generator) -> torch.Tensor:
    """Return the weights of random points of the whole connector, (point, subset)."""
    whole = subsets[-1]
    return torch.from_numpy(_weights([tuple(rng.permutation(whole).tolist()) for _ in range(samples)], subsets, rng))


def _weights(chains: Sequence[Subset], subsets: Sequence[Subset], rng: np.random.Generator) -> np.ndarray:
    """Draw an even point in the piece of each chain; a chain is an order of optima, its k-th subset the first k."""
    row = {subset: k for k, subset in enumerate(subsets)}
    out = np.zeros((len(chains), len(subsets)))
    drawn = rng.dirichlet(np.ones(len(chains[0])), size=len(chains))
    for place, chain in enumerate(chains):
        out[place, [row[tuple(sorted(chain[:k]))] for k in range(1, len(chain) + 1)]] = drawn[place]
    return out


def _labelled(
    surface: Surface, subsets: Sequence[Subset], theta: torch.Tensor, flat: torch.Tensor, places: torch.Tensor
) -> xr.Dataset:
    names = ["-".join(map(str, subset)) for subset in subsets]
    out = point_array(("subset", "parameter"), theta, subset=names).to_dataset()
    out["subset"].attrs = {"long_name": "optima that the centre belongs to", "units": "1"}
    size = [len(subset) for subset in subsets]
    out = out.assign_coords(size=("subset", size, {"long_name": "number of optima", "units": "1"}))
    out["loss"] = loss_array(surface, "subset", losses(surface, theta))
    for name, corners in (("connector", theta), ("flat", flat)):
        out[name] = loss_array(surface, "sample", losses(surface, places @ corners))
    out["connector"].attrs["long_name"] = "loss on the connector"
    out["flat"].attrs["long_name"] = "loss on the straight simplex"
    return out


@checks_arguments
def short_directions(
    surface: Surface,
    connector: xr.Dataset,
    share: float = SHARE,
    smoothing: float = 1e-3,
    samples: int = 32,
    seed: int = 0,
) -> xr.DataArray:
    r"""Count the short, high-curvature directions at the optima and in the middle of their connectors.

    In the wedges the middle of a connector of N optima lies where N wedges meet, which has
    :math:`D - |W_1 ∩ \dots ∩ W_N| \approx D (1 - (n/D)^N)` short directions
    (:func:`lcakit.landscapes.wedges.geometry.expected_short_directions`). The loss has a corner there, so its
    curvature is that on a small scale: of the Hessian averaged over small random moves.

    Parameters
    ----------
    connector
        Result of :func:`connect_all`.
    share
        Directions count if their curvature is more than this share of the largest.
    smoothing
        Size of the moves as a share of the optima's coordinates (their root mean square); 0 takes the plain Hessian.
    samples, seed
        How many moves, and their seed.

    Returns
    -------
    DataArray
        (subset), int64, with the number of optima of each subset (``size``).

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges, connect_all, optima
    >>> surface = Wedges(20, 10)
    >>> counts = short_directions(surface, connect_all(surface, optima(surface, 3)))
    >>> counts.groupby("size").mean().values.round(1)
    array([10. , 16.3, 19. ])
    """
    optima = connector["theta"].values[connector["size"].values == 1]
    moves = smoothing * float(np.sqrt(np.square(optima).mean()))
    counts = [
        int(count_sharp(spectrum(surface, point, None, moves, samples, seed, above=share), share))
        for point in connector["theta"]
    ]
    attrs = {"long_name": "short directions", "units": "1"}
    coords = {name: connector[name] for name in ("subset", "size")}
    return xr.DataArray(counts, dims="subset", coords=coords, name="short_directions", attrs=attrs)
