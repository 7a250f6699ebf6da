"""Sections on the course of training: the loss, the LCA of layers, and the loss of examples that were not seen."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr

from lcakit import plot
from lcakit.analysis import generalization
from lcakit.analysis.aggregate import windowed
from lcakit.analysis.layerwise import layer_lca
from lcakit.plot._colours import sign_words
from lcakit.trajectory.require import require
from lcakit.views.report.context import (
    BACKEND,
    BY,
    Figure,
    Group,
    Section,
    Subject,
    finite_max,
    get,
    join_names,
    mean_over_runs,
    name,
    number,
    percent,
    single,
    window,
)

__all__ = ["layers", "loss", "unseen"]


def __dir__() -> list[str]:
    return __all__


# ---- loss ------------------------------------------------------------------------------------------------------


def loss(s: Subject) -> Section:
    """Return the figures of the loss, and of how closely the allocations add up to it."""
    parts = partial(plot.loss, s.ds, classes=True, backend=BACKEND, title=f"Loss of each {s.kind()}")
    return Section(
        "Loss",
        "How the loss falls, and how exactly the allocations add up to it.",
        (
            single("The loss", partial(plot.loss, s.ds, backend=BACKEND), lambda: _loss(s)),
            single(f"Its {s.kind(many=True)}", parts, lambda: _loss_classes(s)),
            single(
                "Do the allocations add up?",
                partial(plot.residual, s.one, backend=BACKEND),
                lambda: _residual(s),
                wide=True,
            ),
        ),
    )


def _loss(s: Subject) -> str:
    a = s.account
    moves = f"The loss goes from {number(a.loss_first)} to {number(a.loss_last, s.unit)} in {a.iterations:,} iterations"
    if a.accuracy_last is None or a.accuracy_first is None:
        return f"{moves}{s.which_run}."
    return f"{moves}, the accuracy from {a.accuracy_first:.1%} to {a.accuracy_last:.1%}{s.which_run}."


def _loss_classes(s: Subject) -> str:
    last = get(mean_over_runs(require(s.ds, "loss_class")).isel(snapshot=-1))
    top = last.isel({"class": int(np.argmax(last.values))})
    worst = name(top["class"].values)
    return (
        f"The parts of the {s.kind(many=True)} add up to the loss; at the end {s.kind()} {worst} has the largest, "
        f"{number(top, s.unit)} of {number(last.sum(), s.unit)}."
    )


def _residual(s: Subject) -> str:
    a = s.account
    first = a.first_order_error_percent
    if a.error_percent is None or a.worst_residual is None:
        return f"All LCA together is {number(a.lca_sum, s.unit, True)}{s.which_run}."
    other = f" (first order: {number(first, sign=True)} %)" if first is not None else ""
    worst = f"the worst iteration, {a.worst_iteration}, misses by {number(a.worst_residual, s.unit, True)}"
    return (
        f"All LCA together is {number(a.lca_sum, s.unit, True)}, {number(a.error_percent, '%', True)} off the change "
        f"of the loss{other}; {worst}{s.which_run}."
    )


# ---- layers ----------------------------------------------------------------------------------------------------


def layers(s: Subject) -> Section:
    """Return the figures of layers, over the run and over time, by class."""
    over_time = [
        Figure(
            partial(plot.layers_over_time, s.of_class(cls), backend=BACKEND, title=_titled(s, cls)),
            partial(_layers_over_time, s, cls),
            cls=cls,
        )
        for cls in s.by_class
    ]
    maps = [
        Figure(
            partial(plot.layer_map, s.of_class(cls, s.one), window=window(s), backend=BACKEND, title=_mapped(s, cls)),
            partial(_layer_map, s, cls),
            cls=cls,
        )
        for cls in s.by_class
    ]
    return Section(
        "Layers",
        "Which layers lower the loss, which raise it, and when.",
        (
            single("Over the run", partial(plot.layers, s.ds, backend=BACKEND), lambda: _layers(s)),
            Group("Running sums", tuple(over_time)),
            Group("Iteration by iteration", tuple(maps)),
        ),
    )


def _titled(s: Subject, cls: str) -> str:
    return f"Cumulative LCA of each layer{f', {s.kind()} {name(cls)}' if cls else ''}"


def _mapped(s: Subject, cls: str) -> str:
    return f"LCA of each layer and iteration{f', {s.kind()} {name(cls)}' if cls else ''}"


def _per_layer(s: Subject, cls: str = "") -> xr.DataArray:
    """Return LCA (iteration, layer), in memory; the mean over runs."""
    found: xr.DataArray = get(mean_over_runs(layer_lca(s.of_class(cls), BY)))
    return found


def _layers(s: Subject) -> str:
    totals = _per_layer(s).sum("iteration")
    whole = number(totals.sum(), s.unit, True)
    hurting = [str(one) for one in totals["layer"].values[totals.values > 0]]
    top = totals.isel(layer=int(np.argmin(totals.values)))
    mean = " (means over runs with their 95 % intervals)" if s.several else ""
    verdict = f"{join_names(hurting)} raised the loss" if hurting else "no layer raised the loss"
    if not top < 0:
        return f"No layer lowered the loss: all together changed it by {whole}; {verdict}{mean}."
    return (
        f"{name(top['layer'].values)} lowered the loss most, {number(top, s.unit, True)} of {whole}; {verdict}{mean}."
    )


def _layers_over_time(s: Subject, cls: str) -> str:
    series = _per_layer(s, cls)
    total = series.sum("layer").values
    half = int(np.argmax(np.cumsum(total) <= total.sum() / 2)) if total.sum() < 0 else -1
    reached = f"half of it was reached at iteration {series['iteration'].values[half]}" if half >= 0 else "no fall"
    what = f"the loss of {s.kind()} {name(cls)}" if cls else "the loss"
    return f"All layers together changed {what} by {number(total.sum(), s.unit, True)}; {reached}."


def _layer_map(s: Subject, cls: str) -> str:
    series = get(windowed(layer_lca(s.of_class(cls, s.one), BY), window(s)))
    helping, hurting = sign_words()
    hurts = percent((series > 0).mean())
    strongest = series[np.unravel_index(finite_max(np.abs(series.values)), series.shape)]
    first, last = (int(strongest[end]) for end in ("window", "window_end"))
    when = f"iteration {first}" if first == last else f"iterations {first} to {last}"
    return (
        f"{helping.capitalize()} lowers the loss, {hurting} raises it: {hurts} of these cells are {hurting}; the "
        f"strongest is {name(strongest['layer'].values)} in {when}, "
        f"{number(strongest, s.unit, True)}{s.which_run}."
    )


# ---- generalization --------------------------------------------------------------------------------------------


def unseen(s: Subject) -> Section:
    """Return the figures of another objective along the same trajectory."""
    return Section(
        "Training against validation",
        "Does what helps the training loss help the loss of examples that were not trained on?",
        (
            single("By layer", partial(plot.train_validation, s.ds, backend=BACKEND), lambda: _train_validation(s)),
            single("Over time", partial(plot.overfitting_map, s.one, backend=BACKEND), lambda: _overfitting(s)),
        ),
    )


def _train_validation(s: Subject) -> str:
    sums = get(generalization.train_validation(s.ds, BY))
    train, held = (number(mean_over_runs(sums[one]).sum(), s.unit, True) for one in ("train", "validation"))
    return f"Over the run LCA adds up to {train} of the training loss and {held} of the validation loss."


def _overfitting(s: Subject) -> str:
    state = get(generalization.overfitting_map(s.one, BY)["state"])
    apart = percent((state == generalization.STATES.index("helps_train_hurts_validation")).mean())
    return f"In {apart} of these cells a layer helps the training loss and hurts the validation loss{s.which_run}."
