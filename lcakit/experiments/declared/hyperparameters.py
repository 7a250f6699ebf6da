"""Experiments with hyperparameters: do the patterns of helping depend on them? (Fig. S9 of the paper, and beyond)."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.layerwise import layer_lca
from lcakit.analysis.noise import fraction_helping
from lcakit.analysis.oscillation import iterations_per_crossing, iterations_per_turn
from lcakit.analysis.runs import one_sample
from lcakit.experiments.declared.experiment import NOT_GIVEN, Claim, Experiment, Scale
from lcakit.experiments.declared.report import number
from lcakit.experiments.declared.results import Results
from lcakit.experiments.paper import PAPER
from lcakit.experiments.run import Run
from lcakit.text import with_error

__all__ = ["EXPERIMENTS", "helping_by_setting", "patterns"]


def __dir__() -> list[str]:
    return __all__


_BASE = "base"
_VARIED = ("learning_rate", "momentum", "batch_size")


def helping_by_setting(results: Results) -> xr.Dataset:
    """Return what each setting gives, over seeds: the percentage that helps (Table 1) and the final loss.

    Where the files have running statistics, also how often weights turn and gradients cross zero (Table S2).
    """
    arms = results.arms
    rows = [_row(results.open(arm)) for arm in arms]
    out = xr.concat(rows, dim=xr.DataArray(arms, dims="arm", name="arm"))
    runs = [results.of(arm)[0].run for arm in arms]
    return out.assign_coords({name: ("arm", [getattr(run, name) for run in runs]) for name in _VARIED})


def _row(runs: xr.Dataset) -> xr.Dataset:
    helping, loss = compute(100 * fraction_helping(runs), runs["loss"].isel(snapshot=-1, drop=True), quiet=True)
    found = {"helping": helping.assign_attrs(long_name="helping, zeros ignored", units="%"), "final_loss": loss}
    if {"turn_count", "crossing_count"} <= set(runs.data_vars):
        turn, crossing = compute(iterations_per_turn(runs), iterations_per_crossing(runs), quiet=True)
        found |= {"iterations_per_turn": turn, "iterations_per_crossing": crossing}
    means = {name: array.mean("run", keep_attrs=True) for name, array in found.items()}
    return xr.Dataset(means | {f"{name}_sd": array.std("run", ddof=1) for name, array in found.items()})


def _base(result: xr.Dataset) -> str:
    if _BASE not in result["arm"]:
        return NOT_GIVEN
    row = result.sel(arm=_BASE)
    return f"{with_error(float(row['helping']), float(row['helping_sd']))} %"


def _range(result: xr.Dataset) -> str:
    helping = result["helping"]
    least, most = (str(helping["arm"].values[k]) for k in (helping.values.argmin(), helping.values.argmax()))
    return f"{number(float(helping.min()))} % ({least}) to {number(float(helping.max()))} % ({most})"


def _arms(base: Run, **values: Sequence[Any]) -> dict[str, Run]:
    """Return the base and, one at a time, every other value of each setting."""
    arms = {_BASE: base}
    for name, choices in values.items():
        for value in choices:
            changed: dict[str, Any] = {name: value}
            arms[f"{name.replace('_', '-')}-{value:g}"] = dataclasses.replace(base, **changed)
    return arms


# ---- patterns -------------------------------------------------------------------------------------------------------


def patterns(results: Results) -> xr.Dataset:
    r"""Return what training looks like at each setting of a grid, and how it depends on each hyperparameter.

    Each (arm), means over seeds: ``helping`` (% of the moves that are not zero), ``turning`` (% of the steps after
    which a weight turns around, in the mean), ``hurting_layers`` (how many have a positive sum over the run),
    ``final_loss``. And ``effect`` (hyperparameter, pattern): the slope :math:`b` of

    .. math:: y \approx a + b_1 \log_2 α + b_2 \log_2 B + b_3 \log_2 \frac1{1 - μ}

    fitted to the runs of each seed on its own and averaged, with ``positive``, in how many of the ``seeds`` it is above
    zero, and ``p``: Student's t over seeds, Holm over all of them; NaN for a single seed. A doubling of
    :math:`1 / (1 - μ)` doubles how long a gradient is remembered, and the length of a step in the long run.
    """
    arms = results.arms
    rows = [_patterns(results.open(arm)).assign_coords(seed=("run", _seeds(results, arm))) for arm in arms]
    means = xr.concat([row.mean("run") for row in rows], dim=xr.DataArray(arms, dims="arm", name="arm"))
    deviations = xr.concat([row.std("run", ddof=1) for row in rows], dim=means["arm"])
    settings = [results.of(arm)[0].run for arm in arms]
    coords = {name: ("arm", [getattr(run, name) for run in settings]) for name in _VARIED}
    found = means.assign({f"{name}_sd": deviations[name] for name in deviations.data_vars})
    return found.drop_vars("seed", errors="ignore").assign_coords(coords).merge(_effects(rows, settings))


def _seeds(results: Results, arm: str) -> list[int]:
    return [task.run.seed for task in results.of(arm)]


def _patterns(runs: xr.Dataset) -> xr.Dataset:
    """Return the patterns of each run of an arm, (run)."""
    layers = layer_lca(runs).sum("iteration")
    helping, turn, hurting, loss = compute(
        100 * fraction_helping(runs),
        100 / iterations_per_turn(runs),
        (layers > 0).sum("layer"),
        runs["loss"].isel(snapshot=-1, drop=True),
        quiet=True,
    )
    return xr.Dataset(
        {"helping": helping, "turning": turn, "hurting_layers": hurting.astype(float), "final_loss": loss}
    )


def _effects(rows: Sequence[xr.Dataset], settings: Sequence[Run]) -> xr.Dataset:
    names = [str(name) for name in rows[0].data_vars]
    places = [_place(run) for run in settings]
    slopes = []
    for seed in sorted({int(seed) for row in rows for seed in row["seed"]}):
        mine = [(place, row.isel(run=row["seed"].values == seed)) for place, row in zip(places, rows, strict=True)]
        mine = [(place, row) for place, row in mine if row.sizes["run"]]
        x = np.array([[1.0, *place] for place, _ in mine])
        y = np.array([[float(row[name].item()) for name in names] for _, row in mine])
        slopes.append(np.linalg.lstsq(x, y, rcond=None)[0][1:])
    dims = ("run", "hyperparameter", "pattern")
    each = xr.DataArray(np.array(slopes), dims=dims, coords={"hyperparameter": list(_VARIED), "pattern": names})
    return _over_seeds(each)


def _over_seeds(each: xr.DataArray) -> xr.Dataset:
    flat = each.stack(test=("hyperparameter", "pattern"), create_index=False)
    p = np.full(flat.sizes["test"], np.nan)
    if each.sizes["run"] > 1:
        with warnings.catch_warnings():  # SciPy warns of what does not vary, such as no layer that ever hurts
            warnings.simplefilter("ignore", RuntimeWarning)
            p = one_sample(flat, correction="holm", over="test")["p_corrected"].values
    out = {"effect": each.mean("run"), "effect_sd": each.std("run", ddof=1), "positive": (each > 0).sum("run")}
    tested = out["effect"].copy(data=p.reshape(out["effect"].shape))
    return xr.Dataset(out | {"p": tested, "seeds": xr.DataArray(each.sizes["run"])})


def _place(run: Run) -> tuple[float, float, float]:
    """Return where a run is in the grid, in doublings: of the rate, of the memory of momentum, of the batch."""
    rate, momentum, batch = (float(getattr(run, name) or 0) for name in _VARIED)
    return float(np.log2(rate)), float(-np.log2(1 - momentum)), float(np.log2(batch))


def _effect(pattern: str, what: str, unit: str) -> Claim:
    words = {"learning_rate": "learning rate", "momentum": "1 / (1 − momentum)", "batch_size": "batch size"}

    def measure(result: xr.Dataset) -> str:
        shown = []
        for name, word in words.items():
            at = result.sel(hyperparameter=name, pattern=pattern)
            shown.append(f"{float(at['effect']):+.3g}{unit} (p = {number(float(at['p']), 2)}) with {word} doubled")
        return f"{'; '.join(shown)}; Holm"

    return Claim(what, measure)


def _grid(base: Run, rates: Sequence[float], batches: Sequence[int], momenta: Sequence[float]) -> dict[str, Run]:
    return {
        f"rate-{rate:g}-batch-{batch}-momentum-{momentum:g}": dataclasses.replace(
            base, learning_rate=rate, batch_size=batch, momentum=momentum
        )
        for rate, batch, momentum in itertools.product(rates, batches, momenta)
    }


# ---- declarations ---------------------------------------------------------------------------------------------------

_PAPER = PAPER["mnist-fc", "sgd"]
_PAPER_RESNET = PAPER["cifar10-resnet20", "sgd"]
_RATES, _MOMENTA = (0.01, 0.02, 0.1, 0.2), (0.0, 0.5, 0.95)

EXPERIMENTS = (
    Experiment(
        name="hyperparameters",
        title="Does the share of parameters that help depend on the hyperparameters?",
        source="Fig. S9",
        varied="learning rate, momentum and batch size, one at a time",
        scales={
            "small": Scale(
                _arms(Run("digits-fc"), learning_rate=_RATES, momentum=_MOMENTA, batch_size=(10, 25, 100, 250)),
                (0, 1, 2),
                "8 x 8 digits (1 500 images, 12 060 parameters, 220 iterations) instead of MNIST",
            ),
            "paper": Scale(
                _arms(Run("mnist-fc"), learning_rate=_RATES, momentum=_MOMENTA, batch_size=(50, 100, 500, 1000)),
                (0, 1, 2),
            ),
        },
        table=helping_by_setting,
        claims=(
            Claim("helping at the base setting", _base, f"{_PAPER.helping} ± {_PAPER.helping_sd} % (mnist-fc, sgd)"),
            Claim("helping over all settings", _range, "50.2 to 57.8 % over networks and optimizers"),
        ),
    ),
    Experiment(
        name="hyperparameters-resnet",
        title="Does it depend on them in a residual network, with much momentum and with large batches?",
        source="Fig. S9",
        varied="learning rate, momentum and batch size, one at a time",
        scales={
            "small": Scale(
                _arms(
                    Run("digits-resnet8w8", batch_size=50, train_examples=500, iterations=100),
                    learning_rate=(0.02, 0.05, 0.2),
                    momentum=(0.0, 0.5, 0.99),
                    batch_size=(10, 100, 250, 500),
                ),
                (0, 1),
                "ResNet-8 of 8, 16, 32 channels on 500 of the 8 x 8 digits, 100 iterations",
            ),
            "paper": Scale(
                _arms(
                    Run("cifar10-resnet20"),
                    learning_rate=(0.02, 0.05, 0.2),
                    momentum=(0.0, 0.5, 0.99),
                    batch_size=(50, 500, 1000, 5000),
                ),
                (0, 1, 2),
            ),
        },
        table=helping_by_setting,
        claims=(
            Claim("helping at the base setting", _base, f"{_PAPER_RESNET.helping} ± {_PAPER_RESNET.helping_sd} %"),
            Claim("helping over all settings", _range),
        ),
        keep=(),
    ),
    Experiment(
        name="patterns",
        title="How do helping, oscillation and hurting layers depend on the hyperparameters?",
        source="future work of the paper",
        varied="learning rate, batch size and momentum, every combination",
        scales={
            "small": Scale(
                _grid(
                    Run("digits-fc", train_examples=500, iterations=100), (0.01, 0.05, 0.2), (10, 50, 250), (0.0, 0.9)
                ),
                tuple(range(5)),
                "500 of the 8 x 8 digits, 12 060 parameters, 100 iterations",
            ),
            "paper": Scale(_grid(Run("mnist-fc"), (0.02, 0.05, 0.1), (50, 250, 1000), (0.0, 0.9)), tuple(range(5))),
        },
        table=patterns,
        claims=(
            _effect("helping", "moves that help", " points"),
            _effect("turning", "steps after which a weight turns", " points"),
            _effect("hurting_layers", "layers that hurt", ""),
            _effect("final_loss", "final loss", " nats"),
        ),
        keep=(),
    ),
)
