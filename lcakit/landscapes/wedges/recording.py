"""The wedges as a model that trains and records: each axis is a parameter, and an example of the evaluation set."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from lcakit.landscapes.wedges.shapes import shape_of
from lcakit.landscapes.wedges.surface import Wedges, as_points
from lcakit.record import units
from lcakit.record.objective.objective import Objective
from lcakit.record.recorder import Recorder
from lcakit.storage.opening import open_trajectory
from lcakit.trajectory.arguments import checks_arguments, checks_creation

__all__ = ["Point", "WedgeModel", "record", "wedge_loss", "wedge_objective"]


def __dir__() -> list[str]:
    return __all__


_BLOCKS = 4


@checks_creation
class WedgeModel(nn.Module):
    r"""A point among the wedges, as a model: ``point.axis[i]`` is its coordinate on axis i.

    Examples are axes. For the numbers x of some axes it returns their parts of the loss, times D,

    .. math:: \ell_i(θ) = D\, f(d)\, r_i^2 / d^2, \qquad \frac1D \sum_i \ell_i(θ) = f(d) = L(θ)

    with r the coordinates on short axes and 0 on long ones. The mean over all axes is the loss, that over a random
    batch an estimate of it: batches of axes make the noise of SGD.

    Parameters
    ----------
    surface
        The wedges.
    start
        θ (D,); by default the surface's random start of ``seed``.

    Raises
    ------
    ValueError
        For a start of another dimension or not finite.
    """

    def __init__(self, surface: Wedges, start: Any = None, seed: int = 0) -> None:
        super().__init__()
        self.surface = surface
        theta = surface.initial(seed) if start is None else as_points(surface, start)
        self.point = Point(theta)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the parts of the loss of axes x (B,), each times D."""
        theta, surface = self.point.axis, self.surface
        squares = theta.square()
        short = squares.topk(surface.dimension - surface.wedge_dimension, largest=False).indices
        parts = torch.zeros_like(squares).scatter(0, short, squares[short])
        factor = shape_of(surface.shape, surface.scale).per_square(torch, parts.sum(), surface.scale)
        losses: torch.Tensor = surface.dimension * (factor * parts)[x]
        return losses


class Point(nn.Module):
    """Coordinates on axes."""

    def __init__(self, theta: torch.Tensor) -> None:
        super().__init__()
        self.axis = nn.Parameter(theta.to(torch.float32))


units.register(Point, {"axis": "unit"})


def wedge_loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the parts of the loss as they are; ``y`` only says which block an axis belongs to."""
    return output


@checks_arguments
def wedge_objective(model: WedgeModel, blocks: int = _BLOCKS, **options: Any) -> Objective:
    """Return the objective that records a model of the wedges.

    Parameters
    ----------
    model
        The model that trains.
    blocks
        Neighbouring axes are gathered into this many classes, named ``"axes 0-24"``, …, so that studies by class tell
        which part of space the loss comes from; 1 … D.
    options
        Of :class:`lcakit.Objective`.

    Raises
    ------
    ValueError
        For a number of blocks outside 1 … D.
    """
    dimension = model.surface.dimension
    if not 1 <= blocks <= dimension:
        raise ValueError(f"blocks must be 1 to D = {dimension}, got {blocks}")
    parts = np.array_split(np.arange(dimension), blocks)
    names = [f"axes {part[0]}-{part[-1]}" if part.size > 1 else f"axis {part[0]}" for part in parts]
    y = np.repeat(np.arange(blocks), [part.size for part in parts])
    data = (torch.arange(dimension), torch.from_numpy(y))
    return Objective(model, data, loss=wedge_loss, class_names=names, **options)


@checks_arguments
def record(
    path: str | os.PathLike[str],
    surface: Wedges,
    steps: int = 100,
    learning_rate: float = 0.1,
    momentum: float = 0.0,
    batch_size: int | None = None,
    blocks: int = _BLOCKS,
    seed: int = 0,
    **options: Any,
) -> xr.Dataset:
    """Train a point down the wedges with SGD on batches of axes, and record it.

    Axes are the parameters (``point.axis[i]``) and units of one layer, blocks of axes its classes. Studies of several
    layers or of a kernel's inputs have nothing to look at here, and say so.

    Parameters
    ----------
    path
        The file to write.
    surface
        The wedges.
    steps, learning_rate, momentum
        Of SGD. A batch of B axes has D / B times the gradient on those, so the learning rate must be below 2 B / D.
    batch_size
        Axes drawn for each step; all by default, which is gradient descent.
    blocks
        As for :func:`wedge_objective`.
    seed
        Of the start and the batches.
    options
        Of :class:`lcakit.Recorder`.

    Returns
    -------
    Dataset
        The trajectory, as :func:`lcakit.open_trajectory` opens it.

    Raises
    ------
    ValueError
        For fewer than 1 step, or a batch size outside 1 … D.
    """
    size = surface.dimension if batch_size is None else batch_size
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not 1 <= size <= surface.dimension:
        raise ValueError(f"batch_size must be 1 to D = {surface.dimension} (None: all axes), got {size}")
    model = WedgeModel(surface, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum)
    generator = torch.Generator().manual_seed(seed)
    settings = {"n_iterations": steps, "seed": seed} | options
    with Recorder(path, wedge_objective(model, blocks), optimizer, **settings) as recorder:
        for _ in range(steps):
            axes = torch.randperm(surface.dimension, generator=generator)[:size]
            optimizer.zero_grad()
            loss = model(axes).mean()
            loss.backward()
            recorder.report(loss)
            optimizer.step()
    return open_trajectory(path)
