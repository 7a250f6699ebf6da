"""What if only the helping parameters moved? A recorded step taken apart, and training that takes only such moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.errors import unknown
from lcakit.experiments.path import refuse_other_objective, require_path
from lcakit.progress import progress
from lcakit.record.allocation.allocator import Allocator
from lcakit.record.allocation.settings import AllocationSettings
from lcakit.record.allocation.stored import Stored
from lcakit.record.objective.describe import trainable_parameters
from lcakit.record.objective.objective import Objective
from lcakit.trajectory.arguments import checks_arguments, checks_creation

__all__ = ["PARTS", "Training", "split_steps", "train_helping_only"]


def __dir__() -> list[str]:
    return __all__


PARTS = ("helping", "hurting", "all")
"""Parts of a step that are taken alone, or all of it."""

_STEP_ATTRS = {
    "predicted": "sum of the LCA of the parameters that move",
    "actual": "loss change when only they move",
    "first_order": "gradient at the start times their move",
    "share": "share of parameters that move",
}


@checks_arguments
def split_steps(
    ds: xr.Dataset, objective: Objective, iterations: Sequence[int] | None = None, quiet: bool = False
) -> xr.Dataset:
    r"""Take recorded steps again with only their helping parameters, only their hurting ones, and all.

    With :math:`H = \{i : A_i < 0\}` (helping), :math:`\{i : A_i > 0\}` (hurting) or every parameter (all), from the
    same start:

    .. math:: \mathrm{predicted} = \sum_{i \in H} A_i, \qquad
              \mathrm{actual} = L(θ_t + \mathbb{1}_H\, Δθ) - L(θ_t), \qquad
              \mathrm{first\_order} = \nabla L(θ_t) \cdot \mathbb{1}_H\, Δθ

    LCA allocates the change along the path on which *all* parameters move. Where the loss is curved the parts interact:
    ``predicted`` of helping and hurting add up to that of all, ``actual`` need not.

    Parameters
    ----------
    ds
        Trajectory with ``theta``, ``lca`` and ``loss``.
    objective
        The loss that was recorded: the same network and data.
    iterations
        Labels of iterations; all of them by default (two evaluations each, and a gradient).
    quiet
        No progress bar.

    Returns
    -------
    Dataset
        (iteration, part), float64, with parts ``helping, hurting, all``: ``predicted``, ``actual``, ``first_order`` (in
        the unit of the loss) and ``share`` (of all parameters).

    Raises
    ------
    TrajectoryError
        If something needed was not recorded, or the objective has other parameters or another loss than the file.
    ValueError
        For an iteration that is not in the file.

    Notes
    -----
    Not in the paper; a question of its reviewers.
    """
    require_path(ds, "theta", "lca", "loss")
    labels = ds["iteration"].values
    chosen = labels if iterations is None else np.asarray(iterations)
    if missing := [n for n in chosen if n not in labels]:
        raise unknown("iteration", missing[0], labels)
    refuse_other_objective(ds, objective)
    rows = []
    with progress(len(chosen), "splitting steps", quiet=quiet) as bar:
        for position in np.searchsorted(labels, chosen):
            rows.append(_split(ds, objective, int(position)))
            bar.update()
    unit = str(ds.attrs.get("loss_unit", "1"))
    values = np.array(rows).reshape(len(rows), len(_STEP_ATTRS), len(PARTS))
    out = {
        name: (("iteration", "part"), values[:, k], {"long_name": text, "units": "1" if name == "share" else unit})
        for k, (name, text) in enumerate(_STEP_ATTRS.items())
    }
    return xr.Dataset(out, coords={"iteration": chosen, "part": list(PARTS)})


def _split(ds: xr.Dataset, objective: Objective, position: int) -> list[list[float]]:
    """Return predicted, actual, first order and share of one step, each for all parts."""
    here, there = (ds["theta"].isel(snapshot=position + k).values.astype(np.float64) for k in (0, 1))
    lca = ds["lca"].isel(iteration=position).values.astype(np.float64)
    begin = objective.evaluate(here, accuracy=False)
    gradient = np.asarray(begin.gradient.cpu(), np.float64) if begin.gradient is not None else np.zeros(0)
    found = []
    for mask in (lca < 0, lca > 0, np.ones(lca.shape, bool)):
        move = np.where(mask, there - here, 0)
        actual = objective.loss(here + move) - begin.loss
        found.append([lca[mask].sum(), actual, float(gradient @ move), mask.mean()])
    rows: list[list[float]] = np.transpose(found).tolist()
    return rows


# ---- training -------------------------------------------------------------------------------------------------------


@checks_creation
@dataclass(frozen=True)
class Training:
    """A fresh start of one training: the objective (its model is the one that trains) and what takes one step."""

    objective: Objective
    step: Callable[[], Any]


@checks_arguments
def train_helping_only(
    start: Callable[[], Training],
    iterations: int,
    *,
    rule: str = "rk4",
    tolerance: float | None = 1e-3,
    quiet: bool = False,
) -> xr.Dataset:
    r"""Train twice from the same start: plainly, and taking only the helping moves of every step.

    In each iteration the optimizer proposes a step, its LCA over the whole evaluation set is computed, and the
    parameters with :math:`A_i \ge 0` are put back. The optimizer is not told: its momentum goes on as if it had moved
    them. Nobody would train like this (three full-set gradients a step); it says what hurting moves are worth.

    Parameters
    ----------
    start
        Starts the training over: same weights, same order of batches. Called once for each of the two.
    iterations
        Optimizer steps.
    rule, tolerance
        Of the allocation (:func:`lcakit.allocate`).

    Returns
    -------
    Dataset
        With ``part`` = ``all`` (plain), ``helping``: ``loss`` and ``accuracy`` (part, snapshot); ``predicted`` (sum of
        the LCA of the moves taken), ``actual`` (their loss change) and ``share`` (of parameters that moved), each
        (part, iteration).

    Raises
    ------
    DivergedError
        If the loss or a gradient stops being finite.

    Notes
    -----
    Not in the paper; a question of its reviewers.
    """
    runs = []
    for part in ("all", "helping"):
        with progress(iterations, f"training, {part} moves", quiet=quiet) as bar:
            runs.append(
                _train(start(), part == "helping", iterations, AllocationSettings(rule, tolerance, classes=None), bar)
            )
    return xr.concat(runs, dim=xr.DataArray(["all", "helping"], dims="part", name="part"))


def _train(
    training: Training, helping_only: bool, iterations: int, settings: AllocationSettings, bar: Any
) -> xr.Dataset:
    objective = training.objective
    allocator = Allocator(objective, settings, Stored(frozenset({"lca"})))
    here = objective.parameters_tensor()
    at = [allocator.start(here)]
    moves = []
    for _ in range(iterations):
        training.step()
        proposed = objective.parameters_tensor()
        reached, row = allocator.advance(proposed)
        lca = np.asarray(row["lca"], np.float64)
        taken = lca < 0 if helping_only else np.ones(lca.shape, bool)
        if helping_only:
            proposed = torch.where(torch.as_tensor(taken, device=proposed.device), proposed, here)
            _place(objective, proposed)
            reached = allocator.start(proposed)
        here = proposed
        at.append(reached)
        moves.append((lca[taken].sum(), at[-1]["loss"] - at[-2]["loss"], taken.mean()))
        bar.update()
    return _labelled(objective, at, moves)


def _place(objective: Objective, theta: torch.Tensor) -> None:
    """Write θ (K,) into the model that trains."""
    parameters = [parameter for _, parameter in trainable_parameters(objective.model)]
    with torch.no_grad():
        for parameter, part in zip(parameters, theta.split([p.numel() for p in parameters]), strict=True):
            parameter.copy_(part.view_as(parameter))


def _labelled(objective: Objective, at: list[dict[str, Any]], moves: list[tuple[float, float, float]]) -> xr.Dataset:
    unit, rights = {"units": objective.loss_unit}, [row.get("accuracy", np.nan) for row in at]
    predicted, actual, share = np.array(moves).reshape(-1, 3).T
    return xr.Dataset(
        {
            "loss": ("snapshot", [row["loss"] for row in at], {"long_name": "loss over the evaluation set", **unit}),
            "accuracy": ("snapshot", rights, {"long_name": "accuracy", "units": "1"}),
            "predicted": ("iteration", predicted, {"long_name": _STEP_ATTRS["predicted"], **unit}),
            "actual": ("iteration", actual, {"long_name": _STEP_ATTRS["actual"], **unit}),
            "share": ("iteration", share, {"long_name": _STEP_ATTRS["share"], "units": "1"}),
        },
        coords={"snapshot": np.arange(len(at)), "iteration": np.arange(len(moves))},
    )
