"""Do weights that share an input or an output learn together: distributions of correlations (figure S20)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.correlation import mean_correlation
from lcakit.plot._classes import by_classes
from lcakit.plot._runs import one_run
from lcakit.plot._style import GUIDE, PALETTE, label, line, load, picture

__all__ = ["correlations"]


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


def _steps(backend: str, values: xr.DataArray, axes: tuple[str, str], name: str, color: str, dash: str) -> Any:
    """Draw a distribution function as steps; groups without a correlation are left out."""
    known = np.sort(values.values[np.isfinite(values.values)])
    share = np.arange(known.size + 1) / max(known.size, 1)
    return line(backend, np.repeat(known, 2), np.repeat(share, 2)[1:-1], axes, name, color or GUIDE, dash, 1.8)
