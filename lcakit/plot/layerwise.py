"""Which layers help and which hurt: over whole runs, over time, and against a number that runs differ in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.aggregate import windowed
from lcakit.analysis.computing import compute
from lcakit.analysis.layerwise import layer_lca
from lcakit.analysis.trend import line_through, one_per_run
from lcakit.plot._bars import bars, over_runs
from lcakit.plot._classes import by_classes
from lcakit.plot._images import lca_map
from lcakit.plot._runs import Runs, mean_line, named, one_run
from lcakit.plot._style import (
    MOST_LINES,
    band,
    dots,
    key,
    label,
    level,
    line,
    line_colours,
    load,
    number,
    picture,
)
from lcakit.trajectory.arguments import checks_arguments

__all__ = ["delays", "layer_map", "layers", "layers_over_time"]


def __dir__() -> list[str]:
    return __all__


@by_classes
def layers(
    ds: Runs,
    by: str = "kernel_layer",
    lca: str = "lca",
    confidence: float = 0.95,
    backend: str = "bokeh",
    title: str = "LCA of each layer over the run",
) -> Any:
    r"""Draw the LCA of each layer over whole runs as bars (figures 4 and S11-S14).

    .. math:: S_\ell = \sum_t \sum_{i \in \ell} A[t, i]

    Horizontal: layers. Vertical: LCA over the run, in the unit of the loss; below zero it helps.

    Parameters
    ----------
    ds
        A trajectory; several runs of one (``run`` dimension: bars are means, with Student's confidence intervals); or a
        dict of name to either, which stand side by side.
    by
        ``"kernel_layer"`` or ``"layer"``: see :func:`lcakit.layers.layer_lca`.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    confidence
        Of the intervals over runs.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. None: all classes.

    Returns
    -------
    holoviews.Overlay
        Bars of a single configuration have the colours of helping and hurting, those of several one colour each.

    Raises
    ------
    TrajectoryError
        If a file holds no LCA.
    ValueError
        If configurations have different layers, there are more than twelve of them, or none; for an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label for mark in layers(tiny_trajectory()) if mark.label]
    ['helping']
    """
    load(backend)
    totals = {name: layer_lca(part, by, lca).sum("iteration", keep_attrs=True) for name, part in named(ds).items()}
    line_colours(len(totals))
    names = [str(layer) for layer in next(iter(totals.values()))["layer"].values]
    for name, total in totals.items():
        if [str(layer) for layer in total["layer"].values] != names:
            raise ValueError(
                f"{name} has the layers {', '.join(map(str, total['layer'].values))}, the first configuration "
                f"{', '.join(names)}; draw networks with the same layers into one picture"
            )
    first = next(iter(totals.values()))
    axes = "layer", label(first.assign_attrs(long_name="LCA over the run"))
    series = compute({name: over_runs(total, confidence) for name, total in totals.items()}, quiet=True)
    return bars(backend, names, series, axes, title)


@by_classes
def layers_over_time(
    ds: xr.Dataset,
    by: str = "kernel_layer",
    stacked: bool = False,
    cumulative: bool = True,
    window: int = 1,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "",
) -> Any:
    """Draw the LCA of each layer over the iterations.

    Horizontal: iterations. Vertical: LCA, or its running sum, in the unit of the loss; below zero it helps.

    Parameters
    ----------
    ds
        Trajectory; of several runs lines are means and shades the range.
    by
        ``"kernel_layer"`` or ``"layer"``: see :func:`lcakit.layers.layer_lca`.
    stacked
        Areas on top of each other instead of lines: helping layers below zero, hurting ones above, so that the edges
        add up to the loss change. One run, or the mean of several.
    cumulative
        Running sums; otherwise the LCA of each window.
    window
        Iterations that are summed to one point.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. None: all classes.

    Returns
    -------
    holoviews.Overlay
        A line, or an area, for each layer.

    Raises
    ------
    TrajectoryError
        If the file holds no LCA.
    ValueError
        For more than twelve layers (:func:`layer_map` shows any number), a window below 1, or an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label for mark in layers_over_time(tiny_trajectory()) if mark.label]
    ['conv1', 'fc']
    """
    load(backend)
    series = _over_time(ds, by, cumulative, window, lca)
    names = [str(name) for name in series["layer"].values]
    if len(names) > MOST_LINES:
        raise ValueError(
            f"{len(names)} layers are too many lines for one picture (at most {MOST_LINES}). "
            "Draw lk.plot.layer_map(ds), or select some: ds.lk.sel(kernel_layer=[…])."
        )
    title = title or ("Cumulative LCA of each layer" if cumulative else "LCA of each layer")
    axes = "iteration", label(series)
    colours = line_colours(len(names))
    if stacked:
        mean = series.mean("run", keep_attrs=True) if "run" in series.dims else series
        return picture(backend, [*_stack(backend, mean, names, axes, colours), level(backend, 0)], axes, title)
    marks = [level(backend, 0)]
    for n, color in enumerate(colours):
        marks += mean_line(backend, series["iteration"], series.isel(layer=n), axes, names[n], color)
    return picture(backend, marks, axes, title)


def _over_time(ds: xr.Dataset, by: str, cumulative: bool, window: int, lca: str) -> xr.DataArray:
    """Return LCA (…, iteration, layer) at the last iteration of each window, in memory."""
    array = layer_lca(ds, by, lca)
    if window != 1:
        array = windowed(array, window)
        array = array.assign_coords(window=array["window_end"].values).drop_vars("window_end")
        array = array.rename(window="iteration")
    found: xr.DataArray = compute(array, quiet=True).assign_attrs(array.attrs | {"long_name": "LCA"})
    if not cumulative:
        return found
    attrs = found.attrs | {"long_name": "cumulative LCA"}
    return found.cumsum("iteration").assign_coords(iteration=found["iteration"]).assign_attrs(attrs)


def _stack(
    backend: str, series: xr.DataArray, names: list[str], axes: tuple[str, str], colours: list[str]
) -> list[Any]:
    """Return areas: each layer's helping part goes on below the parts before it, its hurting part above."""
    values = series.transpose("layer", "iteration").values
    marks, steps = [], series["iteration"].values
    for part in (np.minimum(values, 0), np.maximum(values, 0)):
        edges = np.concatenate([np.zeros((1, steps.size)), np.cumsum(part, axis=0)])
        for n, color in enumerate(colours):
            if part[n].any():
                marks.append(band(backend, steps, edges[n], edges[n + 1], axes, color, alpha=0.9))
    return [*marks, *(key(backend, axes, name, color) for name, color in zip(names, colours, strict=True))]


@by_classes
def layer_map(
    ds: xr.Dataset,
    by: str = "kernel_layer",
    window: int = 1,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "LCA of each layer and iteration",
) -> Any:
    """Draw iteration against layer as a heat map: green helps, red hurts, white is zero; the first layer is on top.

    Horizontal: iterations. Vertical: layers. Colour: LCA in the unit of the loss; the scale ends at the 99th percentile
    of the magnitudes.

    Parameters
    ----------
    ds
        Trajectory of one run.
    by
        ``"kernel_layer"`` or ``"layer"``: see :func:`lcakit.layers.layer_lca`.
    window
        Iterations that are summed to one column.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. None: all classes.

    Returns
    -------
    holoviews.Image
        Where there are more than 1000 columns, each pixel shows its LCA of largest magnitude.

    Raises
    ------
    TrajectoryError
        If the file holds no LCA, or several runs.
    ValueError
        If every number is NaN, or for an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> layer_map(tiny_trajectory(12)).dimension_values(2, flat=False).shape
    (2, 12)
    """
    load(backend)
    array = layer_lca(one_run(ds, "a heat map of layers"), by, lca)
    if window != 1:
        array = windowed(array, window).drop_vars("window_end").rename(window="iteration")
    array = compute(array, quiet=True).assign_attrs(array.attrs | {"long_name": "LCA"})
    array["iteration"].attrs = {"long_name": "iteration"}
    array["layer"].attrs = {"long_name": "layer"}
    return lca_map(backend, array, "iteration", "layer", title)


@checks_arguments
def delays(
    delay: Sequence[float] | xr.DataArray,
    lca: xr.DataArray,
    backend: str = "bokeh",
    title: str = "LCA of layers against the delay of the last layer",
    blocks: str | Sequence[object] | None = None,
) -> Any:
    r"""Draw layer LCA against a delay, a dot for each run, with the linear trend of each layer (figure 5).

    .. math:: S_{r\ell} \approx a_\ell + b_\ell x_r

    The line is that of :func:`lcakit.layers.layer_trend`. Horizontal: delay in iterations. Vertical: LCA over the run,
    in the unit of the loss.

    Parameters
    ----------
    delay
        x (run): one number for each run.
    lca
        (run) or (run, layer): LCA summed over the run, as ``lk.layers.layer_lca(runs).sum("iteration",
        keep_attrs=True)``. At most twelve layers.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    blocks
        Seeds of the runs, where there are several: each then has an intercept of its own, as in ``layer_trend``; what
        is drawn is the line through the means. One label for each run, or the name of a coordinate of ``lca``.

    Returns
    -------
    holoviews.Overlay
        Dots and a line for each layer; the name of a line has its slope.

    Raises
    ------
    ValueError
        If there is not one number for each run, or all are the same (in each block); for an unknown backend.
        :func:`lcakit.layers.layer_trend` has the numbers of the trend for any number of layers.

    Examples
    --------
    >>> lca = xr.DataArray([[-1.0, -2.0], [-1.5, -2.0], [-2.0, -2.0]], dims=["run", "layer"],
    ...                    coords={"layer": ["fc1", "fc2"]}, name="lca")
    >>> [mark.label for mark in delays([0, 5, 10], lca) if mark.label]
    ['fc1: slope -0.1', 'fc2: slope 0']
    """
    load(backend)
    x = np.asarray(delay, np.float64)
    if x.shape != (lca.sizes.get("run", 0),) or x.size < 2 or np.ptp(x) == 0:
        raise ValueError(
            f"a trend needs one delay for each run, at least two, not all the same; got {x.tolist()} "
            f"for LCA with dimensions {dict(lca.sizes)}"
        )
    values = compute(lca, quiet=True)
    values = values if "layer" in values.dims else values.expand_dims(layer=[""])
    names = [str(name) for name in values["layer"].values]
    axes = "delay (iterations)", label(lca)
    fit = line_through(x, None if blocks is None else one_per_run(lca, blocks))
    marks, ends = [level(backend, 0)], np.array([x.min(), x.max()])
    for n, color in enumerate(line_colours(len(names))):
        y = values.isel(layer=n).values
        slope, intercept, *_ = fit(y)
        text = f"{names[n]}: slope {number(float(f'{slope:.2g}'))}".removeprefix(": ")
        marks.append(dots(backend, x, y, axes, "", color))
        marks.append(line(backend, ends, intercept + slope * ends, axes, text, color))
    return picture(backend, marks, axes, title)
