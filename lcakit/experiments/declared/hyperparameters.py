"""Experiments with hyperparameters: does the share of parameters that help depend on them? (Fig. S9 of the paper)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.noise import fraction_helping
from lcakit.experiments.declared.experiment import NOT_GIVEN, Claim, Experiment, Scale
from lcakit.experiments.declared.report import number
from lcakit.experiments.declared.results import Results
from lcakit.experiments.paper import PAPER
from lcakit.experiments.run import Run

__all__ = ["EXPERIMENTS", "helping_by_setting"]


def __dir__() -> list[str]:
    return __all__


_BASE = "base"
_VARIED = ("learning_rate", "momentum", "batch_size")


def helping_by_setting(results: Results) -> xr.Dataset:
    """Return the percentage of moving parameters that help (Table 1) and the final loss of each setting, over seeds."""
    arms = results.arms
    rows = [_row(results.open(arm)) for arm in arms]
    out = xr.concat(rows, dim=xr.DataArray(arms, dims="arm", name="arm"))
    runs = [results.of(arm)[0].run for arm in arms]
    return out.assign_coords({name: ("arm", [getattr(run, name) for run in runs]) for name in _VARIED})


def _row(runs: xr.Dataset) -> xr.Dataset:
    helping, loss = compute(100 * fraction_helping(runs), runs["loss"].isel(snapshot=-1, drop=True), quiet=True)
    found = {"helping": helping.assign_attrs(long_name="helping, zeros ignored", units="%"), "final_loss": loss}
    means = {name: array.mean("run", keep_attrs=True) for name, array in found.items()}
    return xr.Dataset(means | {f"{name}_sd": array.std("run", ddof=1) for name, array in found.items()})


def _base(result: xr.Dataset) -> str:
    if _BASE not in result["arm"]:
        return NOT_GIVEN
    row = result.sel(arm=_BASE)
    return f"{number(float(row['helping']))} ± {number(float(row['helping_sd']), 2)} %"


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


_PAPER = PAPER["mnist-fc", "sgd"]
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
)
