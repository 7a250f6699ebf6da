"""Single parameters and units: heat maps of a layer, units over time, cumulative curves (figures 2, S1 and S2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import sum_by
from lcakit.analysis.computing import compute
from lcakit.errors import unknown
from lcakit.plot._classes import by_classes
from lcakit.plot._images import image, lca_map
from lcakit.plot._raster import MOST_PIXELS, even_blocks, strongest
from lcakit.plot._runs import one_run
from lcakit.plot._style import label, load, size
from lcakit.plot._tiles import Tiles, tensor_row, tiles_of
from lcakit.trajectory.require import require, source
from lcakit.trajectory.select import select, select_iterations

__all__ = ["QUANTITIES", "of_units", "parameter_map", "parameter_values", "tile_image", "unit_map"]


def __dir__() -> list[str]:
    return __all__


_FRAME, _AROUND = 390, 55
"""Pixels: width of the frame beside a bar of colours, and the height of title and axis above and below it."""


QUANTITIES = {
    "lca": "LCA",
    "cumulative": "Cumulative LCA",
    "gradient": "Gradient",
    "movement": "Movement",
    "theta": "Parameters",
}


@by_classes
def parameter_map(
    ds: xr.Dataset,
    layer: str | None = None,
    iteration: int | slice | None = None,
    quantity: str = "lca",
    tensor: str | None = None,
    lca: str = "lca",
    limits: tuple[float, float] | None = None,
    backend: str = "bokeh",
    title: str = "",
    images: bool = True,
) -> Any:
    """Draw a heat map of the parameters of a layer (figure 2).

    Convolution kernels are a grid of tiles, a row for each output channel and a column for each input channel (the
    other way round where there are more than twice as many outputs); the units of a first linear layer with a square
    number of inputs are images, unless ``images=False``; anything else is a matrix, a row for each unit and a column
    for each input.

    Parameters
    ----------
    ds
        Trajectory of one run.
    layer
        Name of a layer: its kernel is drawn (what it has, if it has none). None: the first kernel.
    iteration
        Label of an iteration; a slice of labels, both ends included; None for the whole run.
    quantity
        Over these iterations: ``"lca"``, the sum; ``"gradient"``, the mean over their starts; ``"movement"``, from the
        start of the first to the end of the last. At the end of the last: ``"cumulative"``, LCA since the run began;
        ``"theta"``, the parameter.
    tensor
        Name of a tensor, instead of a layer.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    limits
        Ends of the colour scale; by default symmetric, the 99th percentile of the magnitudes.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    images
        Whether the units of a first linear layer are images of their inputs. False: rows of a matrix, as in the paper.
    classes
        Names of classes (or one name): LCA is theirs. Pictures of single parameters need a file recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    holoviews.Image
        Green helps and red hurts; quantities that do neither are purple (negative) and brown. Zero is white. In a
        tensor of more than 1000 rows or columns each pixel shows its value of largest magnitude.

    Raises
    ------
    TrajectoryError
        If the file does not hold the quantity, only a part of the tensor, or several runs.
    ValueError
        For an unknown layer, tensor, quantity, iteration or backend, a layer with several kernels, or if every number
        is NaN.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> parameter_map(tiny_trajectory(), "fc", iteration=3).dimension_values(2, flat=False).shape
    (4, 6)
    """
    load(backend)
    if quantity not in QUANTITIES:
        raise unknown("quantity", quantity, QUANTITIES)
    ds = one_run(ds, "a heat map of parameters")
    row = tensor_row(ds, layer, tensor)
    tiles, name = tiles_of(ds, row, images), str(ds["tensor"].values[row])
    array = parameter_values(select(ds, tensor=name), quantity, iteration, lca)
    values = compute(array, quiet=True)
    title = title or f"{QUANTITIES[quantity]} of {name}, {_when(ds, iteration, quantity)}"
    helps = quantity in ("lca", "cumulative")
    return tile_image(backend, tiles, values, title, helps, limits)


def parameter_values(ds: xr.Dataset, quantity: str, iteration: int | slice | None, lca: str = "lca") -> xr.DataArray:
    """Return a quantity of :func:`parameter_map` for every parameter of a selection. Lazy."""
    part = ds if iteration is None else select_iterations(ds, iteration)
    attrs = {"long_name": QUANTITIES[quantity] if quantity == "lca" else QUANTITIES[quantity].lower()}
    if quantity == "cumulative":
        last = part["iteration"].values[-1]
        part = select_iterations(ds, slice(None, last))
    if quantity in ("lca", "cumulative"):
        array = require(part, lca)
        return array.sum("iteration", dtype=np.float64, skipna=False).assign_attrs(array.attrs | attrs)
    if quantity == "gradient":
        array = require(part, "gradient")
        starts = array.isel(snapshot=slice(0, part.sizes["iteration"]))
        return starts.mean("snapshot", dtype=np.float64, skipna=False).assign_attrs(array.attrs | attrs)
    array = require(part, "theta")
    end = array.isel(snapshot=-1).astype(np.float64)
    out = end if quantity == "theta" else end - array.isel(snapshot=0).astype(np.float64)
    return out.drop_vars("snapshot", errors="ignore").assign_attrs(array.attrs | attrs)


def _when(ds: xr.Dataset, iteration: int | slice | None, quantity: str = "lca") -> str:
    """Return the words for a choice of iterations, as a title says them."""
    after = quantity in ("cumulative", "theta")
    if iteration is None:
        return "after the run" if after else "whole run"
    labels = select_iterations(ds, iteration)["iteration"].values
    first, last = labels[0], labels[-1]
    if after:
        return f"after iteration {last}"
    return f"iteration {first}" if first == last else f"iterations {first} to {last}"


def tile_image(
    backend: str,
    tiles: Tiles,
    values: xr.DataArray,
    title: str,
    helps: bool,
    limits: tuple[float, float] | None,
) -> Any:
    """Return the values of a tensor's parameters as an image; ``helps`` says whether their sign means helping."""
    shown = np.where(tiles.places < 0, np.nan, values.values[tiles.places])
    rows, columns = shown.shape
    layers, names = [shown, *map(_with_gaps, (tiles.units, tiles.inputs))], [label(values), "unit", "input"]
    if max(shown.shape) > MOST_PIXELS:
        layers, names = (
            [strongest(shown, (even_blocks(rows, MOST_PIXELS), even_blocks(columns, MOST_PIXELS)))],
            names[:1],
        )
    look: dict[str, Any] = {"xticks": tiles.ticks[0], "yticks": tiles.ticks[1]}
    if not tiles.ticks[0]:
        look |= {"xticks": [(-1.0, "")]}
    if tiles.square:
        look |= size(backend, int(np.clip(_FRAME * rows / columns + _AROUND, 220, 640)))
    ends = -0.5, -0.5, columns - 0.5, rows - 0.5
    return image(backend, layers, ends, tiles.axes, names, title, helps, limits, **look)


def _with_gaps(labels: np.ndarray) -> np.ndarray:
    return np.where(labels < 0, np.nan, labels)


@by_classes
def unit_map(ds: xr.Dataset, layer: str, lca: str = "lca", backend: str = "bokeh", title: str = "") -> Any:
    """Draw unit against iteration as a heat map of LCA (figure S1): green helps, red hurts, white is zero.

    Horizontal: iterations. Vertical: units by channel number, the first on top. Colour: LCA in the unit of the loss.

    Parameters
    ----------
    ds
        Trajectory of one run.
    layer
        Name of a layer; LCA is summed over all parameters of each of its units.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. None: all classes.

    Returns
    -------
    holoviews.Image
        Where there are more units or iterations than pixels, each pixel shows its LCA of largest magnitude.

    Raises
    ------
    TrajectoryError
        If the file holds no LCA of parameters or units, several runs, or no iteration.
    ValueError
        For an unknown layer or backend, or if every number is NaN.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> unit_map(tiny_trajectory(12), "fc").dimension_values(2, flat=False).shape
    (4, 12)
    """
    load(backend)
    part = select(one_run(ds, "a heat map of units"), layer=layer)
    series = compute(of_units(part, lca), quiet=True)
    series = series.assign_coords(unit=series["unit_channel"].values).assign_attrs(series.attrs | {"long_name": "LCA"})
    series["iteration"].attrs, series["unit"].attrs = {"long_name": "iteration"}, {"long_name": "unit"}
    return lca_map(backend, series, "iteration", "unit", title or f"LCA of the units of {layer}")


def of_units(ds: xr.Dataset, lca: str) -> xr.DataArray:
    """Return LCA (iteration, unit), from the sums by class if the file has them: they are a hundred times smaller."""
    by_class = source(ds, lca, classes=True)
    if by_class in ds and {"unit", "class"} <= set(ds[by_class].dims):
        return ds[by_class].sum("class", dtype=np.float64, keep_attrs=True).transpose("iteration", "unit")
    return sum_by(ds, "unit", source(ds, lca))  # also of a selection of one class
