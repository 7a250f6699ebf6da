"""Distributions: of LCA over sizes, and of parameters over how often they help (figure 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis import noise
from lcakit.analysis.computing import compute
from lcakit.analysis.histograms import histogram, trim
from lcakit.analysis.tails import fit_tails
from lcakit.plot._classes import by_classes
from lcakit.plot._style import boxes, label, line, load, picture, sign_colours, upright

__all__ = ["helped_histogram", "lca_histogram"]


def __dir__() -> list[str]:
    return __all__


_SIDES = {"helping": -1, "hurting": 1}
FEWEST = 0.001
"""Share of the values, those of smallest magnitude, that a histogram leaves out, and says so."""
WORTHWHILE = 0.75
"""They are left out only where the axis becomes this much shorter by it."""
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@by_classes
def lca_histogram(
    ds: xr.Dataset,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "Distribution of LCA",
    zoom: float | None = None,
) -> Any:
    r"""Draw how many values of LCA there are of each size, helping on the left and hurting on the right (figure 3b).

    Bins are logarithmic, so both axes are: the horizontal one (LCA, in the unit of the loss) has the smallest magnitude
    in the middle, from where it grows to both sides; the smallest thousandth of the values is left out where it would
    take much of the axis. Heights are counts per factor of two, so that bins of different widths compare. With ``zoom``
    the horizontal axis is linear, and heights are densities, beside which a line for each sign shows the fitted Weibull
    distribution,

    .. math:: f(x) = \frac{n_\pm}{n} \frac{k}{λ} \left(\frac{x}{λ}\right)^{k - 1} e^{-(x / λ)^k}, \quad x = |A|

    with :math:`n_\pm` of the n values that are not zero (:func:`lcakit.tails.fit_tails`).

    Parameters
    ----------
    ds
        Trajectory (several runs are counted together), or the result of :func:`lcakit.tails.histogram` without groups.
    lca
        Name of the variable; ``"lca_val"`` for another objective.
    backend, title
        ``"bokeh"`` (interactive) or ``"matplotlib"`` (print); the text above the picture.
    zoom
        Share of the values that are not zero which the picture shows, the smallest ones: 0.99 in the paper. None: all.
    classes
        Names of classes (or one name): LCA is theirs. Pictures of single parameters need a file recorded with
        ``classes="parameter"``. None: all classes.

    Returns
    -------
    holoviews.Overlay
        Exact zeros have no place on such an axis; the title says how many there are, and how many are left out.

    Raises
    ------
    TrajectoryError
        If the file holds no ``lca``.
    ValueError
        If all LCA is zero, for a histogram of several groups, a zoom outside (0, 1], or an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label for mark in lca_histogram(tiny_trajectory()) if mark.label]
    ['helping', 'hurting']
    """
    load(backend)
    if zoom is not None and not 0 < zoom <= 1:
        raise ValueError(f"zoom is a share of the values, above 0 and at most 1, got {zoom:g}")
    counts = trim(ds if "count" in ds and "left" in ds.coords else histogram(ds, lca=lca))
    counts = counts.sum("run", keep_attrs=True) if "run" in counts.dims else counts
    if counts["count"].ndim != 2:
        raise ValueError(f"a histogram of LCA has (outcome, bin), got {counts['count'].dims}: select one group")
    if counts.sizes["bin"] == 0:
        raise ValueError(
            "all LCA is zero (or not finite), so it has no distribution to draw; select something that moves"
        )
    zero, total = int(counts["zero"]), int(counts["zero"] + counts["count"].sum())
    text = f"{title} ({100 * zero / total:.3g} % are exactly zero)"
    return _all_sizes(backend, counts, text, total) if zoom is None else _most(backend, counts, text, zoom)


def _all_sizes(backend: str, counts: xr.Dataset, title: str, total: int) -> Any:
    """Draw counts over logarithmic magnitudes, helping to the left and hurting to the right."""
    counts, small = _without_smallest(counts)
    middle = float(np.log10(max(counts["left"].values[0], counts["right"].values[0] / 2)))
    left, right = (np.log10(np.maximum(counts[name].values, 10**middle)) - middle for name in ("left", "right"))
    axes = label(counts["left"].assign_attrs(long_name="LCA")), "values per factor of two"
    octaves = np.maximum(right - left, 1e-12) / np.log10(2)
    marks = []
    for name, side in _SIDES.items():
        count = counts["count"].sel(outcome=name).values / octaves
        some = count > 0
        edges = np.sort([side * left[some], side * right[some]], axis=0)
        box = edges[0], np.full(some.sum(), 0.5), edges[1], count[some]
        marks.append(boxes(backend, box, axes, name, sign_colours()[name]))
    text = f"{title[:-1]}, {100 * small / total:.2g} % smaller than {_power(middle)})" if small else title
    ticks, top = _signed_ticks(middle, float(right[-1])), 2 * float((counts["count"] / octaves).max())
    return picture(backend, [*marks, upright(backend, 0)], axes, text, "y", xticks=ticks, ylim=(0.5, top))


_FINEST = 200
"""Bins of the zoomed picture are at least this part of its half width: narrower ones are one."""


def _most(backend: str, counts: xr.Dataset, title: str, zoom: float) -> Any:
    """Draw densities over magnitudes up to the one that a share of the values does not exceed, and fitted lines."""
    left, right, fits = counts["left"].values, counts["right"].values, fit_tails(counts).sel(model="weibull").compute()
    both = counts["count"].sum("outcome").values
    n = both.sum()
    last = int(np.searchsorted(both.cumsum(), zoom * n)) + 1
    first = int(np.searchsorted(right[:last], right[last - 1] / _FINEST))
    starts, ends = np.r_[0.0, left[first + 1 : last]], right[first:last]
    axes, marks = (label(counts["left"].assign_attrs(long_name="LCA")), "density"), []
    heights = {
        name: np.r_[count[: first + 1].sum(), count[first + 1 : last]] / (ends - starts) / n
        for name, count in ((name, counts["count"].sel(outcome=name).values) for name in _SIDES)
    }
    floor = min(height[height > 0].min(initial=np.inf) for height in heights.values()) / 2
    fine = np.linspace(ends[0] / 2, ends[-1], 400)
    for name, side in _SIDES.items():
        some = heights[name] > 0
        edges = np.sort([side * starts[some], side * ends[some]], axis=0)
        box = edges[0], np.full(some.sum(), floor), edges[1], heights[name][some]
        marks.append(boxes(backend, box, axes, name, sign_colours()[name]))
        k, scale, part = (float(fits[part].sel(outcome=name)) for part in ("shape", "scale", "n"))
        density = part / n * k / scale * (fine / scale) ** (k - 1) * np.exp(-((fine / scale) ** k))
        if np.isfinite(k):
            marks.append(line(backend, side * fine, density, axes, f"Weibull, k = {k:.3g}", "#222222", "dashed"))
    text = f"{title[:-1]}, and {100 * zoom:.3g} % of the others shown)" if zoom < 1 else title
    short = {"xformatter": "%.1e"} if backend == "bokeh" else {}  # Bokeh's own writes 5.000e-6 over its neighbours
    return picture(backend, [*marks, upright(backend, 0)], axes, text, "y", ylim=(floor, None), **short)


def _without_smallest(counts: xr.Dataset) -> tuple[xr.Dataset, int]:
    """Leave out the bins of the smallest magnitudes that hold few values, and return how many these are.

    A few values next to nothing would take most of the axis, and leave a gap around its middle.
    """
    below = counts["count"].sum("outcome").values.cumsum()
    out = int(np.searchsorted(below, FEWEST * below[-1], side="right"))
    reach = np.log(counts["right"].values[-1] / counts["right"].values[[0, out]])
    if reach[1] > WORTHWHILE * reach[0]:
        out = 0
    return counts.isel(bin=slice(out, None)), int(below[out - 1]) if out else 0


def _power(exponent: float) -> str:
    """Return ten to a power as text with one digit, such as 10⁻⁵ or 2·10⁻¹⁶."""
    digit, _, power = f"{10**exponent:.0e}".partition("e")
    return f"{digit}·10".removeprefix("1·") + str(int(power)).translate(RAISED)


def _signed_ticks(middle: float, reach: float) -> list[tuple[float, str]]:
    """Return ticks at powers of ten on both sides of the smallest magnitude 10**middle, which stands in the middle."""
    powers = np.arange(np.ceil(middle), np.floor(middle + reach) + 1)
    powers = powers[:: -(-len(powers) // 4)][::1] if len(powers) else powers
    right = [(float(p - middle), _power(p)) for p in powers if p - middle > 0.15 * reach]
    return [(-place, f"−{text}") for place, text in reversed(right)] + [(0.0, f"±{_power(middle)}")] + right


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
