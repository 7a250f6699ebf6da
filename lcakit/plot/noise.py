"""Learning is noisy: how many parameters help and hurt, how often, and how strongly (figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis import noise
from lcakit.analysis.aggregate import windowed
from lcakit.analysis.computing import compute
from lcakit.plot._classes import by_classes
from lcakit.plot._runs import mean_line
from lcakit.plot._style import PALETTE, band, dots, key, label, level, line, load, number, picture, sign_colours
from lcakit.trajectory.class_kind import class_kind
from lcakit.trajectory.require import require, require_iterations
from lcakit.trajectory.schema import split_name, with_suffix

__all__ = ["fraction_helping", "help_hurt_zero", "helping_by_window", "signs_per_class"]


def __dir__() -> list[str]:
    return __all__


@by_classes
def help_hurt_zero(
    ds: xr.Dataset,
    window: int = 1,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "Parameters that help, hurt and do neither",
    loss: bool = False,
) -> Any:
    """Draw the shares of parameters that help, hurt and have no LCA, stacked over the iterations (figure 3a).

    Horizontal: iterations. Vertical: fraction of the parameters, from 0 to 1.

    Parameters
    ----------
    ds
        Trajectory; of several runs the mean.
    window
        Iterations whose shares are averaged to one point.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    loss
        Whether the loss lies over the shares, as in the paper: a line from 0 to 1, where 1 is its highest value, which
        the legend gives.
    classes
        Names of classes (or one name): LCA is theirs. Pictures of single parameters need a file recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    holoviews.Overlay
        Helping from below, hurting from above, zero white between them; the dashed line is one half.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``lca`` nor counts by layer.
    ValueError
        For a window below 1, or an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label for mark in help_hurt_zero(tiny_trajectory()) if mark.label]
    ['helping', 'hurting', 'zero']
    """
    load(backend)
    shares = noise.help_hurt_zero(ds, lca)
    shares = windowed(shares, window) / _window_sizes(shares, window) if window != 1 else shares
    shares = compute(shares, quiet=True)
    shares = shares.mean("run") if "run" in shares.dims else shares
    time = "iteration" if window == 1 else "window"
    axes, steps, colours = ("iteration", "fraction of parameters"), shares[time].values, sign_colours()
    helping, hurting = (shares.sel(outcome=name).values for name in ("helping", "hurting"))
    ends = np.zeros(steps.size), np.ones(steps.size)
    marks = [
        band(backend, steps, ends[0], helping, axes, colours["helping"], alpha=0.9),
        band(backend, steps, helping, 1 - hurting, axes, colours["zero"], alpha=1.0),
        band(backend, steps, 1 - hurting, ends[1], axes, colours["hurting"], alpha=0.9),
        *(key(backend, axes, name, color) for name, color in colours.items()),
        level(backend, 0.5, "#222222"),
        *(_scaled_loss(ds, lca, backend, axes) if loss else []),
    ]
    return picture(backend, marks, axes, title, ylim=(0, 1), show_grid=False)


def _scaled_loss(ds: xr.Dataset, lca: str, backend: str, axes: tuple[str, str]) -> list[Any]:
    """Return the loss over the snapshots as a share of its highest value."""
    values = require(ds, with_suffix("loss", split_name(lca)[1]))
    values = compute(values.mean("run", keep_attrs=True) if "run" in values.dims else values, quiet=True)
    highest = float(values.max())
    if not highest > 0:
        raise ValueError(f"the highest loss is {highest:g}, and is drawn as 1: leave out loss=True")
    units = str(values.attrs.get("units", ""))
    text = f"loss (1 is {' '.join([number(float(f'{highest:.3g}')), units]).strip()})"
    return [line(backend, values["snapshot"], values / highest, axes, text, "#111111")]


def _window_sizes(array: xr.DataArray, window: int) -> xr.DataArray:
    """Return the iterations of each window; the last one may be shorter."""
    n = array.sizes["iteration"]
    starts = np.arange(0, n, window)
    return xr.DataArray(np.minimum(window, n - starts), dims="window")


@by_classes
def fraction_helping(
    ds: xr.Dataset,
    window: int = 1,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "Fraction of moving parameters that help",
) -> Any:
    """Draw the fraction of parameters with nonzero LCA that help, over the iterations.

    Horizontal: iterations. Vertical: fraction, from 0 to 1; the dashed line is one half.

    Parameters
    ----------
    ds
        Trajectory; of several runs the line is the mean and the shade the range.
    window
        Iterations averaged to one point.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. Pictures of single parameters need a file recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    holoviews.Overlay
        A line; gaps where nothing moves.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``lca`` nor counts by layer, or the selection has no iteration.
    ValueError
        For a window below 1, or an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> picture = fraction_helping(tiny_trajectory(12), window=4)
    >>> len(picture.traverse(lambda mark: mark, ["Curve"])[0])
    3
    """
    load(backend)
    shares = noise.help_hurt_zero(ds, lca)
    shares = windowed(shares, window) if window != 1 else shares
    shares = compute(shares, quiet=True)
    helping, hurting = (shares.sel(outcome=name, drop=True) for name in ("helping", "hurting"))
    share = helping / (helping + hurting).where(helping + hurting > 0)
    time = "iteration" if window == 1 else "window"
    axes = "iteration", "fraction helping (zeros ignored)"
    marks = mean_line(backend, share[time], share, axes, "", sign_colours()["helping"], width=1.5)
    return picture(backend, [level(backend, 0.5), *marks], axes, title, legend=None)


@by_classes
def helping_by_window(
    ds: xr.Dataset,
    windows: Sequence[int] | None = None,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "Fraction helping by the window LCA is summed over",
) -> Any:
    """Draw the fraction of parameters that help against the number of iterations that LCA is summed over.

    Horizontal: iterations in a window, logarithmic. Vertical: fraction of the parameters that move and help; the dashed
    line is one half. What rises above it is not noise that cancels.

    Parameters
    ----------
    ds
        Trajectory; of several runs the line is the mean and the shade the range.
    windows
        Numbers of iterations; by default powers of two, and the whole run.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. Pictures of single parameters need a file recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    holoviews.Overlay
        A line with a dot for each window.

    Raises
    ------
    TrajectoryError
        If the file holds no ``lca``.
    ValueError
        If all LCA is zero, for a window that is longer than the run, or for an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> picture = helping_by_window(tiny_trajectory(12))
    >>> picture.traverse(lambda mark: mark, ["Scatter"])[0].dimension_values(0).tolist()
    [1, 2, 4, 8, 12]
    """
    load(backend)
    n = require_iterations(require(ds, lca))
    sizes = windows if windows is not None else [2**p for p in range(n.bit_length()) if 2**p < n] + [n]
    shares = compute(noise.helping_by_window(ds, sizes, lca), quiet=True)
    if not shares.notnull().any():
        raise ValueError("all LCA is zero, so no share of it helps; select something that moves")
    axes, color = ("iterations summed", label(shares)), sign_colours()["helping"]
    mean = shares.mean("run") if "run" in shares.dims else shares
    marks = mean_line(backend, shares["window_size"], shares, axes, "", color)
    marks.append(dots(backend, shares["window_size"], mean, axes, "", color))
    return picture(backend, [level(backend, 0.5), *marks], axes, title, "x" if len(sizes) > 1 else "", legend=None)


@by_classes
def signs_per_class(
    ds: xr.Dataset,
    of: str = "unit",
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "",
) -> Any:
    """Draw which fraction of the units that act helps 0, 1, … all classes in the mean iteration.

    Horizontal: number of classes helped at once. Vertical: fraction of the units or parameters that act.

    Parameters
    ----------
    ds
        Trajectory with classes; of several runs the line is the mean and the shade the range.
    of
        ``"unit"`` or ``"parameter"``: see :func:`lcakit.noise.signs_per_class`.
    lca
        ``"lca"``, or with a suffix (``"lca_val"``) for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. None: all classes.

    Returns
    -------
    holoviews.Overlay
        A line with a dot for each number of classes.

    Raises
    ------
    TrajectoryError
        If the trajectory was recorded without these classes.
    ValueError
        For anything else than units and parameters, or an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> picture = signs_per_class(tiny_trajectory())
    >>> picture.traverse(lambda mark: mark, ["Scatter"])[0].dimension_values(0).tolist()
    [0, 1, 2, 3]
    """
    load(backend)
    shares = compute(noise.signs_per_class(ds, of, lca).mean("iteration", keep_attrs=True), quiet=True)
    many, helped = class_kind(ds, many=True), shares["classes_helped"]
    axes, title = (f"{many} helped", label(shares)), title or f"In how many {many} at once a unit helps"
    mean = shares.mean("run") if "run" in shares.dims else shares
    line = mean_line(backend, helped, shares, axes, "", PALETTE[0])
    return picture(backend, [*line, dots(backend, helped, mean, axes, "", PALETTE[0])], axes, title, legend=None)
