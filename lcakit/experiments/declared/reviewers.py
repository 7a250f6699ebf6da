"""Questions that reviewers of the paper asked, as experiments; none of them is in the paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr

from lcakit.analysis.myopia import sign_agreement
from lcakit.experiments.batches import Batches
from lcakit.experiments.declared.directory import Task
from lcakit.experiments.declared.experiment import Claim, Experiment, Scale
from lcakit.experiments.declared.report import number
from lcakit.experiments.declared.results import Results, objective_of, over_runs
from lcakit.experiments.helpful_only import Training, split_steps, train_helping_only
from lcakit.experiments.rescaling import compare_rescaled
from lcakit.experiments.run import Run
from lcakit.experiments.subsampling import subset_accuracy
from lcakit.experiments.training import make_model, make_objective, make_optimizer
from lcakit.record.objective.objective import Objective

__all__ = ["EXPERIMENTS", "helpful_only", "myopia", "rescaling", "subsets"]


def __dir__() -> list[str]:
    return __all__


_SOURCE = "asked by reviewers; not in the paper"
_WINDOWS = (2, 5, 10, 20, 50, 100)
_STEPS = 50  # split for each run: every one costs two evaluations
_FACTOR = 4.0
_RUN = "plain"


# ---- helpful only ---------------------------------------------------------------------------------------------------


def helpful_only(results: Results) -> xr.Dataset:
    """Return what parts of recorded steps do alone, and where training gets that takes only helping moves.

    ``predicted``, ``actual``, ``first_order`` (part): means over evenly chosen iterations, nats per iteration;
    ``final_loss``, ``final_accuracy`` (training), ``moved`` (training): the mean share of parameters that moved.
    """
    steps = results.each_run(_RUN, "steps", _steps).mean("iteration")
    trained = results.each_run(_RUN, "training", lambda task, ds: train_helping_only(_starts(task), _n(ds)))
    trained = trained.rename(part="training")
    ends = trained[["loss", "accuracy"]].isel(snapshot=-1, drop=True)
    ends = ends.rename(loss="final_loss", accuracy="final_accuracy").assign(moved=trained["share"].mean("iteration"))
    return xr.merge([over_runs(steps), over_runs(ends)])


def _steps(task: Task, ds: xr.Dataset) -> xr.Dataset:
    chosen = np.unique(np.linspace(0, _n(ds) - 1, min(_STEPS, _n(ds))).astype(int))
    return split_steps(ds, objective_of(task), ds["iteration"].values[chosen])


def _n(ds: xr.Dataset) -> int:
    return int(ds.sizes["iteration"])


def _starts(task: Task) -> Callable[[], Training]:
    """Return a function that starts the run's training over, for the plain run and for its twin."""
    run, data = task.run, task.run.data()

    def start() -> Training:
        torch.manual_seed(run.seed)
        model = make_model(run, data).to(task.device or "cpu")
        objective = make_objective(run, model, data, precision=task.precision)
        optimizer = make_optimizer(run, model, objective.labels)
        batches = Batches(len(data.x_train), int(run.batch_size or 0), run.seed)
        x, y = data.x_train.to(objective.device), data.y_train.to(objective.device)

        def step() -> None:
            index = next(batches).to(x.device)
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()

        model.train()
        return Training(objective, step)

    return start


def _helping_does(result: xr.Dataset) -> str:
    row = result.sel(part="helping")
    return f"{number(float(row['actual']))} nats an iteration, predicted {number(float(row['predicted']))}"


def _parts_interact(result: xr.Dataset) -> str:
    actual = result["actual"]
    both = actual.sel(part="helping") + actual.sel(part="hurting")
    return f"{number(float(both))} against {number(float(actual.sel(part='all')))} nats an iteration"


def _trained(result: xr.Dataset) -> str:
    loss = result["final_loss"]
    return f"{number(float(loss.sel(training='helping')))} against {number(float(loss.sel(training='all')))} nats"


# ---- myopia ---------------------------------------------------------------------------------------------------------


def myopia(results: Results) -> xr.Dataset:
    """Return :func:`lcakit.myopia.sign_agreement` with the window that starts in the iteration, over seeds."""
    runs = results.open(_RUN)
    windows = [n for n in _WINDOWS if n < _n(runs)]
    return over_runs(sign_agreement(runs, [*windows, _n(runs)]).compute())


def _next_iteration(result: xr.Dataset) -> str:
    return f"{number(100 * float(result['agreement_others'].isel(window_size=0)))} % (chance: 50 %)"


def _whole_run(result: xr.Dataset) -> str:
    agreement = result["agreement"].isel(window_size=-2)
    return f"{number(100 * float(agreement))} % over {int(agreement['window_size'])} iterations"


# ---- rescaling ------------------------------------------------------------------------------------------------------


def rescaling(results: Results) -> xr.Dataset:
    """Return shares of LCA and of Fisher, recorded and rescaled, by tensor, over seeds."""

    def make(task: Task, ds: xr.Dataset) -> xr.Dataset:
        return compare_rescaled(ds, objective_of(task), "fc1", "fc2", _FACTOR).drop_vars("tensor_role", errors="ignore")

    found = results.each_run(_RUN, "rescaled", make)
    return over_runs(found[["lca_share", "fisher_share", "final_loss"]])


def _largest_change(name: str) -> Callable[[xr.Dataset], str]:
    def measure(result: xr.Dataset) -> str:
        change = abs(result[name].sel(network="rescaled") - result[name].sel(network="recorded"))
        where = change["tensor"].values[change.values.argmax()]
        return f"{number(100 * float(change.max()), 3)} percentage points ({where})"

    return measure


# ---- subsets --------------------------------------------------------------------------------------------------------


def subsets(results: Results) -> xr.Dataset:
    """Return how well LCA over random subsets agrees with that over the full set, over runs and subsets."""

    def make(task: Task, ds: xr.Dataset) -> xr.Dataset:
        model, data = make_model(task.run, task.run.data()), task.run.data()

        def objective_on(index: np.ndarray) -> Objective:
            options: dict[str, Any] = {"device": task.device, "precision": task.precision}
            return Objective(model, (data.x_train[index], data.y_train[index]), **options)

        return subset_accuracy(ds, objective_on)

    found = results.each_run(_RUN, "subsets", make)
    return over_runs(found.stack(draw=("run", "seed"), create_index=False), "draw")


def _at(fraction: float, resolution: str) -> Claim:
    def measure(result: xr.Dataset) -> str:
        row = result.sel(fraction=fraction, resolution=resolution)
        return f"correlation {number(float(row['correlation']), 3)}, error {number(float(row['relative_error']), 3)}"

    return Claim(f"LCA of each {resolution} from {fraction:.0%} of the examples", measure)


# ---- declarations ---------------------------------------------------------------------------------------------------


def _scales(seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, Scale]:
    down = "8 x 8 digits (1 500 images, 12 060 parameters, 220 iterations) instead of MNIST"
    return {"small": Scale({_RUN: Run("digits-fc")}, seeds, down), "paper": Scale({_RUN: Run("mnist-fc")}, seeds)}


EXPERIMENTS = (
    Experiment(
        name="helpful-only",
        title="What if only the helping parameters moved?",
        source=_SOURCE,
        varied="which parameters of a step move",
        scales=_scales(),
        table=helpful_only,
        claims=(
            Claim("loss change of the helping part of a step alone", _helping_does),
            Claim("helping and hurting parts alone, together, against the step", _parts_interact),
            Claim("final loss of training with helping moves only, against plain", _trained),
        ),
        keep=("theta", "lca"),
    ),
    Experiment(
        name="myopia",
        title="Is LCA myopic?",
        source=_SOURCE,
        varied="nothing; the window over which LCA is summed",
        scales=_scales(),
        table=myopia,
        claims=(
            Claim("signs that agree with the next iteration's", _next_iteration),
            Claim("signs that agree with a long window's", _whole_run),
        ),
    ),
    Experiment(
        name="rescaling",
        title="Does a change of parametrization that keeps the function change LCA, or a Fisher-style measure?",
        source=_SOURCE,
        varied=f"the parametrization: fc1 times {_FACTOR:g}, the kernel of fc2 divided by it",
        scales=_scales(),
        table=rescaling,
        claims=(
            Claim("largest change of a share of LCA", _largest_change("lca_share")),
            Claim("largest change of a share of Fisher", _largest_change("fisher_share")),
        ),
        keep=("theta", "gradient", "lca"),
    ),
    Experiment(
        name="subset",
        title="How well do gradients on a part of the training set approximate LCA?",
        source=_SOURCE,
        varied="the examples whose loss is allocated, 1 to 50 % of the training set",
        scales=_scales(),
        table=subsets,
        claims=(_at(0.1, "parameter"), _at(0.1, "unit"), _at(0.1, "layer")),
        keep=("theta", "lca"),
    ),
)
