"""What LCA is, on a surface with two parameters: the path, and how its loss change is shared out (figure 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.plot._style import PALETTE, beside, dots, heat, label, level, line, load, picture, size
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["path_allocation"]


def __dir__() -> list[str]:
    return __all__


_MINIMUM = 1.0, 1.0


def _surface(x: Any, y: Any) -> Any:
    r"""Return the loss of two parameters, a bent valley: :math:`L = \tfrac12 (x - 1)^2 + 2 (y - x^2)^2`."""
    return 0.5 * (x - 1) ** 2 + 2 * (y - x * x) ** 2


def _slope(theta: np.ndarray) -> np.ndarray:
    """Return the gradient (…, 2) of :func:`_surface` at points (…, 2)."""
    x, y = theta[..., 0], theta[..., 1]
    bend = 4 * (y - x * x)
    return np.stack([x - 1 - 2 * x * bend, bend], axis=-1)


def _descend(start: tuple[float, float], rate: float, iterations: int) -> np.ndarray:
    """Return the snapshots (T + 1, 2) of gradient descent on :func:`_surface`."""
    theta = [np.array(start, np.float64)]
    for _ in range(iterations):
        theta.append(theta[-1] - rate * _slope(theta[-1]))
    return np.array(theta)


def _allocations(theta: np.ndarray) -> xr.DataArray:
    """Return LCA (rule, iteration, parameter) of the snapshots ``theta`` (T + 1, 2), by first order and by rk4."""
    moves, middle = np.diff(theta, axis=0), (theta[1:] + theta[:-1]) / 2
    first = _slope(theta[:-1]) * moves
    rk4 = (_slope(theta[:-1]) + 4 * _slope(middle) + _slope(theta[1:])) / 6 * moves
    names = {"rule": ["first order", "rk4"], "iteration": np.arange(len(moves)), "parameter": ["x", "y"]}
    return xr.DataArray(np.stack([first, rk4]), names, dims=list(names))


@checks_arguments
def path_allocation(
    start: tuple[float, float] = (-1.1, 1.6), rate: float = 0.09, iterations: int = 30, backend: str = "bokeh"
) -> Any:
    """Draw gradient descent on a surface of two parameters, and the loss change that each of them is allocated.

    Left: the surface (logarithm of the loss) over both parameters, and the path. Right: against the iteration, the
    cumulative LCA of both parameters and their sum, by rk4 (lines) and by first order (dotted), beside the true loss
    change (dots). The sum by rk4 meets it; that of first order drifts away.

    Parameters
    ----------
    start
        Where the path begins: x and y.
    rate
        Learning rate.
    iterations
        Number of steps, at least 1.
    backend
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print).

    Returns
    -------
    holoviews.Layout
        Two pictures side by side.

    Raises
    ------
    ValueError
        If the path diverges (choose a smaller rate), for fewer than one iteration, or for an unknown backend.

    Examples
    --------
    >>> len(path_allocation(iterations=5))
    2
    """
    load(backend)
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    with np.errstate(over="ignore", invalid="ignore"):
        theta = _descend(start, rate, iterations)
    if not np.isfinite(theta).all() or np.abs(theta).max() > 1e3:
        raise ValueError(f"gradient descent diverges from {start} with the rate {rate}: choose a smaller rate")
    return beside(backend, [_path(backend, theta), _shares(backend, theta)])


def _path(backend: str, theta: np.ndarray) -> Any:
    (left, right), (low, high) = ((min(c.min(), -1.6), max(c.max(), 1.6)) for c in theta.T)
    x, y = np.linspace(left - 0.1, right + 0.1, 151), np.linspace(min(low, -0.5) - 0.1, high + 0.3, 151)
    loss = np.log10(_surface(*np.meshgrid(x, y)) + 1e-2)
    attrs = {"long_name": "log10 of the loss + 0.01", "units": "1"}
    array = xr.DataArray(loss, {"y": y, "x": x}, dims=["y", "x"], attrs=attrs)
    array["x"].attrs, array["y"].attrs = {"long_name": "parameter x"}, {"long_name": "parameter y"}
    axes = label(array["x"]), label(array["y"])
    ground = heat(backend, array, "x", "y", "A path over a loss surface", cmap="gray")
    marks = [
        line(backend, theta[:, 0], theta[:, 1], axes, "", "#ffffff", width=3),
        line(backend, theta[:, 0], theta[:, 1], axes, "", PALETTE[1], width=1.5),
        dots(backend, theta[:, 0], theta[:, 1], axes, "", PALETTE[1], size=5),
        dots(backend, [_MINIMUM[0]], [_MINIMUM[1]], axes, "", "#ffffff", "*", 14),
    ]
    picture_ = ground
    for mark in marks:
        picture_ = picture_ * mark
    return picture_.opts(backend=backend, show_legend=False, title="A path over a loss surface", **size(backend))


def _shares(backend: str, theta: np.ndarray) -> Any:
    lca = _allocations(theta)
    total = lca.cumsum("iteration")
    steps = np.arange(1, len(theta))
    loss = _surface(*theta.T)
    axes = "iteration", "change of the loss so far"
    marks = [level(backend, 0)]
    for name, color in zip(("x", "y"), PALETTE, strict=False):
        for rule, dash in (("rk4", "solid"), ("first order", "dotted")):
            row = total.sel(parameter=name, rule=rule)
            marks.append(line(backend, steps, row, axes, f"{name}, {rule}", color, dash))
    for rule, dash in (("rk4", "solid"), ("first order", "dotted")):
        marks.append(
            line(backend, steps, total.sel(rule=rule).sum("parameter"), axes, f"sum, {rule}", PALETTE[6], dash)
        )
    marks.append(dots(backend, steps, loss[1:] - loss[0], axes, "true change", PALETTE[3], size=5))
    return picture(backend, marks, axes, "Its loss change, shared out")
