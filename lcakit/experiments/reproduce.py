"""The paper's tables, run again: every run is kept and resumed, measured figures stand beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from lcakit.analysis import tails
from lcakit.analysis.account import account
from lcakit.analysis.computing import compute
from lcakit.analysis.layerwise import layer_lca
from lcakit.analysis.noise import help_hurt_zero
from lcakit.analysis.oscillation import iterations_per_crossing, iterations_per_turn
from lcakit.analysis.synchronization import synchronization_test
from lcakit.analysis.tails import excess_kurtosis
from lcakit.errors import TrajectoryError, unknown
from lcakit.experiments.catalogue import count_parameters
from lcakit.experiments.existing import refuse_other_run
from lcakit.experiments.paper import PAPER, setting
from lcakit.experiments.runs_table import Row
from lcakit.experiments.training import Run, make_model, make_objective, record_run
from lcakit.record.objective.objective import Objective
from lcakit.storage import opening

__all__ = ["STUDIES", "Study", "costs", "figures", "findings", "reproduce", "scaled_down"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Study:
    """How a network of the paper is reproduced.

    ``classes`` is the class resolution of the recordings: none where BatchNorm makes it seven times the work.
    ``network``, ``train_examples`` and ``iterations`` are those of the small scale, for two cores and minutes.
    """

    classes: str | None
    network: str
    train_examples: int
    iterations: int


STUDIES = {
    "mnist-fc": Study("unit", "mnist-fc", 10_000, 220),
    "mnist-lenet": Study("unit", "mnist-lenet-small", 2_000, 120),
    "cifar10-resnet20": Study(None, "cifar10-resnet8w4", 1_000, 100),
    "cifar10-allcnn": Study(None, "cifar10-allcnn-small", 1_000, 60),
}
_PEAKS = 20  # strongest local minima of each layer, as in Fig. 6
_SEEDS = {"paper": (0, 1, 2), "small": (0,)}


def figures(path: str | Path) -> dict[str, float]:
    """Return the figures of Tables 1, S1 and S2 for one recorded run, by column name."""
    ds = opening.open_trajectory(path)
    numbers = account(ds)
    wanted = {
        "helping": numbers.helping_percent,
        "total_error_rk4": numbers.error_percent,
        "total_error_first_order": numbers.first_order_error_percent,
        "mean_error_rk4": numbers.mean_abs_error,
        "mean_error_first_order": numbers.first_order_mean_abs_error,
        "iterations_per_turn": float(iterations_per_turn(ds)),
        "iterations_per_crossing": float(iterations_per_crossing(ds)),
    }
    missing = [name for name, value in wanted.items() if value is None]
    if missing:
        raise TrajectoryError(f"{path} does not hold what {', '.join(missing)} need; record it again")
    return {name: float(value) for name, value in wanted.items() if value is not None}


def findings(path: str | Path) -> dict[str, float]:
    """Return the figures of single studies for one recorded run, by the names of :data:`~.paper.FINDINGS`.

    ``lca_NAME`` is the LCA of a layer over the run. Synchronization per class only from a file with classes.
    """
    ds = opening.open_trajectory(path)
    outcomes, layers, kurtosis, histogram, peaks = compute(
        help_hurt_zero(ds).mean("iteration"),
        layer_lca(ds).sum("iteration"),
        excess_kurtosis(ds)["excess_kurtosis"].mean("iteration"),
        tails.histogram(ds),
        _synchronization(ds),
        quiet=True,
    )
    shape = tails.fit_tails(histogram)["shape"].sel(model="weibull")
    return {
        "zero": 100 * float(outcomes.sel(outcome="zero")),
        **{name: float(value) for name, value in peaks.items()},
        "excess_kurtosis": float(kurtosis),
        "weibull_helping": float(shape.sel(outcome="helping")),
        "weibull_hurting": float(shape.sel(outcome="hurting")),
        **{f"lca_{name}": float(layers.sel(layer=name)) for name in layers["layer"].values},
    }


def _synchronization(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    k = min(_PEAKS, ds.sizes["iteration"])  # a trial may be shorter
    found = {"synchronized_all": synchronization_test(ds, k=k, classes=False)["observed_mean"]}
    if "lca_unit_class" not in ds:
        return found
    per_class = synchronization_test(ds, k=k, shift="layer_and_class")  # as in Fig. 6
    names = {"per_class": "observed_mean", "shifted": "baseline_mean", "p": "p"}
    return {f"synchronized_{name}": per_class[column] for name, column in names.items()} | found


def reproduce(
    network: str,
    directory: str | Path,
    *,
    optimizers: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    scale: str = "paper",
    data_root: str | None = None,
    device: str | None = None,
    precision: str = "float32",
    iterations: int | None = None,
) -> list[Row]:
    """Record what is missing of a network's runs, and return the table.

    Finished runs in ``directory`` are kept, unfinished ones continue.

    Parameters
    ----------
    network
        One of the paper's: mnist-fc, mnist-lenet, cifar10-resnet20, cifar10-allcnn.
    optimizers, seeds
        All that the paper has figures for, and three seeds (one at the small scale), by default.
    scale
        ``"paper"``, or ``"small"``: a smaller network on fewer examples for fewer iterations, which takes two cores
        a few minutes. Each row says what was scaled down.
    iterations
        Another length of the runs, for a trial.

    Raises
    ------
    ValueError
        If the paper has no figures for this network or optimizer, or for an unknown scale.
    RecordingError
        If a file in the directory is of another run, or holds only a part of it; before anything is trained.
    """
    if scale not in _SEEDS:
        raise unknown("scale", scale, _SEEDS)
    known = [opt for name, opt in PAPER if name == network]
    if not known:
        raise unknown("network of the paper", network, STUDIES)
    for optimizer in optimizers or known:
        if optimizer not in known:
            raise unknown(f"optimizer of the paper for {network}", optimizer, known)
    name = network if scale == "paper" else f"{scale}-{network}"
    planned = {
        optimizer: {
            Path(directory) / f"{name}-{optimizer}-{seed}.nc": _run(
                network, optimizer, seed, scale, iterations, data_root
            )
            for seed in (_SEEDS[scale] if seeds is None else seeds)
        }
        for optimizer in optimizers or known
    }
    for path, run in (item for runs in planned.values() for item in runs.items()):
        refuse_other_run(path, run, precision=precision)
    rows = []
    for optimizer, runs in planned.items():
        found = []
        for path, run in runs.items():
            objective = _record(network, run, path, device=device, precision=precision)
            found.append(figures(path) | findings(path) | costs(path, objective))
        rows.append(Row(optimizer, PAPER[network, optimizer], found, scaled_down(network, run)))
    return rows


def _run(network: str, optimizer: str, seed: int, scale: str, iterations: int | None, data_root: str | None) -> Run:
    if scale == "paper":
        return Run(network, optimizer, seed, iterations=iterations, data_root=data_root).resolved()
    small = STUDIES[network]
    return Run(
        small.network,
        optimizer,
        seed,
        iterations=iterations or small.iterations,
        train_examples=small.train_examples,
        data_root=data_root,
    ).resolved()


def _record(network: str, run: Run, path: Path, **how: Any) -> Objective:
    """Record a run, or keep the file there is; return its objective, which has computed gradients and timed them."""
    classes = STUDIES[network].classes
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return record_run(run, path, resume=True, classes=classes, **how).objective
    data = run.data()
    objective = make_objective(run, make_model(run, data), data, **how)
    objective.evaluate(classes=classes is not None)  # once to warm up, once to be timed
    objective.evaluations, objective.seconds = 0, 0.0
    objective.evaluate(classes=classes is not None)
    return objective


def costs(path: str | Path, objective: Objective) -> dict[str, float]:
    """Return what a run cost, by the names of ``runs_table.COSTS``; ``objective`` has timed its gradients."""
    ds = opening.open_trajectory(path)
    steps, gradients = ds.sizes["iteration"], account(ds[["splits"]]).gradient_evaluations or 0
    seconds = objective.seconds / objective.evaluations
    return {
        "seconds_per_gradient": seconds,
        "gradients_per_iteration": gradients / steps,
        "bytes_per_iteration": Path(path).stat().st_size / steps,
        "hours": gradients * seconds / 3600,
    }


def scaled_down(network: str, run: Run) -> str:
    """Say in what a run is smaller than the paper's of ``network``, as a sentence; empty where it is not."""
    full = setting(network, run.optimizer)
    parts = []
    if run.network != network:
        sizes = f"{count_parameters(run.network):,} parameters for {count_parameters(network):,}"
        parts.append(f"{run.network} in place of {network} ({sizes})")
    if run.train_examples is not None:
        parts.append(f"{run.train_examples:,} of {full.n_train:,} training images")
    if run.iterations != full.iterations:
        parts.append(f"{run.iterations:,} iterations in place of {full.iterations:,}")
    return f"{', '.join(parts)}. The paper's figures stay those of the full size." if parts else ""
