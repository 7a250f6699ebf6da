"""Training runs of the studies: a network on a data set, recorded, repeatable bit by bit from its seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
import torch.nn.functional as F
import xarray as xr
from torch import nn

from lcakit import provenance
from lcakit.errors import TrajectoryError, unknown
from lcakit.guard import printable
from lcakit.progress import progress
from lcakit.record.objective import Objective
from lcakit.record.probe import usable_device
from lcakit.record.recorder import Recorder
from lcakit.studies.batches import Batches
from lcakit.studies.data import NAMES, ImageData, load
from lcakit.studies.networks import NETWORKS, build
from lcakit.studies.paper import setting

OPTIMIZERS = ("sgd", "sgd-mom0", "adam")
SETTINGS = ("learning_rate", "momentum", "batch_size", "iterations")


@dataclass(frozen=True)
class Run:
    """One training run, complete: the same Run gives the same weights on the same machine.

    ``network`` is a data set and a network, such as ``mnist-fc``. ``None`` settings are the paper's
    (:mod:`lcakit.studies.paper`); for a data set of your own, ``FILE.npz-fc``, those of MNIST.
    """

    network: str
    optimizer: str = "sgd"
    seed: int = 0
    learning_rate: float | None = None
    momentum: float | None = None
    batch_size: int | None = None
    iterations: int | None = None
    data_root: str | None = None

    def resolved(self) -> Run:
        """Return the run with every open setting filled in.

        Raises
        ------
        ValueError
            For a network, data set or optimizer that does not exist, or a setting that is not positive.
        """
        data, _, network = self.network.rpartition("-")
        own_data = data.endswith(".npz")
        if network not in NETWORKS or not (data in NAMES or own_data):
            names = [*(f"{d}-{n}" for d in NAMES for n in NETWORKS), *(f"FILE.npz-{n}" for n in NETWORKS)]
            raise unknown("network", self.network, names)
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        default = setting(f"mnist-{network}" if own_data else self.network, self.optimizer)
        given = {field: getattr(self, field) for field in SETTINGS}
        chosen = {field: getattr(default, field) if value is None else value for field, value in given.items()}
        for field in ("learning_rate", "batch_size", "iterations"):
            if not chosen[field] > 0:
                raise ValueError(f"{field} must be positive, got {chosen[field]}")
        return dataclasses.replace(self, **chosen)

    def data(self) -> ImageData:
        """Load the run's data set."""
        return load(self.network.rpartition("-")[0], self.data_root)

    def config(self) -> dict[str, Any]:
        """Return what describes the run in the file: every setting and the command that was typed."""
        fields = {k: v for k, v in dataclasses.asdict(self).items() if k != "data_root"}
        return fields | {"command": provenance.command_line()}


def make_model(run: Run, data: ImageData) -> nn.Module:
    """Return the run's network, initialized from its seed."""
    return build(run.network.rpartition("-")[2], data.data_shape, data.n_classes, run.seed)


def make_optimizer(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    """Return the run's optimizer (settings must be resolved)."""
    rate = float(run.learning_rate or 0)
    if run.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=rate)
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=float(run.momentum or 0))


def make_objective(run: Run, model: nn.Module, data: ImageData, part: str = "train", **options: Any) -> Objective:
    """Return the objective of a run on its training or test set; ``options`` go to :class:`lcakit.Objective`."""
    examples = (data.x_test, data.y_test) if part == "test" else (data.x_train, data.y_train)
    return Objective(model, examples, class_names=data.class_names, **options)


def run_of(ds: xr.Dataset, data_root: str | None = None) -> Run:
    """Return the run that a file was recorded from.

    Parameters
    ----------
    data_root
        Folder of the data sets. Nothing in a file is used as a path: of a data set of one's own (``FILE.npz``) only
        the name is taken, and looked for here.

    Raises
    ------
    TrajectoryError
        If the file does not say, because it was recorded from a loop of the user's own; if what it says is no run; or
        if it was recorded on a data set of one's own and there is no ``data_root``.
    """
    config = provenance.config_of(ds)
    fields = {f.name for f in dataclasses.fields(Run)} - {"data_root"}
    if not fields <= set(config):
        raise TrajectoryError(
            "the file does not say which network and data it was recorded from (it was not made by lcakit record). "
            "Build the objective yourself and call lk.allocate(path, objective)."
        )
    for name in fields:
        allowed = (str,) if name in ("network", "optimizer") else (int, float, type(None))
        if not isinstance(config[name], allowed):
            raise TrajectoryError(f"the file's config says {name} is {printable(config[name], 60)}, which it cannot be")
    network, kind, architecture = config["network"].rpartition("-")
    if network.endswith(".npz"):
        own = PureWindowsPath(network).name  # takes off folders of either kind
        if data_root is None:
            raise TrajectoryError(
                f"the file was recorded on data of its own, {printable(own, 60)!r}. Pass data_root=… (--data-root), "
                "the folder that holds it: a path in a file is not followed."
            )
        config["network"] = f"{Path(data_root) / own}{kind}{architecture}"
    return Run(**{name: config[name] for name in fields}, data_root=data_root)


def record_run(
    run: Run,
    path: str | Path,
    *,
    device: str | None = None,
    precision: str = "float32",
    quiet: bool = False,
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
    options
        Go to :class:`lcakit.Recorder` (``resume``, ``overwrite``, ``keep``, ``rule`` …).

    Returns
    -------
    lcakit.Recorder
        After its end; ``seconds`` and ``objective.seconds`` say where the time went.
    """
    run = run.resolved()
    data = run.data()
    where = usable_device(device or "cpu")
    model = make_model(run, data).to(where)
    torch.manual_seed(run.seed)
    optimizer = make_optimizer(run, model)
    batches = Batches(len(data.x_train), int(run.batch_size or 0), run.seed)
    x, y = data.x_train.to(where), data.y_train.to(where)
    steps = int(run.iterations or 0)
    objective = make_objective(run, model, data, device=where, precision=precision)
    recorder = Recorder(
        path,
        objective,
        optimizer,
        n_iterations=steps,
        state={"batches": batches},
        config=run.config(),
        seed=run.seed,
        quiet=quiet,
        **options,
    )
    with (
        recorder as rec,
        progress(steps, f"recording {Path(path).name}", initial=rec.steps, quiet=quiet) as bar,
    ):
        model.train()
        for _ in range(rec.steps, steps):
            index = next(batches).to(where)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[index]), y[index])
            loss.backward()
            rec.report(loss.detach())
            optimizer.step()
            bar.update()
    return recorder
