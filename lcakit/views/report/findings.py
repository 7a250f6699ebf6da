"""What is remarkable in a run: sentences computed from its numbers, the most surprising five, with their pictures.

Every finding has a weight between 0 and 1 that says how far its number is from what nobody would remark on. The report
opens with the five of largest weight, in the order of this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from lcakit import plot
from lcakit.analysis import noise
from lcakit.analysis.layerwise import layer_lca
from lcakit.errors import LcakitError
from lcakit.plot.parameters import of_units
from lcakit.trajectory.require import require
from lcakit.views.report.context import (
    BACKEND,
    BY,
    MOST_CHOICES,
    Group,
    Section,
    Subject,
    get,
    join_names,
    mean_over_runs,
    name,
    number,
    percent,
    single,
    window,
)

__all__ = ["MOST", "Finding", "found", "section"]


def __dir__() -> list[str]:
    return __all__


MOST = 5
_Numbers = dict[str, xr.DataArray]


@dataclass(frozen=True)
class Finding:
    """A sentence with its picture, and how remarkable it is: 0 as anyone expects, 1 as nobody does."""

    weight: float
    title: str
    sentence: str
    draw: Callable[[], Any]
    wide: bool = False

    def group(self) -> Group:
        """Return it as a figure of a report."""
        return single(self.title, self.draw, lambda: self.sentence, self.wide)


def section(s: Subject) -> Section:
    """Return the section that opens a report: at most :data:`MOST` findings."""
    findings = found(s)
    kept = sorted(sorted(findings, key=lambda one: -one.weight)[:MOST], key=findings.index)
    return Section(
        "Findings",
        "What is most remarkable in this training; the sections below have all of it.",
        tuple(one.group() for one in kept),
    )


def found(s: Subject) -> list[Finding]:
    """Return all findings that the file has the numbers for."""
    numbers = _numbers(s)
    made = [make(s, numbers) for make in (_fall, _layers, _noise, _setbacks, _units, _classes, _exactness, _unseen)]
    return [one for one in made if one is not None and np.isfinite(one.weight)]


def _numbers(s: Subject) -> _Numbers:
    """Return what the findings are computed from, read in one pass; what the file does not hold is not there."""
    lazy: dict[str, Callable[[], xr.DataArray]] = {
        "loss": lambda: require(s.ds, "loss"),
        "layers": lambda: layer_lca(s.ds, BY),
        "validation": lambda: layer_lca(s.ds, BY, "lca_val"),
        "helping": lambda: noise.fraction_helping(s.ds),
        "units": lambda: of_units(s.one, "lca").sum("iteration", dtype=np.float64),
        "loss_class": lambda: require(s.ds, "loss_class").isel(snapshot=-1),
    }
    held = {}
    for key, make in lazy.items():
        try:
            held[key] = mean_over_runs(make())
        except (LcakitError, ValueError):
            continue
    found: _Numbers = get(held)
    return found


# ---- the course of training ------------------------------------------------------------------------------------


def _fall(s: Subject, n: _Numbers) -> Finding | None:
    """How early half of the fall of the loss is reached."""
    if "loss" not in n:
        return None
    loss, draw = n["loss"].values, partial(plot.loss, s.ds, backend=BACKEND)
    change = loss[-1] - loss[0]
    moves = f"from {number(loss[0])} to {number(loss[-1], s.unit)}"
    if not change < 0:
        return Finding(1.0, "The loss does not fall", f"The loss does not fall: it goes {moves}.", draw)
    half = int(np.argmax(loss <= loss[0] + change / 2))
    share = half / (loss.size - 1)
    sentence = (
        f"The loss falls {moves}; half of that is done after {half:,} of {loss.size - 1:,} iterations "
        f"({percent(share)} of the training)."
    )
    return Finding(max(0.0, 1 - 2 * share), "Where the loss falls", sentence, draw)


def _setbacks(s: Subject, n: _Numbers) -> Finding | None:
    """How many iterations raise the loss, and the worst of them."""
    if "loss" not in n or "layers" not in n:
        return None
    steps, by_layer = np.diff(n["loss"].values), n["layers"]
    rises, worst = float((steps > 0).mean()), int(np.argmax(np.nan_to_num(steps, nan=-np.inf)))
    if not steps[worst] > 0:
        sentence = "No iteration raises the loss."
        weight = 0.5
    else:
        layer = by_layer.isel(iteration=worst).argmax("layer")
        where = name(by_layer["layer"].values[int(layer)])
        at = int(by_layer["iteration"].values[worst])
        sentence = (
            f"{percent(rises)} of the iterations raise the loss; the worst, iteration {at}, by "
            f"{number(steps[worst], s.unit)}, of which {where} does "
            f"{number(by_layer.isel(iteration=worst, layer=int(layer)), s.unit, True)}."
        )
        fall = abs(float(n["loss"].values[-1] - n["loss"].values[0])) or 1.0
        weight = min(1.0, max(2 * rises, float(steps[worst]) / fall))
    draw = partial(plot.layer_map, s.one, window=window(s), backend=BACKEND)
    return Finding(weight, "Steps back", sentence, draw)


# ---- who does it -----------------------------------------------------------------------------------------------


def _layers(s: Subject, n: _Numbers) -> Finding | None:
    """Layers that hurt over the run; where none does, how much of the fall the strongest carries."""
    if "layers" not in n or n["layers"].sizes["layer"] < 2:
        return None
    totals = n["layers"].sum("iteration", dtype=np.float64)
    names, values = totals["layer"].values, totals.values
    draw = partial(plot.layers, s.ds, backend=BACKEND)
    top = int(np.argmin(values))
    if (values > 0).any():
        hurting = names[values > 0]
        raised = number(values[values > 0].sum(), s.unit, True)
        verb = "raises" if hurting.size == 1 else "raise"
        sentence = (
            f"Over the whole run {join_names(hurting.tolist())} {verb} the loss, by {raised} together, while "
            f"{name(names[top])} lowers it most, by {number(values[top], s.unit, True)}."
        )
        share = float(values[values > 0].sum() / np.abs(values).sum())
        return Finding(0.6 + 0.4 * min(1.0, 2 * share), "Layers that hurt", sentence, draw)
    share = float(values[top] / values.sum())
    sentence = (
        f"Every layer lowers the loss; {name(names[top])} alone does {percent(share)} of it, "
        f"{number(values[top], s.unit, True)} of {number(values.sum(), s.unit, True)}."
    )
    return Finding(_above(share, 1 / values.size), "Which layer learns", sentence, draw)


def _noise(s: Subject, n: _Numbers) -> Finding | None:
    """How close to a half the share of parameters that help is."""
    if "helping" not in n:
        return None
    share = float(n["helping"])
    sentence = (
        f"In the mean iteration {percent(share)} of the parameters that do something help, and {percent(1 - share)} "
        "hurt: what they do cancels in part."
        if share > 0.5
        else f"In the mean iteration more parameters hurt ({percent(1 - share)}) than help ({percent(share)})."
    )
    draw = partial(plot.help_hurt_zero, s.ds, window(s), backend=BACKEND)
    return Finding(1 - 2 * abs(share - 0.5), "Learning is noisy", sentence, draw)


def _units(s: Subject, n: _Numbers) -> Finding | None:
    """How much of the fall the strongest tenth of the units carries."""
    if "units" not in n or n["units"].size < max(10, 3 * s.ds.sizes["layer"]):  # or sums of whole layers
        return None
    totals = np.sort(n["units"].values)
    most, helping = totals.size // 10, totals[totals < 0].sum()
    if not helping < 0:
        return None
    share = float(totals[:most][totals[:most] < 0].sum() / helping)
    hurting = float((totals > 0).mean())
    strongest = n["units"].isel(unit=int(np.argmin(n["units"].values)))
    layer = str(s.one["layer"].values[int(strongest["unit_layer"])])
    sentence = (
        f"The strongest tenth of the units ({most} of {totals.size}) does {percent(share)} of what units help; "
        f"{percent(hurting)} of them hurt over the run; the strongest is unit {int(strongest['unit_channel'])} of "
        f"{name(layer)} with {number(strongest, s.unit, True)}{s.which_run}."
    )
    draw = partial(plot.unit_map, s.one, layer, backend=BACKEND)
    return Finding(_above(share, 0.1), "Few units do much", sentence, draw)


def _classes(s: Subject, n: _Numbers) -> Finding | None:
    """How much of the loss at the end is of one class."""
    if "loss_class" not in n or not 2 <= len(s.class_names) <= MOST_CHOICES:
        return None
    parts = n["loss_class"].values
    top, share = int(np.argmax(parts)), float(parts.max() / parts.sum())
    least = s.class_names[int(np.argmin(parts))]
    sentence = (
        f"{s.kind().capitalize()} {name(s.class_names[top])} is {percent(share)} of the loss that is left, "
        f"{number(parts[top], s.unit)}; {name(least)} is the smallest part, {number(parts.min(), s.unit)}."
    )
    draw = partial(plot.loss, s.ds, classes=True, backend=BACKEND, title=f"Loss of each {s.kind()}")
    return Finding(_above(share, 1 / parts.size), f"The hardest {s.kind()}", sentence, draw)


# ---- can it be trusted, does it carry over ---------------------------------------------------------------------


def _exactness(s: Subject, n: _Numbers) -> Finding | None:
    """How far the allocations miss the change of the loss, and how far those of first order would."""
    a = s.account
    if a.error_percent is None or a.lca_sum is None:
        return None
    miss, first = abs(a.error_percent), a.first_order_error_percent
    sentence = f"All LCA together misses the change of the loss by {number(miss)} %"
    if first is not None:
        sentence += f"; first-order allocations would miss it by {number(abs(first))} %"
    weight = 1.0 if miss > 1 else 0.5 * min(1.0, abs(first or 0) / 100)
    draw = partial(plot.residual, s.one, backend=BACKEND)
    return Finding(weight, "Do the numbers add up?", f"{sentence}{s.which_run}.", draw, wide=True)


def _unseen(s: Subject, n: _Numbers) -> Finding | None:
    """How much less, or more, the loss of examples falls that were not trained on."""
    if "validation" not in n or "layers" not in n:
        return None
    trained, unseen = (float(n[key].sum()) for key in ("layers", "validation"))
    if not trained < 0:
        return None
    sentence = (
        f"The loss of examples that were not trained on changes by {number(unseen, s.unit, True)}, that of those that "
        f"were by {number(trained, s.unit, True)}: {percent(unseen / trained)} of the learning carries over."
    )
    draw = partial(plot.train_validation, s.ds, backend=BACKEND)
    return Finding(min(1.0, abs(1 - unseen / trained)), "What carries over", sentence, draw)


def _above(share: float, expected: float) -> float:
    """Return how far a share is above the one expected, as a part of how far it could be."""
    return max(0.0, (share - expected) / (1 - expected))
