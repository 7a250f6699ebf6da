"""Training runs: a network on a data set, recorded, repeatable bit by bit from its seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lcakit.experiments.batches import Batches
from lcakit.experiments.data import ImageData
from lcakit.experiments.existing import refuse_other_end, refuse_other_length
from lcakit.experiments.interventions import Freezer, Intervention, parameter_groups, plan
from lcakit.experiments.names import split_name
from lcakit.experiments.networks import build
from lcakit.experiments.run import OPTIMIZERS, Run, run_of
from lcakit.progress import phase, progress
from lcakit.record.allocation.allocate import allocate
from lcakit.record.allocation.continuing import refuse_other_settings
from lcakit.record.allocation.facts import objective_attrs
from lcakit.record.objective.checks import usable_device
from lcakit.record.objective.describe import describe
from lcakit.record.objective.isolation import on_one_thread, repeatable
from lcakit.record.objective.objective import Objective
from lcakit.record.recorder import Recorder
from lcakit.storage import opening
from lcakit.storage.paths import writable_path
from lcakit.trajectory import provenance
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.labels import Labels

__all__ = [
    "OPTIMIZERS",
    "Run",
    "make_model",
    "make_objective",
    "make_optimizer",
    "objective_of",
    "planned",
    "record_run",
    "run_of",
]


def __dir__() -> list[str]:
    return __all__


ALLOCATION = ("rule", "tolerance", "max_splits", "classes", "compression")  # options that allocate shares

_FEW = 4096
"""Numbers in a batch: of fewer, a second thread costs more than it saves (ten digits, ResNet-8: 13 ms a step, not 7).

And a run then repeats bit by bit on machines with other numbers of cores.
"""


@checks_arguments
def make_model(run: Run, data: ImageData) -> nn.Module:
    """Return the run's network, initialized from its seed."""
    return build(split_name(run.network)[1], data.data_shape, data.n_classes, run.seed)


@checks_arguments
def make_optimizer(run: Run, model: nn.Module, labels: Labels | None = None) -> torch.optim.Optimizer:
    """Return the run's optimizer (settings must be resolved); layers with interventions are groups of their own.

    ``labels`` are those of the objective; without them layers are told from the order in which they are defined.
    """
    labels = labels or describe(model)
    rate = float(run.learning_rate or 0)
    groups = parameter_groups(planned(run, labels), labels, model, rate)
    if run.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=float(run.momentum or 0))


@checks_arguments
def planned(run: Run, labels: Labels) -> dict[str, Intervention]:
    """Return what a resolved run does to each layer of its network."""
    return plan(run.interventions, labels, iterations=int(run.iterations or 0), optimizer=run.optimizer)


@checks_arguments
def make_objective(run: Run, model: nn.Module, data: ImageData, part: str = "train", **options: Any) -> Objective:
    """Return the objective of a run on its training or test set; ``options`` go to :class:`lcakit.Objective`."""
    examples = (data.x_test, data.y_test) if part == "test" else (data.x_train, data.y_train)
    return Objective(model, examples, class_names=data.class_names, **options)


@checks_arguments
def objective_of(
    path: str,
    part: str = "train",
    data_root: str | None = None,
    device: str | None = None,
    devices: Sequence[str] = (),
    precision: str = "float32",
    together: int = 1,
) -> Objective:
    """Return the objective of a recorded file on its training or test set: what workers of a cluster build.

    Parameters
    ----------
    together
        Snapshots to evaluate at once (:class:`lcakit.Objective`).
    devices
        For several GPUs on this machine: each worker of :func:`lcakit.record.allocation.cluster.connected` takes its
        own.

    Raises
    ------
    TrajectoryError
        If the file does not say how it was trained.
    """
    if devices:
        from lcakit.record.allocation.cluster import device_of_worker

        device = device_of_worker(devices)
    with opening.open_trajectory(path) as ds:
        run = run_of(ds, data_root)
    data = run.data()
    how: dict[str, Any] = {"device": device, "precision": precision, "together": together}
    return make_objective(run, make_model(run, data), data, part, **how)


@checks_arguments
def record_run(
    run: Run,
    path: str | Path,
    *,
    device: str | None = None,
    precision: str = "float32",
    quiet: bool = False,
    validation: bool = False,
    **options: Any,
) -> Recorder:
    """Train and record one run.

    Parameters
    ----------
    run
        What to train.
    path
        The file to write.
    device, precision
        Where and how to compute.
    validation
        Allocate the loss over the test set too, along the same trajectory, after training: ``lca_val``, ``loss_val`` …
        With ``resume``, a file whose training is finished is given only these.
    options
        Go to :class:`lcakit.Recorder` (``resume``, ``overwrite``, ``keep``, ``rule`` …); those of the allocation hold
        for the validation set too. A run is resumed for the iterations that it was begun for: they are part of what
        its file says.

    Returns
    -------
    lcakit.Recorder
        After its end; ``seconds`` and ``objective.seconds`` say where the time went.

    Raises
    ------
    ValueError
        For settings or interventions that cannot be, before anything is trained.
    RecordingError
        As of :class:`lcakit.Recorder`.

    Examples
    --------
    >>> run = Run("digits-fc", interventions=[Intervention("last", freeze="start")])
    >>> rec = record_run(run, "frozen.nc", validation=True)  # doctest: +SKIP
    """
    run = run.resolved()
    path = writable_path(path).absolute()
    if options.get("resume"):
        refuse_other_end(path, run)
    with phase("reading the data", quiet=quiet):
        data = run.data()
    model = make_model(run, data).to(usable_device(device or "cpu"))
    how: dict[str, Any] = {"device": device or "cpu", "precision": precision}
    objective = make_objective(run, model, data, **how)
    test = _validation_objective(run, model, data, options, **how) if validation else None
    optimizer = make_optimizer(run, model, objective.labels)
    batches = Batches(len(data.x_train), int(run.batch_size or 0), run.seed)
    recorder = Recorder(
        path,
        objective,
        optimizer,
        n_iterations=run.iterations,
        state={"batches": batches},
        config=run.config(),
        seed=run.seed,
        quiet=quiet,
        **options,
    )
    if not (test and options.get("resume") and _is_trained(path, run, objective)):
        _train(run, recorder, data, optimizer, batches, quiet)
    if test:
        kept = [name for name in options.get("keep", ("gradient", "lca")) if name != "theta"]
        same = {name: options[name] for name in ALLOCATION if name in options}
        allocate(path, test, name="val", keep=kept, quiet=quiet, **same)
    return recorder


def _train(
    run: Run, recorder: Recorder, data: ImageData, optimizer: torch.optim.Optimizer, batches: Batches, quiet: bool
) -> None:
    model, labels = recorder.objective.model, recorder.objective.labels
    x, y = data.x_train.to(recorder.objective.device), data.y_train.to(recorder.objective.device)
    freezer = Freezer(planned(run, labels), labels, model)
    steps = int(run.iterations or 0)
    torch.manual_seed(run.seed)
    with (
        repeatable(),
        recorder as rec,
        progress(steps, f"recording {recorder.path.name}", initial=rec.steps, quiet=quiet) as bar,
    ):
        model.train()
        for step in range(rec.steps, steps):
            index = next(batches).to(x.device)
            optimizer.zero_grad()
            with on_one_thread(index.numel() * x[0].numel() <= _FEW):
                loss = F.cross_entropy(model(x[index]), y[index])
                loss.backward()
            rec.report(loss.detach())
            freezer.before_step(step)
            optimizer.step()
            bar.update()


def _validation_objective(
    run: Run, model: nn.Module, data: ImageData, options: dict[str, Any], **how: Any
) -> Objective:
    if "theta" not in options.get("keep", ("theta",)):
        raise ValueError('the validation loss is allocated along the stored snapshots: keep must include "theta"')
    return make_objective(run, model, data, "test", **how)


def _is_trained(path: Path, run: Run, objective: Objective) -> bool:
    """Say whether the file holds this run to its end; raise RecordingError if it is of another run or length."""
    if not path.exists():
        return False
    ds = opening.open_trajectory(path)
    wanted = {name: value for name, value in run.config().items() if name != "command"}
    refuse_other_settings(provenance.config_of(ds) | ds.attrs, wanted | objective_attrs(objective), path)
    refuse_other_length(path, ds, run)
    return "loss" in ds
