"""Sections on units, the classes they serve, and single parameters."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr

from lcakit import plot
from lcakit.analysis import ranking, specialization
from lcakit.analysis.aggregate import sum_by
from lcakit.analysis.noise import signs_per_class
from lcakit.analysis.oscillation import oscillation_detail
from lcakit.errors import TrajectoryError
from lcakit.plot.parameters import parameter_values
from lcakit.text import capitalized
from lcakit.trajectory.select import select
from lcakit.views.report.context import (
    BACKEND,
    BY,
    MOST_PAIRS,
    Figure,
    Group,
    Section,
    Subject,
    finite_max,
    get,
    join_names,
    kernel_layers,
    mean_over_runs,
    name,
    number,
    percent,
)

__all__ = ["sections"]


def __dir__() -> list[str]:
    return __all__


def sections(subject: Subject) -> list[Section]:
    """Return the sections on units and parameters."""
    return [_units(subject), _specialization(subject), _parameters(subject)]


def _to_draw(s: Subject) -> list[str]:
    """Return the layers to draw; ``""`` where the file has none, whose figure then explains that."""
    return s.layers if kernel_layers(s.ds) else [""]


# ---- units -----------------------------------------------------------------------------------------------------


def _units(s: Subject) -> Section:
    """Return the figures of units over time, by layer and class, and of the classes of the strongest unit."""
    layers = _to_draw(s)
    classes = s.by_class if len(layers) * len(s.by_class) <= MOST_PAIRS else [""]
    maps = tuple(_unit_map(s, layer, cls) for layer in layers for cls in classes)
    curves = tuple(Figure(partial(_curves, s, layer), partial(_curves_text, s, layer), layer=layer) for layer in layers)
    return Section(
        "Units",
        f"When each unit helps, and which {s.kind(many=True)}.",
        (Group("Units over time", maps), Group(f"{_classes(s)} of the strongest unit", curves)),
    )


def _classes(s: Subject) -> str:
    """Return the word for the classes of the file at the beginning of a title."""
    return capitalized(s.kind(many=True))


def _unit_map(s: Subject, layer: str, cls: str) -> Figure:
    title = f"LCA of the units of {name(layer)}{f', {s.kind()} {name(cls)}' if cls else ''}"
    ds = s.of_class(cls, s.one)
    return Figure(
        lambda: plot.unit_map(ds, _known(layer), backend=BACKEND, title=title),
        lambda: _unit_text(s, layer, cls),
        layer,
        cls,
    )


def _known(layer: str) -> str:
    if not layer:
        raise TrajectoryError("this dataset has no layer with a kernel, so it has no units to draw")
    return layer


def _by_unit(s: Subject, layer: str, cls: str = "") -> xr.DataArray:
    """Return LCA (unit) of a layer over the run, by channel number, in memory."""
    if "lca_unit_class" in s.one:
        part = select(s.of_class(cls, s.one), layer=_known(layer))
        totals = part["lca_unit_class"].sum(["iteration", "class"], dtype=np.float64)
    else:
        part = select(s.one, layer=_known(layer))
        totals = sum_by(part, "unit").sum("iteration")
    found: xr.DataArray = get(totals.assign_coords(unit=part["unit_channel"].values))
    return found


def _unit_text(s: Subject, layer: str, cls: str) -> str:
    totals = _by_unit(s, layer, cls)
    top = totals.isel(unit=int(np.argmin(totals.values)))
    what = f"the loss of {s.kind()} {name(cls)}" if cls else "the loss"
    return (
        f"{int((totals < 0).sum())} of {totals.size} units of {name(layer)} lower {what} over the run, "
        f"{int((totals > 0).sum())} raise it; the strongest is unit {int(top['unit'])} with "
        f"{number(top, s.unit, True)}{s.which_run}."
    )


def _strongest(s: Subject, layer: str) -> int:
    totals = _by_unit(s, layer)
    return int(totals["unit"][int(np.argmin(totals.values))])


def _curves(s: Subject, layer: str) -> object:
    unit = _strongest(s, layer)
    title = f"{_classes(s)} that unit {unit} of {name(layer)} helps and hurts"
    return plot.class_curves(_few_classes(s), unit, layer, backend=BACKEND, title=title)


def _few_classes(s: Subject) -> xr.Dataset:
    """Return the first run with the classes that figures are drawn of."""
    return select(s.one, cls=s.classes) if s.classes else s.one


def _curves_text(s: Subject, layer: str) -> str:
    unit = _strongest(s, layer)
    ends = get(specialization.class_curves(s.one, unit, layer).isel(iteration=-1))
    most, least = (ends.isel({"class": int(getattr(np, end)(ends.values))}) for end in ("argmin", "argmax"))
    return (
        f"Unit {unit} helped most in {name(layer)}: it changed the loss of {s.kind()} {name(most['class'].values)} by "
        f"{number(most, s.unit, True)}, at the other end that of {s.kind()} {name(least['class'].values)} by "
        f"{number(least, s.unit, True)}{s.which_run}."
    )


# ---- specialization --------------------------------------------------------------------------------------------


def _specialization(s: Subject) -> Section:
    """Return the figures of how specialized units are."""
    top = [k for k in (1, 2, 3) if k <= len(s.class_names)] or [1]
    return Section(
        "Specialization",
        f"Do units serve one {s.kind()}, few, or all?",
        (
            Group(
                f"Units of few {s.kind(many=True)}",
                (Figure(partial(plot.specialized_fraction, s.ds, top, backend=BACKEND), lambda: _special(s)),),
            ),
            Group(
                f"{_classes(s)} helped at once",
                (Figure(partial(plot.signs_per_class, s.ds, backend=BACKEND), lambda: _at_once(s)),),
            ),
        ),
    )


def _special(s: Subject) -> str:
    shares = get(mean_over_runs(specialization.specialized_fraction(s.ds, [1], by=BY).sel(top=1)))
    pairs = zip(shares["layer"].values, shares.values, strict=True)
    each = [f"{name(layer)} {percent(share)}" for layer, share in pairs]
    return f"Units that give 80 % of their help to a single {s.kind()}: {join_names(each)}."


def _at_once(s: Subject) -> str:
    shares = get(mean_over_runs(signs_per_class(s.ds).mean("iteration")))
    everything = percent(shares.isel(classes_helped=-1))
    mean = float((shares * shares["classes_helped"]).sum())
    return (
        f"In the mean iteration a unit that acts helps {number(mean)} of {len(s.class_names)} {s.kind(many=True)}, and "
        f"{everything} of the units help all of them."
    )


# ---- parameters ------------------------------------------------------------------------------------------------


def _parameters(s: Subject) -> Section:
    """Return the heat maps of layers over the whole run, and the parameter that helped most."""
    maps = tuple(_parameter_map(s, layer) for layer in _to_draw(s))
    one = Figure(lambda: plot.detail(s.one, _top(s), backend=BACKEND), lambda: _detail(s))
    return Section(
        "Parameters",
        "Where in a layer the learning happens.",
        (Group("Map of a layer", maps), Group("The parameter that helped most", (one,))),
    )


def _parameter_map(s: Subject, layer: str) -> Figure:
    return Figure(
        lambda: plot.parameter_map(s.one, _known(layer), backend=BACKEND),
        lambda: _map_text(s, layer),
        layer,
    )


def _map_text(s: Subject, layer: str) -> str:
    part = select(s.one, layer=_known(layer), role="kernel")
    totals = get(parameter_values(part, "lca", None)).values
    helps, hurts = percent((totals < 0).mean()), percent((totals > 0).mean())
    return (
        f"Over the whole run {helps} of the {totals.size:,} weights of {name(layer)} helped and {hurts} hurt; the "
        f"strongest stands for {number(totals[finite_max(np.abs(totals))], s.unit, True)}{s.which_run}."
    )


def _top(s: Subject) -> str:
    found = get(ranking.extremes(s.one, "parameter", 1))
    label = str(found["label"].sel(outcome="helping", rank=0).values)
    if not label:
        raise TrajectoryError("no parameter helped over this run")
    return label


def _detail(s: Subject) -> str:
    label = _top(s)
    lca = get(oscillation_detail(s.one, label)["lca"]).values
    return (
        f"{name(label)} changed the loss by {number(lca.sum(), s.unit, True)} over the run: it helped in "
        f"{int((lca < 0).sum()):,} iterations and hurt in {int((lca > 0).sum()):,}{s.which_run}."
    )
