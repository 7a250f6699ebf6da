"""Specialization: units of few classes, the classes of a unit over time, what a unit looks at (figures S21 and S22)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.saliency import saliency as analysed_saliency
from lcakit.analysis.specialization import class_curves as analysed_curves
from lcakit.analysis.specialization import specialized_fraction as analysed_fraction
from lcakit.plot._bars import bars, over_runs
from lcakit.plot._classes import Classes, alike, by_classes, class_looks, of_classes
from lcakit.plot._images import image
from lcakit.plot._runs import mean_line, one_run
from lcakit.plot._style import MOST_LINES, label, level, load, picture, size
from lcakit.plot._tiles import grid, near_square
from lcakit.storage.given import of_trajectories
from lcakit.text import capitalized
from lcakit.trajectory.class_kind import class_kind

__all__ = ["class_curves", "saliency", "specialized_fraction"]


def __dir__() -> list[str]:
    return __all__


_MOST_UNITS = 64


@of_trajectories
def specialized_fraction(
    ds: xr.Dataset,
    top: Sequence[int] = (1, 2, 3),
    threshold: float = 0.8,
    by: str = "kernel_layer",
    lca: str = "lca_unit_class",
    confidence: float = 0.95,
    backend: str = "bokeh",
    title: str = "",
) -> Any:
    """Draw, for each layer, the fraction of units whose help goes mostly to one, two, three classes (figure S21).

    Horizontal: layers. Vertical: fraction of the units, from 0 to 1.

    Parameters
    ----------
    ds
        Trajectory with classes; of several runs means with confidence intervals.
    top, threshold, by, lca
        Numbers of classes, share of the help that counts as most, grouping and variable: see
        :func:`lcakit.specialization.specialized_fraction`.
    confidence
        Of the intervals over runs (Student's t).
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.

    Returns
    -------
    holoviews.Overlay
        A series of bars for each number of classes.

    Raises
    ------
    TrajectoryError
        If the file was recorded without classes.
    ValueError
        For more classes than there are, a threshold out of range, an unknown grouping or backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label for mark in specialized_fraction(tiny_trajectory(), top=(1, 2)) if mark.label]
    ['1 class', '2 classes']
    """
    load(backend)
    alike(ds)
    found = analysed_fraction(ds, top, threshold, by, lca)
    series = {f"{k} {class_kind(ds, many=k > 1)}": over_runs(found.sel(top=k, drop=True), confidence) for k in top}
    series = compute(series, quiet=True)
    names = [str(name) for name in found["layer"].values]
    title = title or f"Units that give {100 * threshold:g} % of their help to few {class_kind(ds, many=True)}"
    return bars(backend, names, series, ("layer", "fraction of units"), title, signed=False)


@of_trajectories
def class_curves(
    ds: xr.Dataset,
    unit: int,
    layer: str | None = None,
    lca: str = "lca_unit_class",
    backend: str = "bokeh",
    title: str = "",
    classes: Classes = None,
) -> Any:
    """Draw how one unit changes the loss of each class in the course of training: falling lines are helped classes.

    Horizontal: iterations. Vertical: cumulative LCA of the unit, in the unit of the loss.

    Parameters
    ----------
    ds
        Trajectory with classes; of several runs lines are means and shades the range.
    unit
        Channel number inside ``layer``; without a layer, a value of the ``unit`` coordinate.
    layer
        Name of the layer.
    lca
        Name of the variable; ``"lca_unit_class_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of the classes to draw (or one name); None: all, at most twelve.

    Returns
    -------
    holoviews.Overlay
        A line for each class.

    Raises
    ------
    TrajectoryError
        If the file was recorded without classes.
    ValueError
        For more than twelve classes (choose some), or an unknown class, unit, layer or backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label for mark in class_curves(tiny_trajectory(), 2, "fc") if mark.label]
    ['class a', 'class b', 'class c']
    """
    load(backend)
    alike(ds)
    found = analysed_curves(of_classes(ds, classes), unit, layer, lca)
    many = class_kind(ds, many=True)
    names = [f"{class_kind(ds)} {name}" for name in found["class"].values]
    if len(names) > MOST_LINES:
        raise ValueError(
            f"{len(names)} {many} are too many lines for one picture (at most {MOST_LINES}): choose some, classes=[…]"
        )
    values = compute(found, quiet=True).assign_attrs(found.attrs | {"long_name": "cumulative LCA"})
    axes = "iteration", label(values)
    marks = [level(backend, 0)]
    for n, (color, dash) in enumerate(class_looks(ds, map(str, found["class"].values))):
        marks += mean_line(backend, values["iteration"], values.isel({"class": n}), axes, names[n], color, dash=dash)
    where = f"unit {unit}" + (f" of {layer}" if layer is not None else "")
    return picture(backend, marks, axes, title or f"{capitalized(many)} that {where} helps and hurts")


@by_classes
def saliency(
    ds: xr.Dataset,
    unit: int | Sequence[int],
    layer: str | None = None,
    shape: Sequence[int] | None = None,
    iterations: slice | int | None = None,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "",
    tensor: str | None = None,
) -> Any:
    """Draw what units learned from each of their inputs, in the shape of the input (figure S22).

    Colour: minus the sum of LCA of the weight from this input, in the unit of the loss. Rows and columns are those of
    the input.

    Parameters
    ----------
    ds
        Trajectory of one run.
    unit
        Channel number inside the layer, or several: at most 64; :func:`lcakit.plot.parameter_map` shows all.
    layer, shape, iterations
        Layer, shape of its input, and iterations: see :func:`lcakit.specialization.saliency`.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    tensor
        A kernel, where the layer has several, as those of an LSTM: its gates are drawn side by side.
    classes
        Names of classes (or one name): LCA is theirs. Pictures of single parameters need a file recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    holoviews.Image
        A tile for each unit; with several channels a row for each unit. Green: the weight from this input helped.

    Raises
    ------
    TrajectoryError
        If the file holds no ``lca``, several runs, or no layer with a kernel.
    ValueError
        For no unit or more than 64, an unknown unit, layer, iteration or backend, or a shape that does not fit.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> saliency(tiny_trajectory(), 0).dimension_values(2, flat=False).shape  # two channels of 2 × 2, and a gap
    (2, 5)
    """
    load(backend)
    ds = one_run(ds, "saliency")
    units = [unit] if isinstance(unit, int | np.integer) else list(unit)
    if not 1 <= len(units) <= _MOST_UNITS:
        raise ValueError(
            f"saliency shows 1 to {_MOST_UNITS} units, got {len(units)}: choose some, or draw lk.plot.parameter_map(ds)"
        )
    found = compute([analysed_saliency(ds, one, layer, shape, lca, iterations, tensor) for one in units], quiet=True)
    tiles = np.stack([_as_channels(part.values) for part in found])
    across = "gate" if "gate" in found[0].dims else "input channel"
    tiles, axes = _placed(tiles, [str(one) for one in units], across if tiles.shape[1] > 1 else "")
    cells = grid(tiles, np.nan)
    rows, columns = cells.shape
    high = int(np.clip(470 * rows / columns + 90, 220, 640))
    look = {"xticks": [(-1.0, "")], "yticks": [(-1.0, "")]} | size(backend, high)
    name = label(found[0].assign_attrs(long_name="minus the sum of LCA"))
    text = title or f"What {_which(units)} of {tensor or layer or 'the first layer'} learned from"
    ends = -0.5, -0.5, columns - 0.5, rows - 0.5
    return image(backend, [cells], ends, axes, [name], text, reverse=True, **look)


def _as_channels(values: np.ndarray) -> np.ndarray:
    """Return (channel, y, x) of an image (y, x), (channel, y, x) or (in, taps …)."""
    whole = values if values.ndim > 2 else values[None]
    return whole.reshape(whole.shape[0], -1, whole.shape[-1])


def _placed(tiles: np.ndarray, units: list[str], across: str) -> tuple[np.ndarray, tuple[str, str]]:
    """Return tiles (unit, channel, y, x) as (row, column, y, x), and what rows and columns are."""
    if tiles.shape[1] > 1:
        return tiles, (across, "unit (from the top: " + ", ".join(units) + ")")
    rows, columns = near_square(len(tiles))
    missing = np.full((rows * columns - len(tiles), *tiles.shape[1:]), np.nan)
    placed = np.concatenate([tiles, missing]).reshape(rows, columns, *tiles.shape[2:])
    return placed, ("input" if len(units) == 1 else f"units, {columns} to a row", "input, downward")


def _which(units: list[Any]) -> str:
    shown = ", ".join(str(one) for one in units[:8]) + (" …" if len(units) > 8 else "")
    return f"unit {shown}" if len(units) == 1 else f"units {shown}"
