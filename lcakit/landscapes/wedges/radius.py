"""The effect of the distance from the origin: loss, slope and what planes of a fixed dimension reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from lcakit.landscapes.wedges.descent import STEPS
from lcakit.landscapes.wedges.planes import descend_in_plane, find_threshold, random_plane, start_at
from lcakit.landscapes.wedges.surface import Surface
from lcakit.trajectory.arguments import checks_arguments, checks_itself

__all__ = ["radius_effect"]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
@checks_itself(plane_dimension=float)
def radius_effect(
    surface: Surface,
    radii: Sequence[float],
    plane_dimension: int,
    repeats: int = 1,
    target: float | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> xr.Dataset:
    r"""Compare random starts, and random planes through them, at several distances from the origin.

    The distance to the nearest wedge grows in proportion to the radius R, so with the quadratic loss everything grows
    with :math:`R^2`; a fixed target is then met by ever larger planes only, up to D − n.

    Parameters
    ----------
    radii
        Distances from the origin. A repeat has the same direction and the same plane at all of them.
    plane_dimension
        k, 1 … D, of the planes.
    repeats
        Starts and planes drawn.
    target
        Also find, by bisection, the smallest plane dimension that reaches this loss (slower).
    steps, seed
        As for :func:`~lcakit.landscapes.wedges.planes.reachable_loss`.

    Returns
    -------
    Dataset
        (radius, repeat): ``loss`` and ``gradient_norm`` at the start, ``reached``, the least loss found in the plane,
        and with a target ``threshold`` (NaN where no plane reaches it).

    Raises
    ------
    ValueError
        For radii that are not positive or none, fewer than 1 repeat, or a plane dimension outside 1 … D.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges
    >>> found = radius_effect(Wedges(40, 20), [1, 2, 4], plane_dimension=10)
    >>> (found["loss"] / found["loss"][0]).squeeze().values.round(6)
    array([ 1.,  4., 16.])
    """
    sizes = [float(radius) for radius in radii]
    if not sizes or repeats < 1:
        raise ValueError(f"one or more radii and repeats are needed, got {sizes} and {repeats}")
    units = surface.loss_unit
    names = {
        "loss": ("loss at the start", units),
        "gradient_norm": ("norm of the gradient at the start", units),
        "reached": (f"loss reached in {plane_dimension} dimensions", units),
    }
    names |= {} if target is None else {"threshold": ("threshold dimension of a plane", "1")}
    values = {name: np.empty((len(sizes), repeats)) for name in names}
    for repeat in range(repeats):
        basis = random_plane(surface.dimension, plane_dimension, seed + repeat)
        for row, radius in enumerate(sizes):
            start = start_at(surface, seed + repeat, radius).requires_grad_()
            loss = surface.loss(start)
            (slope,) = torch.autograd.grad(loss, start)
            values["loss"][row, repeat] = loss.item()
            values["gradient_norm"][row, repeat] = slope.norm().item()
            values["reached"][row, repeat] = descend_in_plane(surface, start, basis, steps)[1]
            if target is not None:
                found = find_threshold(surface, target, radius=radius, steps=steps, seed=seed + repeat)
                values["threshold"][row, repeat] = found
    radius_attrs = {"long_name": "distance from the origin", "units": "1"}
    coords = {"radius": ("radius", sizes, radius_attrs), "repeat": np.arange(repeats)}
    data = {
        name: (("radius", "repeat"), values[name], {"long_name": long_name, "units": units})
        for name, (long_name, units) in names.items()
    }
    return xr.Dataset(data, coords=coords)
