"""Do weights that share an input or an output learn together: distributions of correlations (figure S20)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.correlation import correlation_test, mean_correlation
from lcakit.plot._classes import by_classes
from lcakit.plot._runs import one_run
from lcakit.plot._style import GUIDE, PALETTE, label, line, load, picture
from lcakit.trajectory.require import require, require_tables

__all__ = ["correlation_by_layer", "correlations"]


def __dir__() -> list[str]:
    return __all__


_LOOKS = {"output": (PALETTE[0], "solid"), "input": (PALETTE[1], "solid")}


@by_classes
def correlations(
    ds: xr.Dataset, layer: str, seed: int = 0, lca: str = "lca", backend: str = "bokeh", title: str = ""
) -> Any:
    r"""Draw the distributions of the mean correlation of weights that share an output or an input (figure S20).

    .. math:: F(r) = \#\{g : \bar r_g \le r\} \,/\, \#\{g\}

    Horizontal: the mean correlation of a group of weights, from -1 to 1. Vertical: the share of groups up to it. Dashed
    lines are random groups of the same sizes; the largest upright distance between a line and its dashed one is the
    statistic of :func:`lcakit.correlation.correlation_test`.

    Parameters
    ----------
    ds
        Trajectory of one run with ``lca`` (iteration, parameter).
    layer
        Name of a layer with a kernel.
    seed
        Of the random groups.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. None: all classes.

    Returns
    -------
    holoviews.Overlay
        Four step functions: groups with the same output, with the same input, and the random ones of each.

    Raises
    ------
    TrajectoryError
        If the file holds no ``lca``, or several runs.
    ValueError
        For an unknown layer or backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> sorted(mark.label for mark in correlations(tiny_trajectory(), "fc"))[2:]
    ['same input', 'same output']
    """
    load(backend)
    ds = one_run(ds, "the correlation of weights")
    found = {by: mean_correlation(ds, layer, by, lca=lca) for by in _LOOKS}
    random = {by: mean_correlation(ds, layer, "random", like=by, seed=seed, lca=lca) for by in _LOOKS}
    found, random = compute(found, random, quiet=True)
    axes = label(next(iter(found.values()))), "share of groups up to it"
    marks = []
    for by, (color, dash) in _LOOKS.items():
        marks.append(_steps(backend, random[by], axes, f"random, as many as by {by}", color, "dashed"))
        marks.append(_steps(backend, found[by], axes, f"same {by}", color, dash))
    return picture(
        backend, marks, axes, title or f"Correlation of LCA inside {layer}", legend="bottom_right", ylim=(0, 1.02)
    )


@by_classes
def correlation_by_layer(
    ds: xr.Dataset, seed: int = 0, lca: str = "lca", backend: str = "bokeh", title: str = ""
) -> Any:
    r"""Draw the mean correlation of weights that share an output or an input, layer by layer (figure S20).

    .. math:: \frac1G \sum_g \bar r_g

    Horizontal: layers with a kernel, first to last. Vertical: mean over groups of the
    mean correlation of their weights; dashed lines are random groups in which no two weights share either.

    Parameters
    ----------
    ds
        Trajectory with ``lca`` (iteration, parameter); a line for each run where there are several.
    seed
        Of the random groups.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    classes
        Names of classes (or one name): LCA is theirs. None: all classes.

    Returns
    -------
    holoviews.Overlay
        For each run a line of weights with the same output, of the same input, and the random ones of each.

    Raises
    ------
    TrajectoryError
        If the file holds no ``lca``.
    ValueError
        For an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> picture = correlation_by_layer(tiny_trajectory())
    >>> [mark.label for mark in picture if mark.label]
    ['same output', 'random, as many as by output', 'same input', 'random, as many as by input']
    """
    load(backend)
    require(ds, lca)
    require_tables(ds)
    tests = {layer: correlation_test(ds, layer, seed, lca) for layer in _with_kernel(ds)}
    found = xr.concat(compute(tests, quiet=True).values(), dim=xr.DataArray(list(tests), dims="layer", name="layer"))
    found = found if "run" in found.dims else found.expand_dims("run")
    axes = "layer", label(found["correlation"])
    places = np.arange(found.sizes["layer"], dtype=float)
    marks = []
    for by, (color, dash) in _LOOKS.items():
        for run in range(found.sizes["run"]):
            one = found.sel(grouping=by).isel(run=run)
            of_first = run == 0  # further runs have no entries of their own in the legend
            marks.append(line(backend, places, one["correlation"].values, axes, f"same {by}" * of_first, color, dash))
            name = f"random, as many as by {by}" * of_first
            marks.append(line(backend, places, one["random"].values, axes, name, color, "dashed"))
    ticks = [(place, str(name)) for place, name in zip(places.tolist(), found["layer"].values, strict=True)]
    return picture(backend, marks, axes, title or "Correlation of LCA by layer", xticks=ticks)


def _with_kernel(ds: xr.Dataset) -> list[str]:
    """Return the layers with a kernel, first to last."""
    owners = ds["layer"].values.astype(str)[ds["tensor_layer"].values]
    return list(dict.fromkeys(owners[ds["tensor_role"].values == "kernel"].tolist()))


def _steps(backend: str, values: xr.DataArray, axes: tuple[str, str], name: str, color: str, dash: str) -> Any:
    """Draw a distribution function as steps; groups without a correlation are left out."""
    known = np.sort(values.values[np.isfinite(values.values)])
    share = np.arange(known.size + 1) / max(known.size, 1)
    return line(backend, np.repeat(known, 2), np.repeat(share, 2)[1:-1], axes, name, color or GUIDE, dash, 1.8)
