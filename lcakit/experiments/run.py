"""One training run as data: what is trained, how, and what is written about it in its file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import xarray as xr

from lcakit.errors import TrajectoryError, unknown
from lcakit.experiments.data import ImageData, load
from lcakit.experiments.interventions import Intervention
from lcakit.experiments.names import split_name
from lcakit.experiments.paper import setting
from lcakit.experiments.subsets import SUBSET_SEED, mislabelled, subset
from lcakit.text import printable
from lcakit.trajectory import provenance
from lcakit.trajectory.arguments import checks_arguments, checks_creation

__all__ = ["OPTIMIZERS", "Run", "own_data_in", "run_of"]


def __dir__() -> list[str]:
    return __all__


OPTIMIZERS = ("sgd", "sgd-mom0", "adam")
_SETTINGS = ("learning_rate", "momentum", "batch_size", "iterations")
_REQUIRED = {"network", "optimizer", "seed", *_SETTINGS}  # what files of every age say


@checks_creation
@dataclass(frozen=True)
class Run:
    """One training run, complete: the same Run gives the same weights on the same machine.

    Parameters
    ----------
    network
        A data set and a network, such as ``mnist-fc``, ``cifar10-resnet20`` or ``FILE.npz-lenet-small``.
    optimizer, seed
        ``"sgd"`` (momentum 0.9), ``"sgd-mom0"`` or ``"adam"``; seed of initial values, batches and dropout.
    learning_rate, momentum, batch_size, iterations
        None: those of :func:`lcakit.experiments.paper.setting`; for a data set of your own, those of MNIST.
    train_examples, validation_examples
        Use a class-balanced subset (:mod:`lcakit.experiments.subsets`) of the training set, for training and as the set
        whose loss is allocated; and of the test set, whose loss is the validation loss. None: all.
    interventions
        Layers that are frozen, or learn in a way of their own (:mod:`lcakit.experiments.interventions`).
    data_root
        Folder of the data sets; ``$LCAKIT_DATA`` by default. It is not stored in the file.
    label_noise
        Share of the training labels that are wrong (:mod:`lcakit.experiments.subsets`), to see overfitting.
    """

    network: str
    optimizer: str = "sgd"
    seed: int = 0
    learning_rate: float | None = None
    momentum: float | None = None
    batch_size: int | None = None
    iterations: int | None = None
    train_examples: int | None = None
    validation_examples: int | None = None
    interventions: tuple[Intervention, ...] = ()
    data_root: str | None = None
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "interventions", tuple(self.interventions))  # a list would not compare or hash

    def resolved(self) -> Run:
        """Return the run with every open setting filled in.

        Raises
        ------
        ValueError
            For a network, data set or optimizer that does not exist, or a setting that it cannot have.
        """
        data, network = split_name(self.network)
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        default = setting(f"mnist-{network}" if data.endswith(".npz") else self.network, self.optimizer)
        given = {field: getattr(self, field) for field in _SETTINGS}
        chosen = {field: getattr(default, field) if value is None else value for field, value in given.items()}
        for field in ("learning_rate", "batch_size", "iterations"):
            if not chosen[field] > 0:
                raise ValueError(f"{field} must be positive, got {chosen[field]}")
        _check_momentum(chosen["momentum"], self.optimizer)
        return dataclasses.replace(self, **chosen)

    def data(self) -> ImageData:
        """Load the run's data set, or the subset of it that is used."""
        whole = load(split_name(self.network)[0], self.data_root)
        part = subset(whole, self.train_examples, self.validation_examples)
        return mislabelled(part, self.label_noise) if self.label_noise else part

    def config(self) -> dict[str, Any]:
        """Return what describes the run in the file, for JSON: every setting and the command that was typed."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "data_root"}
        fields["interventions"] = [one.config() for one in self.interventions]
        if not self.label_noise:  # as files of every age have it
            del fields["label_noise"]
        subsets = self.train_examples is not None or self.validation_examples is not None or self.label_noise
        return fields | ({"subset_seed": SUBSET_SEED} if subsets else {}) | {"command": provenance.command_line()}


def _check_momentum(momentum: float, optimizer: str) -> None:
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}")
    if momentum and optimizer != "sgd":
        raise ValueError(f"the optimizer {optimizer!r} has no momentum, got {momentum}; use sgd, or leave it out")


@checks_arguments
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
        If the file does not say, because it was recorded from a loop of the user's own; if what it says is not a run;
        or if it was recorded on a data set of one's own and there is no ``data_root``.
    """
    config = provenance.config_of(ds)
    if _REQUIRED - set(config):
        raise TrajectoryError(
            "the file does not say which network and data it was recorded from (it was not made by lcakit record). "
            "Build the objective yourself and call lk.allocate(path, objective)."
        )
    fields = {f.name for f in dataclasses.fields(Run)} - {"data_root", "interventions"}
    for name in fields & set(config):
        allowed = (str,) if name in ("network", "optimizer") else (int, float, type(None))
        if not isinstance(config[name], allowed):
            found = printable(config[name], 60)
            raise TrajectoryError(f"the file's config says {name} is {found}, which is not possible")
    settings = {name: config[name] for name in fields & set(config)}
    settings["network"] = own_data_in(config["network"], data_root)
    return Run(**settings, interventions=_interventions_of(config), data_root=data_root)


def own_data_in(network: str, data_root: str | None) -> str:
    """Return the name of a network on data of one's own with its data in ``data_root``; other names as they are."""
    data, ending, architecture = network.rpartition(".npz-")
    if not ending:
        return network
    own = PureWindowsPath(data).name + ".npz"  # takes off folders of either kind
    if data_root is None:
        raise TrajectoryError(
            f"the file was recorded on data of its own, {printable(own, 60)!r}. Pass data_root=… (--data-root), "
            "the folder that holds it: a path in a file is not followed."
        )
    return f"{Path(data_root) / own}-{architecture}"


def _interventions_of(config: Mapping[str, Any]) -> tuple[Intervention, ...]:
    stored = config.get("interventions", [])
    try:
        return tuple(Intervention(**one) for one in stored)
    except (TypeError, ValueError) as error:
        raise TrajectoryError(
            f"the file's config says interventions are {printable(stored, 60)}, which is not possible"
        ) from error
