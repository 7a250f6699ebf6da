"""Ways down: L-BFGS to an optimum, whole or in a subspace, and noisy gradient descent through checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy import optimize

from lcakit.landscapes.wedges.surface import DTYPE, Surface, as_points, loss_array, losses, point_array
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["STEPS", "minimize", "noisy_descent", "optima", "optimize_from"]


def __dir__() -> list[str]:
    return __all__


STEPS = 300
_GRADIENT_TOLERANCE = 1e-10
_MEMORY = 20


@checks_arguments
def minimize(
    function: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    steps: int = STEPS,
    target: float | None = None,
) -> tuple[torch.Tensor, float]:
    """Minimize a differentiable function of one tensor by L-BFGS.

    Parameters
    ----------
    function
        From a float64 tensor of the shape of ``start`` to a number.
    steps
        Most iterations.
    target
        Stop as soon as the value is not above it.

    Returns
    -------
    tuple
        Where it ended and the value there, which is never above that of the start. The same arguments give the same.

    Raises
    ------
    ValueError
        If the function is not finite at the start, or ``steps`` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.from_numpy(flat.copy()).reshape(start.shape).requires_grad_()
        value = function(at)
        (slope,) = torch.autograd.grad(value, at)
        return value.item(), slope.reshape(-1).numpy()

    def stop(intermediate_result: Any) -> None:
        if target is not None and intermediate_result.fun <= target:
            raise StopIteration

    begin = start.detach().to(DTYPE).reshape(-1).numpy()
    first = value_and_gradient(begin)[0]
    if not np.isfinite(first):
        raise ValueError(f"the loss is {first} at the start; start from a point where it is finite")
    if target is not None and first <= target:
        return start.detach().to(DTYPE).clone(), first
    options = {"maxiter": steps, "maxfun": 20 * steps, "ftol": 0.0, "gtol": _GRADIENT_TOLERANCE, "maxcor": _MEMORY}
    found = optimize.minimize(value_and_gradient, begin, jac=True, method="L-BFGS-B", callback=stop, options=options)
    return torch.from_numpy(np.array(found.x, np.float64)).reshape(start.shape), float(found.fun)


def optimize_from(
    surface: Surface, start: Any, steps: int = STEPS, target: float | None = None
) -> tuple[torch.Tensor, float]:
    """Follow a surface down from a point (D,); return where it ends, and the loss there."""
    return minimize(surface.loss, as_points(surface, start), steps, target)


@checks_arguments
def optima(
    surface: Surface, seeds: int | Iterable[int] = 2, steps: int = STEPS, target: float | None = None
) -> xr.DataArray:
    """Return independently found optima: each from a start of its own.

    Parameters
    ----------
    seeds
        Seeds of the starts, or how many (0, 1, …).
    steps, target
        As for :func:`minimize`.

    Returns
    -------
    DataArray
        θ (optimum, parameter), float64, with the ``loss`` of each.

    Raises
    ------
    ValueError
        For no seeds at all.

    Examples
    --------
    >>> from lcakit.landscapes.wedges import Wedges
    >>> found = optima(Wedges(10, 4), 3)
    >>> (abs(found) > 1e-9).sum("parameter").values, bool(found["loss"].max() < 1e-12)
    (array([4, 4, 4]), True)
    """
    numbers = list(range(seeds)) if isinstance(seeds, int | np.integer) else [int(seed) for seed in seeds]
    if not numbers:
        raise ValueError("seeds is empty; give how many optima to find, or their seeds")
    found = [optimize_from(surface, surface.initial(seed), steps, target) for seed in numbers]
    out = point_array(("optimum", "parameter"), torch.stack([theta for theta, _ in found]), optimum=numbers)
    out["optimum"].attrs = {"long_name": "seed of the optimum", "units": "1"}
    return out.assign_coords(loss=loss_array(surface, "optimum", [value for _, value in found], optimum=numbers))


@checks_arguments
def noisy_descent(
    surface: Surface,
    start: Any,
    checkpoints: int = 10,
    spacing: int = 20,
    learning_rate: float = 0.1,
    noise: float = 0.0,
    seed: int = 0,
) -> xr.DataArray:
    r"""Walk on with noisy gradient descent and return some points of the walk.

    .. math:: θ_{t+1} = θ_t - α\,(∇L(θ_t) + ε_t), \qquad ε_t \sim N(0, σ^2 I)

    Parameters
    ----------
    checkpoints, spacing
        How many points, and how many steps before each.
    learning_rate, noise
        α and σ.

    Returns
    -------
    DataArray
        θ (checkpoint, parameter), float64; ``checkpoint`` counts steps, ``loss`` is that of each.

    Raises
    ------
    ValueError
        For counts less than 1, a learning rate that is not positive, negative noise, or a walk that diverges.
    """
    for name, count in (("checkpoints", checkpoints), ("spacing", spacing)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    if not (learning_rate > 0 and noise >= 0):
        raise ValueError(f"learning_rate must be positive and noise not negative, got {learning_rate} and {noise}")
    theta = as_points(surface, start)
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for step in range(1, checkpoints * spacing + 1):
        here = theta.clone().requires_grad_()
        (slope,) = torch.autograd.grad(surface.loss(here), here)
        drawn = noise * torch.randn(theta.shape, generator=generator, dtype=theta.dtype)
        theta = theta - learning_rate * (slope + drawn)
        if step % spacing == 0:
            kept.append(theta)
    points = torch.stack(kept)
    if not bool(torch.isfinite(points).all()):
        raise ValueError(f"the walk diverged with learning_rate={learning_rate}; a smaller one may help")
    steps = spacing * np.arange(1, checkpoints + 1)
    out = point_array(("checkpoint", "parameter"), points, checkpoint=steps)
    out["checkpoint"].attrs = {"long_name": "steps", "units": "1"}
    return out.assign_coords(loss=loss_array(surface, "checkpoint", losses(surface, points), checkpoint=steps))
