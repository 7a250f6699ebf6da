"""What the paper names as future work, as experiments: pruning by LCA, and regularizing what overfits."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import xarray as xr

from lcakit.analysis.corrections import corrected
from lcakit.analysis.runs import compare
from lcakit.experiments.data import load
from lcakit.experiments.declared.directory import Task
from lcakit.experiments.declared.experiment import Claim, Experiment, Scale
from lcakit.experiments.declared.report import number
from lcakit.experiments.declared.results import Results, objective_of, over_runs
from lcakit.experiments.names import split_name
from lcakit.experiments.overfitting import TREATMENTS, compare_regularized
from lcakit.experiments.pruning import compare_pruned
from lcakit.experiments.run import Run
from lcakit.experiments.subsets import left_over
from lcakit.record.allocation.allocate import allocate

__all__ = ["EXPERIMENTS", "overfitting", "pruning"]


def __dir__() -> list[str]:
    return __all__


_SOURCE = "future work of the paper"
_RUN = "plain"
_SEEDS = tuple(range(8))
_SPARSITIES = (0.5, 0.8, 0.9, 0.95)
_RESOLUTIONS = {"unit": "unit", "layer": "kernel_layer"}
_DECAYS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
_WHOLE = ("decay", "stop")  # these treat the network as a whole


# ---- pruning --------------------------------------------------------------------------------------------------------


def pruning(results: Results) -> xr.Dataset:
    """Return what :func:`lcakit.experiments.pruning.compare_pruned` measures, over seeds, each criterion tested.

    ``loss_p``, ``undone_loss_p`` and ``retrained_loss_p``: of the difference from pruning by LCA (paired by seed, Holm
    over criteria, sparsities and rankings); NaN for LCA itself and with a single seed.
    """

    def make(task: Task, ds: xr.Dataset) -> xr.Dataset:
        return compare_pruned(ds, task.run, objective_of(task, "test"), _SPARSITIES)

    found = results.each_run(_RUN, "pruned", make)
    names = [name for name in found.data_vars if str(name).endswith("loss")]
    tested = {f"{name}_p": _against(found[name], "criterion", "lca") for name in names}
    return over_runs(found).assign(tested)


def _against(found: xr.DataArray, dim: str, base: str) -> xr.DataArray:
    """Return p of each entry along ``dim`` against ``base``."""
    others = found.drop_sel({dim: base})
    p = _paired_p(found.sel({dim: base}, drop=True).broadcast_like(others), others)
    return p.reindex({dim: found[dim]})


def _paired_p(before: xr.DataArray, after: xr.DataArray) -> xr.DataArray:
    """Return p of the difference, paired by run, Holm over all entries; NaN for a single run, and without change."""
    before = before.transpose(*after.dims)
    if after.sizes["run"] < 2:
        return xr.full_like(after.isel(run=0, drop=True), np.nan)
    with warnings.catch_warnings():  # SciPy warns of what does not vary
        warnings.simplefilter("ignore", RuntimeWarning)
        p = compare(before, after, paired=True)["p"]
    flat = corrected(xr.DataArray(p.values.ravel(), dims="test"), "test", "holm")
    return p.copy(data=flat.values.reshape(p.shape))


def _kept_by(name: str, sparsity: float, ranking: str) -> Callable[[xr.Dataset], str]:
    def measure(result: xr.Dataset) -> str:
        rows = result.sel(sparsity=sparsity, ranking=ranking)
        shown = []
        for criterion in rows["criterion"].values.tolist():
            one = rows.sel(criterion=criterion)
            p = "" if criterion == "lca" else f" (p = {number(float(one[f'{name}loss_p']), 2)})"
            shown.append(f"{criterion} {100 * float(one[f'{name}accuracy']):.1f} %{p}")
        return f"{', '.join(shown)}; p of the test loss against lca's, paired, Holm"

    return measure


def _pruning_claims() -> tuple[Claim, ...]:
    what = {"": "after pruning", "undone_": "moves undone instead", "retrained_": "retrained"}
    return tuple(
        Claim(f"test accuracy without {sparsity:.0%} of each kernel, {text}", _kept_by(name, sparsity, "layer"))
        for name, text in what.items()
        for sparsity in (0.8, 0.95)
    )


# ---- overfitting ----------------------------------------------------------------------------------------------------


def overfitting(results: Results) -> xr.Dataset:
    """Return what :func:`lcakit.experiments.overfitting.compare_regularized` measures, by unit and by layer.

    ``p_none`` and ``p_decay``: of the difference of the test loss from that without a treatment, and with a decay of
    all parameters; ``p_random``: from that of the same treatment of as many groups at random. Paired by seed, each with
    Holm's correction over its treatments and resolutions; NaN for the base itself, and with a single seed.
    """

    def make(task: Task, ds: xr.Dataset) -> xr.Dataset:
        run, data = task.run, task.run.data()
        unused = left_over(load(split_name(run.network)[0], run.data_root), len(data.y_train))
        validation, test = objective_of(task, "test"), objective_of(task, unused)
        ds = allocate(ds, validation, classes=None, name="val", keep=("lca",), quiet=True)
        parts = [compare_regularized(ds, run, data, validation, test, _DECAYS, by) for by in _RESOLUTIONS.values()]
        return xr.concat(parts, dim=xr.DataArray(list(_RESOLUTIONS), dims="resolution", name="resolution"))

    found = results.each_run(_RUN, "regularized", make)
    loss = found["test_loss"]
    p = {f"p_{base}": _against(loss, "treatment", base) for base in ("none", "decay")}
    chosen, random = (loss.sel(treatment=[f"decay_{of}", f"freeze_{of}"]) for of in ("overfitting", "random"))
    same = _paired_p(random.assign_coords(treatment=chosen["treatment"]), chosen)
    p["p_random"] = same.reindex(treatment=loss["treatment"])
    return over_runs(found).assign(p)


def _overfit(resolution: str) -> Claim:
    def measure(result: xr.Dataset) -> str:
        row = result.sel(resolution=resolution)
        return f"{number(float(row['groups']), 3)}, with {100 * float(row['parameters']):.0f} % of the parameters"

    return Claim(f"{resolution}s that help training and hurt validation after its best", measure)


def _treated(treatment: str, resolution: str) -> Claim:
    def measure(result: xr.Dataset) -> str:
        at = result.sel(resolution=resolution)
        loss = {name: number(float(at["test_loss"].sel(treatment=name))) for name in at["treatment"].values.tolist()}
        bases = {"p_none": "none", "p_decay": "decay", "p_random": treatment.replace("overfitting", "random")}
        against = [
            f"{loss[base]} {base.replace('_', ' ')} (p = {number(float(at[p].sel(treatment=treatment)), 2)})"
            for p, base in bases.items()
            if base != treatment
        ]
        return f"{loss[treatment]} nats; {', '.join(against)}; paired, Holm"

    of = "" if treatment in _WHOLE else f", {resolution}s"
    return Claim(f"test loss, {treatment.replace('_', ' ')}{of}", measure)


def _overfitting_claims() -> tuple[Claim, ...]:
    partial = [name for name in TREATMENTS if name.endswith("overfitting")]
    treated = [_treated(name, resolution) for resolution in _RESOLUTIONS for name in partial]
    return (*(_overfit(one) for one in _RESOLUTIONS), *(_treated(name, "unit") for name in _WHOLE), *treated)


# ---- declarations ---------------------------------------------------------------------------------------------------

EXPERIMENTS = (
    Experiment(
        name="pruning",
        title="Are the weights that helped most the ones to keep?",
        source=_SOURCE,
        varied="which weights stay (helped most, largest, moved farthest, at random), and how many",
        scales={
            "small": Scale(
                {_RUN: Run("digits-fc", train_examples=500, iterations=200)},
                _SEEDS,
                "500 of the 8 x 8 digits, 12 060 parameters, 200 iterations",
            ),
            "paper": Scale({_RUN: Run("mnist-fc")}, _SEEDS),
        },
        table=pruning,
        claims=_pruning_claims(),
        keep=("theta",),
    ),
    Experiment(
        name="overfitting",
        title="Does it help to hold back the units that help training and hurt validation?",
        source=_SOURCE,
        varied="weight decay or a stop: of all, of the units or layers that overfit, of as many at random",
        scales={
            "small": Scale(
                {_RUN: Run("digits-fc", train_examples=150, label_noise=0.2, batch_size=30, iterations=300)},
                _SEEDS,
                "150 of the 8 x 8 digits, a fifth of them labelled wrong; 12 060 parameters, 300 iterations",
            ),
            "paper": Scale({_RUN: Run("mnist-fc", train_examples=1000, label_noise=0.2)}, _SEEDS),
        },
        table=overfitting,
        claims=_overfitting_claims(),
        keep=("theta", "lca"),
    ),
)
