"""Sections on learning noise: who helps, how much, how weights turn around, and what layers do together."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr

from lcakit import plot
from lcakit.analysis import kurtosis, noise, oscillation, phase, synchronization, tails, windows
from lcakit.analysis.histograms import histogram
from lcakit.views.report.context import (
    BACKEND,
    BY,
    Figure,
    Group,
    Section,
    Subject,
    get,
    mean_over_runs,
    name,
    number,
    percent,
    single,
    window,
)

__all__ = ["sections"]


def __dir__() -> list[str]:
    return __all__


_TRIALS = 199
"""Random shifts of the baseline: enough to tell a probability of 0.005."""


def sections(subject: Subject) -> list[Section]:
    """Return the sections on noise."""
    return [_helping(subject), _sizes(subject), _turning(subject), _in_sync(subject)]


# ---- noise -----------------------------------------------------------------------------------------------------


def _helping(s: Subject) -> Section:
    """Return the figures of how many parameters help."""
    return Section(
        "Helping and hurting",
        "How many parameters lower the loss in an iteration, how often each does, and how much is noise that cancels.",
        (
            single("Over time", lambda: plot.help_hurt_zero(s.ds, window(s), backend=BACKEND), lambda: _shares(s)),
            single("By layer", partial(plot.fractions, s.ds, backend=BACKEND), lambda: _fractions(s)),
            single("Each parameter", partial(plot.helped_histogram, s.ds, backend=BACKEND), lambda: _helped(s)),
            single("Over windows", partial(plot.helping_by_window, s.ds, backend=BACKEND), lambda: _windows(s)),
        ),
    )


def _shares(s: Subject) -> str:
    shares, among = get(noise.help_hurt_zero(s.ds), mean_over_runs(noise.fraction_helping(s.ds)))
    shares = shares.mean([d for d in ("iteration", "run") if d in shares.dims])
    helps, hurts, zero = (percent(shares.sel(outcome=one)) for one in ("helping", "hurting", "zero"))
    return (
        f"In the mean iteration {helps} of the parameters help, {hurts} hurt and {zero} do neither; "
        f"of those that do something, {100 * float(among):.2f} % help."
    )


def _fractions(s: Subject) -> str:
    shares = get(mean_over_runs(noise.fraction_helping(s.ds, BY)))
    low, high = (shares.isel({BY: int(getattr(np, end)(shares.values))}) for end in ("argmin", "argmax"))
    return (
        f"Of the parameters that do something, the share that helps lies between {percent(low)} "
        f"({name(low[BY].values)}) and {percent(high)} ({name(high[BY].values)})."
    )


def _helped(s: Subject) -> str:
    counts = get(noise.helped_histogram(s.ds))
    counts = counts.sum("run") if "run" in counts.dims else counts
    share = counts.values.cumsum() / max(counts.values.sum(), 1)
    median = counts["right"].values[int(np.argmax(share >= 0.5))]
    more = counts.values[counts["left"].values >= 0.5].sum() / max(counts.values.sum(), 1)
    often = f"{percent(more)} help at least half of the time"
    return f"The median parameter helps in about {percent(median)} of the iterations; {often}."


def _windows(s: Subject) -> str:
    n = s.ds.sizes["iteration"]
    sizes = [2**p for p in range(n.bit_length()) if 2**p < n] + [n]
    shares = get(mean_over_runs(windows.helping_by_window(s.ds, sizes)))
    first, last = shares.values[[0, -1]]
    return (
        f"{percent(first)} of the parameters that do something help in single iterations, {percent(last)} when LCA is "
        f"summed over all {n:,}."
    )


# ---- sizes -----------------------------------------------------------------------------------------------------


def _sizes(s: Subject) -> Section:
    """Return the figures of the distribution of LCA and of its tails."""
    whole = partial(_histogram, s, "")
    return Section(
        "Sizes of LCA",
        "How LCA is distributed: do few values carry most of it?",
        (
            Group("Distribution", tuple(_distribution(s, layer) for layer in ["", *s.layers])),
            single("Tail", lambda: plot.tail_fits(whole(), backend=BACKEND), lambda: _tail(whole())),
            single(
                "Over training",
                partial(plot.kurtosis, s.ds, _pooled(s), backend=BACKEND),
                lambda: _kurtosis(s),
            ),
        ),
    )


def _pooled(s: Subject) -> int | None:
    pooled = window(s)
    return pooled if pooled > 1 else None


def _histogram(s: Subject, layer: str) -> xr.Dataset:
    """Return the counts of a layer or of all, in memory; several runs are counted together."""
    counts: xr.Dataset = get(histogram(s.ds, BY if layer else None))
    counts = counts.sum("run", keep_attrs=True) if "run" in counts.dims else counts
    return counts.sel({BY: layer}, drop=True) if layer else counts


def _distribution(s: Subject, layer: str) -> Figure:
    title = f"Distribution of LCA{f' in {name(layer)}' if layer else ''}"
    return Figure(
        lambda: plot.lca_histogram(_histogram(s, layer), backend=BACKEND, title=title),
        lambda: _counted(_histogram(s, layer), s.unit),
        layer=layer,
    )


def _counted(counts: xr.Dataset, unit: str) -> str:
    helps, hurts = (int(counts["count"].sel(outcome=one).sum()) for one in ("helping", "hurting"))
    both = counts["count"].sum("outcome").values
    middle = counts["left"].values[int(np.argmax(both.cumsum() >= both.sum() / 2))]
    largest = counts["right"].values[np.flatnonzero(both)[-1]] if both.any() else 0.0
    return (
        f"{helps:,} values help, {hurts:,} hurt and {int(counts['zero']):,} are exactly zero; the median magnitude of "
        f"the nonzero ones is about {number(middle)}, the largest up to {number(largest, unit)}."
    )


def _tail(counts: xr.Dataset) -> str:
    fits = get(tails.fit_tails(counts))
    shapes = {one: float(fits["shape"].sel(outcome=one, model="weibull")) for one in ("helping", "hurting")}
    return (
        f"Weibull shapes are k = {number(shapes['helping'])} (helping) and {number(shapes['hurting'])} (hurting); "
        "a Laplace distribution has k = 1, and smaller is heavier."
    )


def _kurtosis(s: Subject) -> str:
    values = get(mean_over_runs(kurtosis.excess_kurtosis(s.ds, _pooled(s))["excess_kurtosis"]))
    return (
        f"The excess kurtosis over parameters is {number(values.mean())} in the mean and {number(values.max())} at "
        "most; that of a Gaussian is 0."
    )


# ---- oscillation -----------------------------------------------------------------------------------------------


def _turning(s: Subject) -> Section:
    """Return the figures of oscillation."""
    return Section(
        "Oscillation",
        "How often weights turn around and gradients cross zero, and whether layers lag behind their gradients.",
        (
            single("Turns and crossings", partial(plot.turns, s.ds, backend=BACKEND), lambda: _turns(s)),
            single(
                "Who lags behind",
                lambda: plot.phase_lag(_lagging(s), backend=BACKEND),
                lambda: _lag(s),
            ),
        ),
    )


def _turns(s: Subject) -> str:
    words = {
        "theta": ("a weight turns around once in {} iterations", "no weight turns around"),
        "gradient": ("a gradient crosses zero once in {}", "no gradient crosses zero"),
    }
    studies = {"theta": oscillation.iterations_per_turn, "gradient": oscillation.iterations_per_crossing}
    there = [needs for needs in studies if needs in s.ds] or ["theta"]  # whose running count may stand in its place
    found = get({needs: studies[needs](s.ds) for needs in there})
    means = {needs: mean_over_runs(values.where(np.isfinite(values))) for needs, values in found.items()}
    often = [words[needs][0].format(number(mean)) for needs, mean in means.items() if np.isfinite(mean)]
    never = [words[needs][1] for needs, mean in means.items() if not np.isfinite(mean)]
    told = "; ".join([*([f"in the mean {' and '.join(often)}"] if often else []), *never])
    return f"{told[0].upper()}{told[1:]}."


def _lagging(s: Subject) -> xr.Dataset:
    """Return the correlations up to ten iterations apart, fewer in a short run."""
    return phase.phase_lag(s.ds, BY, min(10, (s.ds.sizes["iteration"] - 1) // 2))


def _lag(s: Subject) -> str:
    values = get(mean_over_runs(_lagging(s)["gradient_correlation"])).dropna("layer", how="all")
    if not values.sizes["layer"]:
        return "No layer moves and has a gradient, so there is nothing to lag behind."
    peaks = values.lag.values[values.fillna(-np.inf).argmax("lag").values]
    lags = sorted({int(lag) for lag in peaks})
    after = f"{lags[0]} iterations in every layer"
    if len(lags) > 1:
        after = f"{lags[0]} to {lags[-1]} iterations, depending on the layer"
    return f"Movement follows the negative gradient most closely after {after}."


# ---- synchronization -------------------------------------------------------------------------------------------


def _in_sync(s: Subject) -> Section:
    """Return the figure of synchronized peaks."""
    return Section(
        "Synchronization",
        "Do layers make their largest steps in the same iterations?",
        (
            single(
                "Peaks of learning",
                partial(plot.peaks, s.one, k=_k(s), classes="lca_unit_class" in s.ds, backend=BACKEND),
                lambda: _peaks(s),
            ),
        ),
    )


def _k(s: Subject) -> int:
    """Return how many peaks count: the paper's 20, fewer in a short run."""
    return max(1, min(20, s.ds.sizes["iteration"] // 5))


def _peaks(s: Subject) -> str:
    classes = "lca_unit_class" in s.ds
    test = get(synchronization.synchronization_test(s.one, trials=_TRIALS, k=_k(s), classes=classes))
    mean = f" (mean over {s.kind(many=True)})" if classes else ""
    shifted = f"{number(test['baseline_mean'])} (p = {number(test['p'])})"
    return (
        f"Of the {_k(s)} largest steps of every layer, {number(test['observed_mean'])} fall together in all layers"
        f"{mean}; with layers shifted in time it is {shifted}{s.which_run}."
    )
