"""Experiments with layers: those that hurt, frozen or slowed down (section 4 of the paper)."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from lcakit.analysis.layerwise import layer_lca
from lcakit.analysis.runs import compare, one_sample
from lcakit.experiments.declared.experiment import NOT_GIVEN, Claim, Derived, Experiment, Scale
from lcakit.experiments.declared.report import number
from lcakit.experiments.declared.results import Results
from lcakit.experiments.interventions import Intervention, freeze_at_argmin
from lcakit.experiments.run import Run
from lcakit.experiments.training import make_model
from lcakit.record.objective.describe import describe

__all__ = ["EXPERIMENTS", "SMALL", "SMALL_RESNET", "compared_layers", "run_totals"]


def __dir__() -> list[str]:
    return __all__


_PLAIN = "plain"
_NOT_RUN = "no finished run"
_HURTS = "hurts: positive, p < 1e-4 (ResNet-20, ten runs)"
_LAST = {
    "frozen": ("help less, but by less than the layer had hurt", "better: lower, p < 0.001"),
    "slow": ("help less, but by less than the layer had hurt", "better: lower"),
}
_FIRST = dict.fromkeys(("frozen", "argmin"), ("help less, by as much as the layer had hurt", "not better"))
# Small batches at a high rate: the noise of the gradient along the run is what makes the outer layers hurt, and it is
# gone once a network fits its training set. Batch 20 or 50, or half the rate, do not show it.
SMALL = Run("digits-resnet8w8", learning_rate=0.2, batch_size=10, iterations=200, train_examples=500)
_SMALL_ADAM = Run("digits-resnet8w8", "adam", learning_rate=0.1, batch_size=10, iterations=100, train_examples=500)
_SMALL_VGG = Run("digits-vgg5-no-dropout", learning_rate=0.03, batch_size=10, iterations=60, train_examples=300)
SMALL_RESNET = (
    "ResNet-8 of 8, 16, 32 channels instead of ResNet-20; 500 of the 8 x 8 digits instead of CIFAR-10, batch 10, rate "
    "0.2, 200 iterations"
)
_SMALL_RESNET_ADAM = SMALL_RESNET.replace("rate 0.2, 200", "rate 0.1, 100")
_VGG = "VGG of 3 convolutions and 2 dense layers, no dropout; 300 of the digits, batch 10, rate 0.03, 60 iterations"
_SMALL_DIGITS = "8 x 8 digits instead of CIFAR-10; 1 000 training images, batch 50, 100 iterations"


# ---- tables ---------------------------------------------------------------------------------------------------------


def compared_layers(results: Results) -> xr.Dataset:
    """Return LCA of each layer and the final loss of each arm, beside those of the plain runs with the same seeds.

    ``lca`` (arm, layer) over the run, ``positive`` (in how many seeds the layer hurts), ``p`` of the mean against zero
    (Holm, over layers), ``change`` from the plain runs and ``change_p`` (paired; Holm, over layers); ``final_loss``
    (arm), ``final_loss_change``, ``final_loss_lower`` (in how many seeds it is below that of the plain run) and
    ``final_loss_p`` (paired), and the same of ``late_loss``, the mean over the second half of the snapshots; ``seeds``;
    where files have it, ``final_loss_val`` and ``late_loss_val`` over the test set. Means over seeds; p is NaN with a
    single seed, and where nothing varies, as in a frozen layer.
    """
    runs = {arm: run_totals(results.open(arm, paired=True)) for arm in results.arms}
    each = [_beside(totals, runs[_PLAIN]) for totals in runs.values()]
    return xr.concat(each, dim=xr.DataArray(list(runs), dims="arm", name="arm"))


def run_totals(runs: xr.Dataset) -> xr.Dataset:
    """Return LCA over the run (run, layer), losses at the end and in the mean of the second half (run)."""
    found = {"lca": layer_lca(runs).sum("iteration", keep_attrs=True)}
    losses = [name for name in ("loss", "loss_val") if name in runs]
    found |= {f"final_{name}": runs[name].isel(snapshot=-1, drop=True) for name in losses}
    second_half = slice(runs.sizes["snapshot"] // 2, None)  # one snapshot of a noisy training says little
    found |= {f"late_{name}": runs[name].isel(snapshot=second_half).mean("snapshot") for name in losses}
    return xr.Dataset(found).compute()


def _beside(totals: xr.Dataset, plain: xr.Dataset) -> xr.Dataset:
    means, deviations = totals.mean("run"), totals.std("run", ddof=1)
    change = means - plain.mean("run")
    lower = {  # the k-th runs have the same seed
        f"{name}_lower": xr.DataArray((totals[name].values < plain[name].values).sum())
        for name in ("final_loss", "late_loss")
    }
    found = {str(name): means[name] for name in means.data_vars}
    found |= {f"{name}_sd": deviations[name] for name in means.data_vars}
    found |= {"change": change["lca"]} | {f"{name}_change": change[name] for name in ("final_loss", "late_loss")}
    found |= {"positive": (totals["lca"] > 0).sum("run")} | lower
    return xr.Dataset(found | {"seeds": xr.DataArray(totals.sizes["run"])} | _tested(totals, plain))


def _tested(totals: xr.Dataset, plain: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return p-values: of the layers' LCA, of its change from the plain runs, and of the change of the final loss."""
    lca, loss = totals["lca"], totals["final_loss"]
    if totals.sizes["run"] < 2:
        layers, one = (
            xr.full_like(lca.isel(run=0, drop=True), np.nan),
            xr.full_like(loss.isel(run=0, drop=True), np.nan),
        )
        return {"p": layers, "change_p": layers, "final_loss_p": one, "late_loss_p": one}
    with warnings.catch_warnings():  # SciPy warns of what does not vary, such as a frozen layer
        warnings.simplefilter("ignore", RuntimeWarning)
        return {
            "p": one_sample(lca, correction="holm", over="layer")["p_corrected"],
            "change_p": compare(plain["lca"], lca, paired=True, correction="holm", over="layer")["p_corrected"],
            "final_loss_p": compare(plain["final_loss"], loss, paired=True)["p"],
            "late_loss_p": compare(plain["late_loss"], totals["late_loss"], paired=True)["p"],
        }


# ---- paper beside measured ------------------------------------------------------------------------------------------


def _layer(position: int, paper: str) -> Claim:
    def measure(result: xr.Dataset) -> str:
        row = result.sel(arm=_PLAIN).isel(layer=position)
        return f"{_nats(row['lca'])}; {_positive(row)}; p = {number(float(row['p']), 2)} (Holm, over layers)"

    return Claim(f"LCA of the {'first' if position == 0 else 'last'} layer, plain", measure, paper)


def _positive(row: xr.Dataset) -> str:
    return f"positive in {int(row['positive'])} of {int(row['seeds'])} seeds"


def _others(arm: str, position: int, paper: str) -> Claim:
    def measure(result: xr.Dataset) -> str:
        if arm not in result["arm"].values:
            return _NOT_RUN
        others = float(result["change"].sel(arm=arm).sum() - result["change"].sel(arm=arm).isel(layer=position))
        verdict = "they help less" if others > 0 else "they help more"
        return f"{number(others)} nats: {verdict}"

    return Claim(f"LCA of all other layers, {arm} − plain", measure, paper)


def _loss(arm: str, name: str, what: str, paper: str = NOT_GIVEN) -> Claim:
    def measure(result: xr.Dataset) -> str:
        if arm not in result["arm"].values:
            return _NOT_RUN
        row = result.sel(arm=arm)
        lower = f"lower in {int(row[f'{name}_lower'])} of {int(row['seeds'])} pairs"
        return f"{_nats(row[f'{name}_change'])}; {lower}; p = {number(float(row[f'{name}_p']), 2)} (paired)"

    return Claim(f"{what}, {arm} − plain", measure, paper)


def _test_loss(arm: str) -> Claim:
    def measure(result: xr.Dataset) -> str:
        if arm not in result["arm"].values or "late_loss_val" not in result:
            return _NOT_RUN
        means = result["late_loss_val"]
        return f"{number(float(means.sel(arm=arm)))} against {_nats(means.sel(arm=_PLAIN))}"

    return Claim(f"test loss, mean of the second half, {arm} against plain", measure)


def _nats(value: xr.DataArray) -> str:
    return f"{number(float(value))} nats"


# ---- declarations ---------------------------------------------------------------------------------------------------


def _small_digits(network: str) -> Run:
    return Run(network, iterations=100, batch_size=50, train_examples=1000)


def _arms(run: Run, layer: str, slow: bool = True) -> Mapping[str, Run]:
    frozen = dataclasses.replace(run, interventions=(Intervention(layer, freeze="start"),))
    slowed = dataclasses.replace(run, interventions=(Intervention(layer, lr_factor=0.1),))
    return {_PLAIN: run, "frozen": frozen} | ({"slow": slowed} if slow else {})


def _at_argmin(layer: str) -> dict[str, Derived]:
    """Return the arm in which a layer is frozen where, in the plain run of the same seed, it stopped helping."""

    def make(run: Run, path: Path) -> Run:
        labels = describe(make_model(run, run.data()))
        return dataclasses.replace(run, interventions=(freeze_at_argmin(layer, path, run.network, labels),))

    return {"argmin": Derived(_PLAIN, make)}


def _interventions(
    name: str,
    title: str,
    figure: str,
    layer: str,
    small: Scale,
    paper: Scale,
    hurts: tuple[str, str],
    said: Mapping[str, tuple[str, str]],
) -> Experiment:
    """Declare an experiment with one layer frozen or slowed down.

    ``hurts``: what the paper says of the first and the last layer; ``said``: of the other layers and of the final loss,
    by arm.
    """
    position = 0 if layer == "first" else -1
    arms = [arm for arm in (*small.arms, *small.derived) if arm != _PLAIN]
    claims = [_layer(0, hurts[0]), _layer(-1, hurts[1])]
    for arm in arms:
        others, loss = said.get(arm, (NOT_GIVEN, NOT_GIVEN))
        claims += [_others(arm, position, others), _loss(arm, "final_loss", "final loss", loss)]
        claims += [_loss(arm, "late_loss", "mean loss of the second half"), _test_loss(arm)]
    varied = f"the {layer} layer: {', '.join((_PLAIN, *arms))}"
    return Experiment(
        name=name,
        title=title,
        source=figure,
        varied=varied,
        scales={"small": small, "paper": paper},
        table=compared_layers,
        claims=tuple(claims),
        resolution="layer",
        test_loss=True,
    )


_RESNET = Run("cifar10-resnet20")
EXPERIMENTS = (
    _interventions(
        "last-layer",
        "Is training better off without a last layer that hurts?",
        "Fig. 4",
        "last",
        Scale(_arms(SMALL, "last"), tuple(range(8)), SMALL_RESNET, _at_argmin("last")),
        Scale(_arms(_RESNET, "last"), tuple(range(10)), derived=_at_argmin("last")),
        (_HURTS, _HURTS),
        _LAST,
    ),
    _interventions(
        "first-layer",
        "Is training better off without a first layer that hurts?",
        "Fig. S13",
        "first",
        Scale(_arms(SMALL, "first", slow=False), tuple(range(8)), SMALL_RESNET, _at_argmin("first")),
        Scale(_arms(_RESNET, "first", slow=False), tuple(range(10)), derived=_at_argmin("first")),
        (_HURTS, _HURTS),
        _FIRST,
    ),
    _interventions(
        "vgg",
        "Which layers of a VGG hurt, and what does freezing the last one do?",
        "Fig. S12",
        "last",
        Scale(_arms(_SMALL_VGG, "last", slow=False), tuple(range(8)), _VGG),
        Scale(_arms(Run("cifar10-vgg9"), "last", slow=False), tuple(range(3))),
        ("several layers hurt", "several layers hurt"),
        {},
    ),
    _interventions(
        "adam",
        "Do the first and the last layer hurt with Adam, too?",
        "Fig. 4 with another optimizer",
        "last",
        Scale(_arms(_SMALL_ADAM, "last", slow=False), tuple(range(5)), _SMALL_RESNET_ADAM),
        Scale(_arms(Run("cifar10-resnet20", "adam"), "last", slow=False), tuple(range(3))),
        (NOT_GIVEN, NOT_GIVEN),
        {},
    ),
    _interventions(
        "allcnn",
        "Which layers of AllCNN hurt, and what does freezing the last one do?",
        "Fig. S14",
        "last",
        Scale(_arms(_small_digits("digits-allcnn"), "last", slow=False), (0, 1), _SMALL_DIGITS),
        Scale(_arms(Run("cifar10-allcnn"), "last", slow=False), tuple(range(3))),
        (NOT_GIVEN, NOT_GIVEN),
        {},
    ),
)
