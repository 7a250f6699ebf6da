"""Heavy tails of LCA: against fitted distributions, and how heavy they are over training (figure S10)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import special

from lcakit.analysis.computing import compute
from lcakit.analysis.histograms import histogram, trim
from lcakit.analysis.kurtosis import excess_kurtosis
from lcakit.analysis.tails import fit_tails
from lcakit.errors import unknown
from lcakit.plot._classes import by_classes
from lcakit.plot._runs import mean_line
from lcakit.plot._style import PALETTE, dots, label, line, load, picture, sign_colours

__all__ = ["kurtosis", "tail_fits"]


def __dir__() -> list[str]:
    return __all__


_BULK = 0.95
"""The picture begins at the magnitude that this share of the values exceeds."""
_OUTCOMES = ("helping", "hurting", "both")
_MODELS = {"weibull": "Weibull", "exponential": "Laplace", "half_normal": "Gaussian"}


@by_classes
def tail_fits(
    ds: xr.Dataset,
    outcome: str = "both",
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "Tail of LCA against fitted distributions",
) -> Any:
    r"""Draw the share of nonzero LCA beyond each magnitude, and the same of fitted distributions (figure S10).

    .. math:: P(|A| \ge x) = e^{-(x / λ)^k} \text{ (Weibull)}, \quad e^{-x / λ} \text{ (Laplace)}, \quad
              \operatorname{erfc}\frac{x}{λ\sqrt 2} \text{ (Gaussian)}

    Horizontal: magnitude of LCA in the unit of the loss. Vertical: share of values beyond it. Both are logarithmic.

    Parameters
    ----------
    ds
        Trajectory (several runs are counted together), or the result of :func:`lcakit.tails.histogram` without groups.
    outcome
        ``"helping"``, ``"hurting"`` or ``"both"``.
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
        Dots are the data, lines the distributions of largest likelihood.

    Raises
    ------
    TrajectoryError
        If the file holds no ``lca``.
    ValueError
        For an unknown outcome or backend, for a histogram of several groups, or if no LCA has this outcome.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> [mark.label.partition(",")[0] for mark in tail_fits(tiny_trajectory())]
    ['recorded', 'Weibull', 'Laplace', 'Gaussian']
    """
    load(backend)
    if outcome not in _OUTCOMES:
        raise unknown("outcome", outcome, _OUTCOMES)
    counts = trim(ds if "count" in ds and "left" in ds.coords else histogram(ds, lca=lca))
    counts = counts.sum("run", keep_attrs=True) if "run" in counts.dims else counts
    if counts["count"].ndim != 2:
        raise ValueError(f"a tail needs counts over (outcome, bin), got {counts['count'].dims}: select one group")
    fits = fit_tails(counts).sel(outcome=outcome)
    count = counts["count"].sum("outcome") if outcome == "both" else counts["count"].sel(outcome=outcome)
    n = int(count.sum())
    if n == 0:
        raise ValueError(f"no LCA is {'different from zero' if outcome == 'both' else outcome}, so it has no tail")
    beyond = count.values[::-1].cumsum()[::-1] / n
    x = counts["left"].values
    some = (x > 0) & (beyond > 0) & (beyond < _BULK)
    axes = label(counts["left"].assign_attrs(long_name="magnitude of LCA")), "share of values beyond it"
    color = "#555555" if outcome == "both" else sign_colours()[outcome]
    marks = [dots(backend, x[some], beyond[some], axes, "recorded", color, size=5)]
    fine = np.geomspace(x[some].min(initial=counts["right"].values[-1] / 2), counts["right"].values[-1], 400)
    for (model, name), shade in zip(_MODELS.items(), PALETTE, strict=False):
        fit = fits.sel(model=model)
        share = _beyond(model, fine, float(fit["scale"]), float(fit["shape"]))
        text = f"{name}, k = {float(fit['shape']):.3g}" if model == "weibull" else name
        marks.append(line(backend, fine, np.where(share > 0.1 / n, share, np.nan), axes, text, shade))
    return picture(backend, marks, axes, title, "xy", legend="bottom_left", ylim=(0.3 / n, 2))


def _beyond(model: str, x: np.ndarray, scale: float, shape: float) -> np.ndarray:
    if model == "half_normal":
        return np.asarray(special.erfc(x / (scale * np.sqrt(2))))
    return np.asarray(np.exp(-((x / scale) ** (shape if model == "weibull" else 1.0))))


@by_classes
def kurtosis(
    ds: xr.Dataset,
    window: int | None = None,
    lca: str = "lca",
    backend: str = "bokeh",
    title: str = "Excess kurtosis of LCA",
) -> Any:
    """Draw the excess kurtosis of LCA over parameters, 0 for a Gaussian, over the iterations.

    Horizontal: iterations. Vertical: excess kurtosis, logarithmic where it is above 0 throughout.

    Parameters
    ----------
    ds
        Trajectory; of several runs the line is the mean and the shade the range.
    window
        Iterations that are pooled to one sample; None takes each for itself.
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
        A line.

    Raises
    ------
    TrajectoryError
        If the file holds no ``lca``, or the selection has no iteration.
    ValueError
        For a window that is longer than the run, or an unknown backend.

    Examples
    --------
    >>> from lcakit.testing import tiny_trajectory
    >>> picture = kurtosis(tiny_trajectory(12), window=4)
    >>> len(picture.traverse(lambda mark: mark, ["Curve"])[0])
    3
    """
    load(backend)
    values = compute(excess_kurtosis(ds, window, lca=lca)["excess_kurtosis"], quiet=True)
    time = "iteration" if window is None else "window"
    axes = "iteration", label(values)
    log = values.size > 1 and bool((values > 0).all())
    marks = mean_line(backend, values[time], values, axes, "", PALETTE[0], width=1.5)
    return picture(backend, marks, axes, title, "y" if log else "", legend=None)
