"""Averages of weights: of checkpoints close together, which lie in one wedge, and far apart, which do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.landscapes.wedges.descent import STEPS, noisy_descent, optima
from lcakit.landscapes.wedges.surface import Surface, as_points, losses
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["average_loss", "averaging"]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
def average_loss(surface: Surface, points: Any) -> xr.Dataset:
    r"""Return the loss of the average of the first 1, 2, … points beside their average loss.

    .. math:: L\left(\frac1m \sum_{k \le m} θ_k\right), \qquad \frac1m \sum_{k \le m} L(θ_k)

    Parameters
    ----------
    points
        (N, D).

    Returns
    -------
    Dataset
        ``loss_of_average`` and ``average_loss`` (count), and ``spread`` (count), the root mean square distance of the
        points from their average.

    Raises
    ------
    ValueError
        For points of another dimension or not finite.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges
    >>> found = average_loss(Wedges(3, 1), [[2, 0.1, 0], [2, -0.1, 0], [0, 0, 2]])
    >>> found["loss_of_average"].values.round(4), found["average_loss"].values.round(4)
    (array([0.005 , 0.    , 0.2222]), array([0.005 , 0.005 , 0.0033]))
    """
    theta = as_points(surface, points, ndim=2)
    count = torch.arange(1, len(theta) + 1)
    means = theta.cumsum(0) / count[:, None]
    squares = theta.square().sum(-1).cumsum(0) / count - means.square().sum(-1)
    values = {
        "loss_of_average": ("loss of the average", surface.loss_unit, losses(surface, means)),
        "average_loss": ("average of the losses", surface.loss_unit, np.cumsum(losses(surface, theta)) / count.numpy()),
        "spread": ("distance from the average", "1", squares.clamp(min=0).sqrt().numpy()),
    }
    data = {name: ("count", v, {"long_name": text, "units": unit}) for name, (text, unit, v) in values.items()}
    coords = {"count": ("count", count.numpy(), {"long_name": "points averaged", "units": "1"})}
    return xr.Dataset(data, coords=coords)


@checks_arguments
def averaging(
    surface: Surface,
    count: int = 8,
    spacing: int = 20,
    learning_rate: float = 0.1,
    noise: float = 0.05,
    steps: int = STEPS,
    target: float | None = None,
    seed: int = 0,
) -> xr.Dataset:
    r"""Average checkpoints close together, on one noisy walk from an optimum, and far apart, independent optima.

    Close checkpoints lie in the same wedge, at a distance that the noise keeps up; the average is closer to it. In the
    quadratic wedges the short coordinates have variance :math:`v = α σ^2 / (2 - α)` on a long walk, so the loss is
    :math:`(D - n)\, v / 2`, and that of the average of m independent checkpoints 1/m of it. Optima far apart lie in
    different wedges, and their average in none.

    Parameters
    ----------
    count
        Points of each kind.
    spacing
        Steps between close checkpoints.
    learning_rate, noise
        α and σ of the walk: :func:`~lcakit.landscapes.wedges.descent.noisy_descent`.
    steps, target
        Of the optimization of each optimum: :func:`~lcakit.landscapes.wedges.descent.minimize`.
    seed
        Of the first optimum and of the noise.

    Returns
    -------
    Dataset
        What :func:`average_loss` returns, with a dimension ``kind``: ``close, far``.

    Raises
    ------
    ValueError
        For what the two ways down refuse.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges
    >>> found = averaging(Wedges(40, 20), count=4)
    >>> gain = found["loss_of_average"] / found["average_loss"]
    >>> bool(gain.sel(kind="close")[-1] < 0.5), bool(found["loss_of_average"].sel(kind="far")[-1] > 0.1)
    (True, True)
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    far = optima(surface, range(seed, seed + count), steps, target)
    close = noisy_descent(surface, far[0], count, spacing, learning_rate, noise, seed)
    kind = xr.DataArray(["close", "far"], dims="kind", name="kind", attrs={"long_name": "checkpoints"})
    return xr.concat([average_loss(surface, close), average_loss(surface, far)], dim=kind)
