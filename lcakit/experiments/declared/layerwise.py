"""Experiments with layers: those that hurt, frozen, slowed down or less delayed (section 4.2 of the paper)."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping

import numpy as np
import xarray as xr

from lcakit.analysis.layers import layer_trend
from lcakit.analysis.layerwise import layer_lca
from lcakit.analysis.runs import compare, one_sample
from lcakit.experiments.declared.experiment import NOT_GIVEN, Claim, Experiment, Scale
from lcakit.experiments.declared.report import number
from lcakit.experiments.declared.results import Results
from lcakit.experiments.interventions import Intervention
from lcakit.experiments.run import Run

__all__ = ["EXPERIMENTS", "compared_layers", "delayed_layer"]


def __dir__() -> list[str]:
    return __all__


_PLAIN = "plain"
_DELAYS = tuple(range(10))
_HURTS = "positive, p < 1e-4 (ResNet-20, ten runs)"
_SMALL_RESNET = "ResNet-8 of 4, 8, 16 channels instead of ResNet-20; 1 000 training images, batch 100, 100 iterations"
_SMALL_DIGITS = "8 x 8 digits instead of CIFAR-10; 1 000 training images, batch 50, 100 iterations"


# ---- tables ---------------------------------------------------------------------------------------------------------


def compared_layers(results: Results) -> xr.Dataset:
    """Return LCA of each layer and the final loss of each arm, beside those of the plain runs with the same seeds.

    ``lca`` (arm, layer) over the run, ``p`` of its mean against zero (Holm, over layers), ``change`` from the plain
    runs and ``change_p`` (paired, Holm); ``final_loss`` (arm), ``final_loss_change`` and ``final_loss_p``. Means over
    seeds; p is NaN with a single seed, and where nothing varies, as in a frozen layer.
    """
    runs = {arm: _totals(results.open(arm, paired=True)) for arm in results.arms}
    each = [_beside(totals, runs[_PLAIN]) for totals in runs.values()]
    return xr.concat(each, dim=xr.DataArray(list(runs), dims="arm", name="arm"))


def _totals(runs: xr.Dataset) -> xr.Dataset:
    """Return LCA over the run and final loss, (run, layer) and (run)."""
    lca = layer_lca(runs).sum("iteration", keep_attrs=True)
    return xr.Dataset({"lca": lca, "final_loss": runs["loss"].isel(snapshot=-1, drop=True)}).compute()


def _beside(totals: xr.Dataset, plain: xr.Dataset) -> xr.Dataset:
    means, deviations = totals.mean("run"), totals.std("run", ddof=1)
    change = means - plain.mean("run")
    found = {name: means[name] for name in means.data_vars}
    found |= {f"{name}_sd": deviations[name] for name in means.data_vars}
    found |= {"change": change["lca"], "final_loss_change": change["final_loss"]}
    return xr.Dataset(found | _tested(totals, plain))


def _tested(totals: xr.Dataset, plain: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return p-values: of the layers' LCA, of its change from the plain runs, and of the change of the final loss."""
    lca, loss = totals["lca"], totals["final_loss"]
    if totals.sizes["run"] < 2:
        layers, one = (
            xr.full_like(lca.isel(run=0, drop=True), np.nan),
            xr.full_like(loss.isel(run=0, drop=True), np.nan),
        )
        return {"p": layers, "change_p": layers, "final_loss_p": one}
    with warnings.catch_warnings():  # SciPy warns of what does not vary, such as a frozen layer
        warnings.simplefilter("ignore", RuntimeWarning)
        return {
            "p": one_sample(lca, correction="holm", over="layer")["p_corrected"],
            "change_p": compare(plain["lca"], lca, paired=True, correction="holm", over="layer")["p_corrected"],
            "final_loss_p": compare(plain["final_loss"], loss, paired=True)["p"],
        }


def delayed_layer(results: Results) -> xr.Dataset:
    """Return the LCA of the last layer by its delay, and the line through all runs.

    ``lca`` and ``final_loss`` (delay), means over seeds; ``slope`` (nats per iteration of delay), ``intercept``, ``r``
    and ``p`` (of the slope against zero).
    """
    tasks = [task for arm in results.arms for task in results.of(arm)]
    runs = results.open_all(tasks)
    delays = [int(task.run.interventions[0].delay or 0) for task in tasks]
    totals = _totals(runs).isel(layer=-1).drop_vars("layer").assign_coords(delay=("run", delays)).groupby("delay")
    mean, deviation = totals.mean(), totals.std(ddof=1)
    line = layer_trend(runs, delays).isel(layer=-1, drop=True).compute()
    return xr.Dataset(
        {
            **{name: mean[name] for name in ("lca", "final_loss")},
            **{f"{name}_sd": deviation[name] for name in ("lca", "final_loss")},
            **{name: line[name] for name in ("slope", "intercept", "r", "p")},
        }
    )


# ---- paper beside measured ------------------------------------------------------------------------------------------


def _layer(position: int, paper: str) -> Claim:
    def measure(result: xr.Dataset) -> str:
        row = result.sel(arm=_PLAIN).isel(layer=position)
        return _with_p(row["lca"], row["p"])

    return Claim(f"LCA of the {'first' if position == 0 else 'last'} layer, plain", measure, paper)


def _others(arm: str, position: int) -> Claim:
    def measure(result: xr.Dataset) -> str:
        others = result["change"].sel(arm=arm).sum() - result["change"].sel(arm=arm).isel(layer=position)
        return f"{number(float(others))} nats"

    return Claim(f"LCA of all other layers, {arm} − plain", measure)


def _final_loss(arm: str) -> Claim:
    def measure(result: xr.Dataset) -> str:
        row = result.sel(arm=arm)
        return _with_p(row["final_loss_change"], row["final_loss_p"])

    return Claim(f"final loss, {arm} − plain", measure)


def _with_p(value: xr.DataArray, p: xr.DataArray) -> str:
    return f"{number(float(value))} nats, p = {number(float(p), 2)}"


def _trend(result: xr.Dataset) -> str:
    slope, r, p = (float(result[name]) for name in ("slope", "r", "p"))
    return f"{number(slope)} nats per iteration of delay, r = {number(r, 3)}, p = {number(p, 2)}"


# ---- declarations ---------------------------------------------------------------------------------------------------


def _small(network: str = "cifar10-resnet8w4", batch_size: int = 100) -> Run:
    return Run(network, iterations=100, batch_size=batch_size, train_examples=1000)


def _arms(run: Run, layer: str, slow: bool = True) -> Mapping[str, Run]:
    frozen = dataclasses.replace(run, interventions=(Intervention(layer, freeze="start"),))
    slowed = dataclasses.replace(run, interventions=(Intervention(layer, lr_factor=0.1),))
    return {_PLAIN: run, "frozen": frozen} | ({"slow": slowed} if slow else {})


def _interventions(
    name: str, title: str, figure: str, layer: str, small: Scale, paper: Scale, paper_says: str = NOT_GIVEN
) -> Experiment:
    """Declare an experiment with one layer frozen from the start (and slowed down)."""
    position = 0 if layer == "first" else -1
    arms = [arm for arm in small.arms if arm != _PLAIN]
    claims = [_layer(0, paper_says), _layer(-1, paper_says)]
    for arm in arms:
        claims += [_others(arm, position), _final_loss(arm)]
    varied = f"the {layer} layer: {', '.join(small.arms)}"
    return Experiment(
        name=name,
        title=title,
        source=figure,
        varied=varied,
        scales={"small": small, "paper": paper},
        table=compared_layers,
        claims=tuple(claims),
        resolution="layer",
    )


def _delays(run: Run, delays: tuple[int, ...], same_step: bool) -> dict[str, Run]:
    """Return a run for each delay; ``same_step`` keeps the length of a step in the long run that of momentum 0.9."""

    def intervention(delay: int) -> Intervention:
        factor = (1 / (delay + 1)) / (1 - 0.9)
        return Intervention("last", delay=delay, lr_factor=factor if same_step else None)

    return {f"delay-{delay}": dataclasses.replace(run, interventions=(intervention(delay),)) for delay in delays}


def _delay_experiment(name: str, title: str, source: str, same_step: bool, paper: str) -> Experiment:
    scales = {
        "small": Scale(_delays(_small(), (0, 3, 6, 9), same_step), (0, 1, 2), f"{_SMALL_RESNET}; delays 0, 3, 6, 9"),
        "paper": Scale(_delays(Run("cifar10-resnet20"), _DELAYS, same_step), tuple(range(3))),
    }
    claims = (Claim("LCA of the last layer against its delay", _trend, paper),)
    varied = "the momentum of the last layer, d / (d + 1) for a delay of d iterations"
    return Experiment(
        name=name,
        title=title,
        source=source,
        varied=varied,
        scales=scales,
        table=delayed_layer,
        claims=claims,
        resolution="layer",
    )


_RESNET = Run("cifar10-resnet20")
EXPERIMENTS = (
    _interventions(
        "last-layer",
        "Is training better off without a last layer that hurts?",
        "Fig. 4",
        "last",
        Scale(_arms(_small(), "last"), (0, 1, 2), _SMALL_RESNET),
        Scale(_arms(_RESNET, "last"), tuple(range(10))),
        _HURTS,
    ),
    _delay_experiment(
        "delays", "Does the last layer hurt because it is late?", "Fig. 5", same_step=False, paper="a linear trend"
    ),
    _delay_experiment(
        "delays-same-step",
        "The same with steps of one length: does the last layer hurt because it is late?",
        "a check of Fig. 5; not in the paper",
        same_step=True,
        paper=NOT_GIVEN,
    ),
    _interventions(
        "first-layer",
        "Is training better off without a first layer that hurts?",
        "Fig. S13",
        "first",
        Scale(_arms(_small(), "first"), (0, 1, 2), _SMALL_RESNET),
        Scale(_arms(_RESNET, "first"), tuple(range(10))),
        _HURTS,
    ),
    _interventions(
        "vgg",
        "Which layers of a VGG hurt, and what does freezing the last one do?",
        "Fig. S12",
        "last",
        Scale(
            _arms(_small("digits-vgg5", 50), "last", slow=False),
            (0, 1, 2),
            f"VGG of 3 convolutions and 2 dense layers instead of 6 and 3; {_SMALL_DIGITS}",
        ),
        Scale(_arms(Run("cifar10-vgg9"), "last", slow=False), tuple(range(3))),
    ),
    _interventions(
        "allcnn",
        "Which layers of AllCNN hurt, and what does freezing the last one do?",
        "Fig. S14",
        "last",
        Scale(_arms(_small("digits-allcnn", 50), "last", slow=False), (0, 1), _SMALL_DIGITS),
        Scale(_arms(Run("cifar10-allcnn"), "last", slow=False), tuple(range(3))),
    ),
)
