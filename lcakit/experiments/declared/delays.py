"""Experiments with the delay of the last layer: what momentum makes of its gradients (section 4 of the paper)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import xarray as xr

from lcakit.analysis.layers import layer_trend
from lcakit.experiments.declared.experiment import NOT_GIVEN, Claim, Experiment, Scale
from lcakit.experiments.declared.layerwise import SMALL, SMALL_RESNET, run_totals
from lcakit.experiments.declared.report import number
from lcakit.experiments.declared.results import Results
from lcakit.experiments.interventions import Intervention
from lcakit.experiments.run import Run

__all__ = ["EXPERIMENTS", "delayed_layer", "same_noise", "same_step"]


def __dir__() -> list[str]:
    return __all__


_DELAYS = tuple(range(10))
_MOMENTUM = 0.9  # of all other layers


# ---- the table ------------------------------------------------------------------------------------------------------


def delayed_layer(results: Results) -> xr.Dataset:
    """Return the LCA of the last layer by its delay, and the line through all runs.

    ``lca``, ``others`` (all other layers together), ``before`` (the layer before the last) and ``final_loss`` (delay),
    means over seeds; ``slope`` (nats per iteration of delay), ``intercept`` (mean over seeds), ``r`` and ``p`` (of the
    slope against zero). The line has one slope and an intercept of its own for each seed, as the runs with one seed
    share their initial values and batches.
    """
    tasks = [task for arm in results.arms for task in results.of(arm)]
    runs = results.open_all(tasks)
    delays = [int(task.run.interventions[0].delay or 0) for task in tasks]
    totals = run_totals(runs)
    lca = totals["lca"]
    last = {"lca": lca.isel(layer=-1, drop=True), "before": lca.isel(layer=-2, drop=True)}
    found = xr.Dataset(last | {"others": lca.sum("layer") - last["lca"], "final_loss": totals["final_loss"]})
    grouped = found.assign_coords(delay=("run", delays)).groupby("delay")
    mean, deviation = grouped.mean(), grouped.std(ddof=1)
    line = layer_trend(runs, delays, blocks=[task.run.seed for task in tasks]).isel(layer=-1, drop=True).compute()
    return xr.Dataset(
        {
            **{str(name): mean[name] for name in found},
            **{f"{name}_sd": deviation[name] for name in found},
            **{name: line[name] for name in ("slope", "intercept", "r", "p")},
        }
    )


def _trend(result: xr.Dataset) -> str:
    slope, r, p = (float(result[name]) for name in ("slope", "r", "p"))
    shape = f"r = {number(r, 3)}, p = {number(p, 2)} (one test, an intercept for each seed)"
    return f"{number(slope)} nats per iteration of delay, {shape}"


# ---- declarations ---------------------------------------------------------------------------------------------------


def same_step(delay: int) -> float:
    r"""Return the factor of the rate with which a lasting gradient moves a layer as far as with momentum 0.9.

    .. math:: \frac{1 - m}{1 - 0.9} \quad \text{with} \quad m = \frac{d}{d + 1}

    Momentum adds up a gradient that stays the same to :math:`1 / (1 - m) = d + 1` times itself.

    Examples
    --------
    >>> round(same_step(0), 6)
    10.0
    """
    return (1 / (delay + 1)) / (1 - _MOMENTUM)


def same_noise(delay: int) -> float:
    r"""Return the factor of the rate with which gradients that are noise move a layer as far as with momentum 0.9.

    .. math:: \sqrt{\frac{1 - m^2}{1 - 0.9^2}} \quad \text{with} \quad m = \frac{d}{d + 1}

    Momentum adds up independent gradients to a sum whose standard deviation is :math:`1 / \sqrt{1 - m^2}` times theirs.

    Examples
    --------
    >>> round(same_noise(0), 3)
    2.294
    """
    momentum = delay / (delay + 1)
    return math.sqrt((1 - momentum**2) / (1 - _MOMENTUM**2))


def _delays(run: Run, factor: Callable[[int], float] | None) -> dict[str, Run]:
    """Return a run for each delay; ``factor`` of it is that of the layer's learning rate."""

    def intervention(delay: int) -> Intervention:
        return Intervention("last", delay=delay, lr_factor=factor(delay) if factor else None)

    return {f"delay-{delay}": dataclasses.replace(run, interventions=(intervention(delay),)) for delay in _DELAYS}


def _experiment(
    name: str, title: str, source: str, factor: Callable[[int], float] | None = None, paper: str = NOT_GIVEN
) -> Experiment:
    return Experiment(
        name=name,
        title=title,
        source=source,
        varied="the momentum of the last layer, d / (d + 1) for a delay of d iterations",
        scales={
            "small": Scale(_delays(SMALL, factor), tuple(range(5)), SMALL_RESNET),
            "paper": Scale(_delays(Run("cifar10-resnet20"), factor), tuple(range(3))),
        },
        table=delayed_layer,
        claims=(Claim("LCA of the last layer against its delay", _trend, paper),),
        resolution="layer",
        test_loss=True,
    )


_CHECK = "a check of Fig. 5; not in the paper"
EXPERIMENTS = (
    _experiment("delays", "Does the last layer hurt because it is late?", "Fig. 5", paper="a linear trend"),
    _experiment(
        "delays-same-step",
        "The same with steps of one length for a lasting gradient: does the last layer hurt because it is late?",
        _CHECK,
        same_step,
    ),
    _experiment(
        "delays-same-noise",
        "The same with steps of one length for gradients that are noise: does the last layer hurt because it is late?",
        _CHECK,
        same_noise,
    ),
)
