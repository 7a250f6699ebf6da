"""Experiments with networks and optimizers: is learning as noisy in all of them? (Tables 1 and S2, Fig. 3)."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lcakit.analysis.computing import compute
from lcakit.analysis.noise import fraction_helping, help_hurt_zero, iterations_helped
from lcakit.analysis.oscillation import iterations_per_crossing, iterations_per_turn
from lcakit.experiments.declared.experiment import NOT_GIVEN, Claim, Experiment, Scale
from lcakit.experiments.declared.report import number
from lcakit.experiments.declared.results import Results
from lcakit.experiments.paper import PAPER
from lcakit.experiments.run import Run

__all__ = ["EXPERIMENTS", "noise_by_network"]


def __dir__() -> list[str]:
    return __all__


def noise_by_network(results: Results) -> xr.Dataset:
    """Return how noisy learning is in each network, over seeds.

    Each (arm): ``helping``, the percentage of the moves that are not zero (Table 1); ``least_layer`` and
    ``most_layer``, the same of the kernel layer with the smallest and largest (Fig. 3c); ``zero``, the percentage of
    all moves that change nothing (Fig. 3a); ``never``, that of the parameters whose moves all do (the spike at zero of
    Fig. 3d); ``iterations_per_turn`` and ``iterations_per_crossing`` (Table S2); ``final_loss``.
    """
    arms = results.arms
    rows = [_noise(results.open(arm)) for arm in arms]
    label = xr.DataArray(arms, dims="arm", name="arm")
    found = xr.concat([row.mean("run") for row in rows], dim=label)
    spread = xr.concat([row.std("run", ddof=1) for row in rows], dim=label)
    return found.assign({f"{name}_sd": spread[name] for name in spread.data_vars})


def _noise(runs: xr.Dataset) -> xr.Dataset:
    """Return the numbers of each run of an arm, (run)."""
    layers = 100 * fraction_helping(runs, "kernel_layer")
    moves = iterations_helped(runs).sel(outcome=["helping", "hurting"]).sum("outcome")
    found = {
        "helping": 100 * fraction_helping(runs),
        "least_layer": layers.min("kernel_layer"),
        "most_layer": layers.max("kernel_layer"),
        "zero": 100 * help_hurt_zero(runs).sel(outcome="zero", drop=True).mean("iteration"),
        "never": 100 * (moves == 0).mean("parameter"),
        "iterations_per_turn": iterations_per_turn(runs),
        "iterations_per_crossing": iterations_per_crossing(runs),
        "final_loss": runs["loss"].isel(snapshot=-1, drop=True),
    }
    return xr.Dataset(dict(zip(found, compute(*found.values(), quiet=True), strict=True))).astype(np.float64)


def _claim(arm: str, study: str, optimizer: str) -> Claim:
    said = PAPER[study, optimizer]

    def measure(result: xr.Dataset) -> str:
        if arm not in result["arm"]:
            return NOT_GIVEN
        row = result.sel(arm=arm)
        turns = "; ".join(number(float(row[f"iterations_per_{what}"])) for what in ("turn", "crossing"))
        return f"{number(float(row['helping']))} %; {turns}"

    paper = f"{said.helping} %; {said.iterations_per_turn}; {said.iterations_per_crossing} ({study})"
    return Claim(f"{arm}: helping; iterations per turn; per crossing", measure, paper)


_STUDIES = {"fc": "mnist-fc", "lenet": "mnist-lenet", "resnet": "cifar10-resnet20", "allcnn": "cifar10-allcnn"}
_ARMS = {
    f"{family}-{optimizer}": (study, optimizer)
    for family, study in _STUDIES.items()
    for optimizer in ("sgd-mom0", "sgd", "adam")
    if (study, optimizer) in PAPER
}
_SMALL = {
    "mnist-fc": "digits-fc",
    "mnist-lenet": "digits-lenet-small",
    "cifar10-resnet20": "digits-resnet8w8",
    "cifar10-allcnn": "digits-allcnn-small",
}

EXPERIMENTS = (
    Experiment(
        name="networks",
        title="Is learning as noisy in other networks, and with other optimizers?",
        source="Tables 1 and S2, Figs. 3 and S3-S6",
        varied="network and optimizer",
        scales={
            "small": Scale(
                {
                    arm: Run(_SMALL[study], optimizer, train_examples=500, batch_size=50, iterations=100)
                    for arm, (study, optimizer) in _ARMS.items()
                },
                (0,),
                "8 x 8 digits (500 images, batch 50, 100 iterations), and small siblings of the networks",
            ),
            "paper": Scale({arm: Run(study, optimizer) for arm, (study, optimizer) in _ARMS.items()}, (0, 1, 2)),
        },
        table=noise_by_network,
        claims=tuple(_claim(arm, study, optimizer) for arm, (study, optimizer) in _ARMS.items()),
        keep=(),
    ),
)
