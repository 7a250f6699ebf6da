"""Distributions: of LCA over sizes, and of parameters over how often they help (figure 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis import noise
from lcakit.analysis.computing import compute
from lcakit.analysis.histograms import histogram, trim
from lcakit.plot._classes import by_classes
from lcakit.plot._style import boxes, label, load, picture, sign_colours, upright

__all__ = ["helped_histogram", "lca_histogram"]


def __dir__() -> list[str]:
    return __all__


@by_classes
def lca_histogram(ds: xr.Dataset, lca: str = "lca", backend: str = "bokeh", title: str = "Distribution of LCA") -> Any:
    """Draw how many values of LCA there are of each size, helping on the left and hurting on the right (figure 3b).

    Bins are logarithmic, so both axes are: the horizontal one (LCA, in the unit of the loss) has the smallest magnitude
    in the middle, from where it grows to both sides. Heights are counts per factor of two, so that bins of different
    widths compare.

    Parameters
    ----------
    ds
        Trajectory (several runs are counted together), or the result of :func:`lcakit.tails.histogram` without groups.
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
        Exact zeros have no place on such an axis; the title says how many there are.

    Raises
    ------
    TrajectoryError
        If the file holds no ``lca``.
    ValueError
        If all LCA is zero, for a histogram of several groups, or for an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label for mark in lca_histogram(tiny_trajectory()) if mark.label]
    ['helping', 'hurting']
    """
    load(backend)
    counts = trim(ds if "count" in ds and "left" in ds.coords else histogram(ds, lca=lca))
    counts = counts.sum("run", keep_attrs=True) if "run" in counts.dims else counts
    if counts["count"].ndim != 2:
        raise ValueError(f"a histogram of LCA has (outcome, bin), got {counts['count'].dims}: select one group")
    if counts.sizes["bin"] == 0:
        raise ValueError(
            "all LCA is zero (or not finite), so it has no distribution to draw; select something that moves"
        )
    middle = float(np.log10(max(counts["left"].values[0], counts["right"].values[0] / 2)))
    left, right = (np.log10(np.maximum(counts[name].values, 10**middle)) - middle for name in ("left", "right"))
    axes = label(counts["left"].assign_attrs(long_name="LCA")), "values per factor of two"
    octaves = np.maximum(right - left, 1e-12) / np.log10(2)
    marks = []
    for name, side in (("helping", -1), ("hurting", 1)):
        count = counts["count"].sel(outcome=name).values / octaves
        some = count > 0
        edges = np.sort([side * left[some], side * right[some]], axis=0)
        box = edges[0], np.full(some.sum(), 0.5), edges[1], count[some]
        marks.append(boxes(backend, box, axes, name, sign_colours()[name]))
    zero, total = int(counts["zero"]), int(counts["zero"] + counts["count"].sum())
    text = f"{title} ({100 * zero / total:.3g} % are exactly zero)"
    ticks, top = _signed_ticks(middle, float(right[-1])), 2 * float((counts["count"] / octaves).max())
    return picture(backend, [*marks, upright(backend, 0)], axes, text, "y", xticks=ticks, ylim=(0.5, top))


def _signed_ticks(middle: float, reach: float) -> list[tuple[float, str]]:
    """Return ticks at powers of ten on both sides of the smallest magnitude 10**middle."""
    powers = np.arange(np.ceil(middle), np.floor(middle + reach) + 1)
    powers = powers[:: -(-len(powers) // 4)][::1] if len(powers) else powers
    right = [(float(p - middle), f"1e{p:.0f}") for p in powers if p - middle > 0.04 * reach]
    return [(-place, f"-{text}") for place, text in reversed(right)] + [(0.0, "0")] + right


@by_classes
def helped_histogram(
    ds: xr.Dataset,
    bins: int = 50,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "How often each parameter helps",
    zeros: str = "counted",
) -> Any:
    """Draw the histogram over parameters of the share of iterations helped (figure 3d).

    Horizontal: share of iterations, from 0 to 1. Vertical: number of parameters. The dashed line is one half.

    Parameters
    ----------
    ds
        Trajectory with ``lca`` or its counts; several runs are counted together.
    bins
        Number of bins from 0 to 1.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    zeros
        ``"counted"``: of all iterations, so that parameters that never move stand at 0; ``"ignored"``: of those in
        which the parameter's LCA is not zero.
    classes
        Names of classes (or one name): LCA is theirs. Pictures of single parameters need a file recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    holoviews.Overlay
        Bins above one half have the colour of helping, the others that of hurting.

    Raises
    ------
    TrajectoryError
        If the file holds neither ``lca`` nor the counts of iterations.
    ValueError
        For fewer than one bin, another way with zeros, or an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label for mark in helped_histogram(tiny_trajectory(), bins=4) if mark.label]
    ['mostly hurting', 'mostly helping']
    """
    load(backend)
    counts = compute(noise.helped_histogram(ds, bins, lca, zeros), quiet=True)
    counts = counts.sum("run") if "run" in counts.dims else counts
    axes = "share of iterations helped" + (" (zeros ignored)" if zeros == "ignored" else ""), "parameters"
    left, right = counts["left"].values, counts["right"].values
    marks = []
    for name, where in (("hurting", right <= 0.5), ("helping", right > 0.5)):
        box = left[where], np.zeros(where.sum()), right[where], counts.values[where]
        text = f"mostly {name}"
        marks.append(boxes(backend, box, axes, text, sign_colours()[name], "#ffffff"))
    return picture(backend, [*marks, upright(backend, 0.5)], axes, title)
