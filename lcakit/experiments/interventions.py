"""Interventions in training: layers that are frozen, or learn at a rate or with a momentum of their own.

They change what the optimizer does with the parameters of a layer and nothing else: batches, dropout and initial values
are those of the plain run, so a run and its plain twin are the same up to the moment the intervention acts.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

import torch
from torch import nn

from lcakit.analysis.freezing import argmin_iteration
from lcakit.errors import TrajectoryError, unknown
from lcakit.record.objective.describe import trainable_parameters
from lcakit.storage.opening import open_trajectory
from lcakit.trajectory import provenance
from lcakit.trajectory.arguments import checks_arguments, checks_creation
from lcakit.trajectory.labels import Labels, tensor_shapes

__all__ = ["EFFECTS", "Freezer", "Intervention", "freeze_at_argmin", "kernel_layers", "parameter_groups", "plan"]


def __dir__() -> list[str]:
    return __all__


EFFECTS = ("freeze", "lr_factor", "momentum", "delay")
"""What an intervention can do to a layer; each has one."""


@checks_creation
@dataclass(frozen=True)
class Intervention:
    r"""What is done to one layer. A layer is a kernel layer: kernel, bias, and the norm layers that follow it.

    Parameters
    ----------
    layer
        Name of a layer, or ``"first"`` or ``"last"``.
    freeze
        ``"start"``, or a number t of steps: the optimizer moves the layer in iterations 0 … t − 1 and never after, so
        that its LCA is exactly zero from iteration t on. t = T, the length of the run, freezes nothing.
    lr_factor
        The layer's learning rate is the run's times this.
    momentum
        The layer's own momentum, in [0, 1). SGD only.
    delay
        The same in iterations: d = 0, 1, … sets the momentum to :math:`d / (d + 1)`, with which a gradient acts d
        iterations late in the mean (section 4 of the paper: 0 … 9 for the last layer). The learning rate stays as it
        is; a step of the same length in the long run takes ``lr_factor`` = (1 − momentum) / (1 − the run's).

    Raises
    ------
    ValueError
        For values that are none of these, for nothing to do, or for momentum and delay together.

    Examples
    --------
    >>> Intervention("last", delay=4).own_momentum
    0.8
    """

    layer: str
    freeze: str | int | None = None
    lr_factor: float | None = None
    momentum: float | None = None
    delay: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.layer, str) or not self.layer:
            raise ValueError(f'a layer is a name, "first" or "last"; got {self.layer!r}')
        if not self.effects:
            raise ValueError(f"an intervention in {self.layer!r} does nothing; give one of {', '.join(EFFECTS)}")
        if self.freeze is not None and self.freeze != "start" and not _is_count(self.freeze):
            raise ValueError(f'freeze must be "start" or a number of steps, at least 0; got {self.freeze!r}')
        if self.lr_factor is not None and not (_is_number(self.lr_factor) and 0 < self.lr_factor < float("inf")):
            raise ValueError(f"lr_factor must be a positive number, got {self.lr_factor!r}; 0 is freeze")
        if self.momentum is not None and not (_is_number(self.momentum) and 0 <= self.momentum < 1):
            raise ValueError(f"momentum must be at least 0 and below 1, got {self.momentum!r}")
        if self.delay is not None and not _is_count(self.delay):
            raise ValueError(f"delay must be a whole number of iterations, at least 0; got {self.delay!r}")
        if self.delay is not None and self.momentum is not None:
            raise ValueError(f"delay sets the momentum, so {self.layer!r} cannot have both; give one of them")

    @property
    def effects(self) -> dict[str, Any]:
        """The effects that were asked for, by name."""
        return {name: getattr(self, name) for name in EFFECTS if getattr(self, name) is not None}

    @property
    def own_momentum(self) -> float | None:
        """The layer's own momentum, given as such or as a delay; None: the run's."""
        return self.momentum if self.delay is None else self.delay / (self.delay + 1)

    @property
    def frozen_from(self) -> int | None:
        """The first iteration in which the layer does not move; None: it is never frozen."""
        return None if self.freeze is None else 0 if self.freeze == "start" else int(self.freeze)

    def config(self) -> dict[str, Any]:
        """Return it as plain data for a file."""
        return {"layer": self.layer, **self.effects}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


# ---- from layers to parameters ---------------------------------------------------------------------------------


@checks_arguments
def plan(
    interventions: Iterable[Intervention], labels: Labels, *, iterations: int, optimizer: str = "sgd"
) -> dict[str, Intervention]:
    """Return what is done to each layer of a network, by its name; several interventions in a layer are joined.

    Raises
    ------
    ValueError
        For a layer the network has not, what contradicts itself (the same effect twice, delay and momentum, a rate or
        momentum of a layer that never moves), freezing after the end, or a momentum for Adam.
    """
    found: dict[str, Intervention] = {}
    for one in interventions:
        layer = _layer_name(one.layer, kernel_layers(labels))
        _refuse_impossible(one, iterations, optimizer)
        found[layer] = _joined(found[layer], one) if layer in found else dataclasses.replace(one, layer=layer)
    for one in found.values():
        if one.frozen_from == 0 and len(one.effects) > 1:
            others = ", ".join(name for name in one.effects if name != "freeze")
            raise ValueError(f"{one.layer!r} is frozen from the start, so {others} would change nothing; leave it out")
    return found


@checks_arguments
def kernel_layers(labels: Labels) -> list[str]:
    """Return the names of the layers that interventions can be in, first to last."""
    return list(dict.fromkeys(tensor.kernel_layer or tensor.layer for tensor in labels.tensors))


def _layer_name(name: str, layers: Sequence[str]) -> str:
    if name in layers:
        return name
    ends = {"first": layers[0], "last": layers[-1]}
    if name not in ends:
        raise unknown("layer", name, ["first", "last", *layers])
    return ends[name]


def _refuse_impossible(one: Intervention, iterations: int, optimizer: str) -> None:
    if one.own_momentum is not None and optimizer == "adam":
        raise ValueError(
            f"{one.layer!r} cannot have a momentum (or delay) of its own with adam, whose averages are something else. "
            "Use the optimizer sgd, or lr_factor."
        )
    if one.frozen_from is not None and one.frozen_from > iterations:
        raise ValueError(
            f"{one.layer!r} is to be frozen from step {one.frozen_from} on, but the run has {iterations} steps; "
            "freeze earlier, or train longer"
        )


def _joined(one: Intervention, other: Intervention) -> Intervention:
    twice = [name for name in other.effects if name in one.effects]
    if twice:
        raise ValueError(f"{twice[0]} of the layer {one.layer!r} is given twice; give it once")
    return dataclasses.replace(one, **other.effects)


@checks_arguments
def parameter_groups(
    planned: Mapping[str, Intervention], labels: Labels, model: nn.Module, learning_rate: float
) -> list[dict[str, Any]]:
    """Return the parameters as groups for a torch optimizer: all others first, then each layer with a rate or momentum.

    The group of all others is there even where it is empty, because its rate is the one that is recorded.
    """
    by_layer = _parameters_by_layer(labels, model)
    own = {name: one for name, one in planned.items() if {"lr_factor", "momentum", "delay"} & set(one.effects)}
    rest = [p for layer, parameters in by_layer.items() if layer not in own for p in parameters]
    groups: list[dict[str, Any]] = [{"params": rest}]
    for name, one in own.items():
        group: dict[str, Any] = {"params": by_layer[name]}
        if one.lr_factor is not None:
            group["lr"] = learning_rate * one.lr_factor
        if one.own_momentum is not None:
            group["momentum"] = one.own_momentum
        groups.append(group)
    return groups


@checks_creation
class Freezer:
    """Keeps the optimizer from moving frozen layers: their gradients are taken away before it steps.

    Torch's SGD and Adam pass over parameters without a gradient, momentum included, so these do not change by a bit.
    """

    def __init__(self, planned: Mapping[str, Intervention], labels: Labels, model: nn.Module) -> None:
        by_layer = _parameters_by_layer(labels, model)
        self._frozen = [(one.frozen_from, by_layer[name]) for name, one in planned.items() if one.freeze is not None]

    def before_step(self, iteration: int) -> None:
        """Call it between ``backward()`` and ``optimizer.step()`` of an iteration."""
        for first, parameters in self._frozen:
            if first is not None and iteration >= first:
                for parameter in parameters:
                    parameter.grad = None


def _parameters_by_layer(labels: Labels, model: nn.Module) -> dict[str, list[torch.nn.Parameter]]:
    found: dict[str, list[torch.nn.Parameter]] = {}
    parameters = dict(trainable_parameters(model))
    for tensor in labels.tensors:
        found.setdefault(tensor.kernel_layer or tensor.layer, []).append(parameters[tensor.name])
    return found


# ---- from an earlier run ---------------------------------------------------------------------------------------


@checks_arguments
def freeze_at_argmin(layer: str, path: str | os.PathLike[str], network: str, labels: Labels) -> Intervention:
    """Return the intervention that freezes a layer where, in an earlier run, its cumulative LCA was smallest.

    Parameters
    ----------
    layer
        Name of a kernel layer, ``"first"`` or ``"last"``.
    path
        File of the earlier run.
    network, labels
        What is to be trained: its name, such as ``mnist-fc``, and its parameters.

    Raises
    ------
    TrajectoryError
        If the file is of another network, or cannot be opened.
    ValueError
        For a layer the network has not.

    Notes
    -----
    :func:`lcakit.layers.argmin_iteration` says where that is; section 4 of the paper freezes layers.
    """
    name = _layer_name(layer, kernel_layers(labels))
    with open_trajectory(path) as ds:
        stored = provenance.config_of(ds).get("network", network)
        if "run" in ds.dims:
            raise TrajectoryError(f"{path} holds {ds.sizes['run']} runs; give the file of one")
        same_name = PureWindowsPath(str(stored)).name == PureWindowsPath(network).name
        if not same_name or tensor_shapes(ds) != {tensor.name: tensor.shape for tensor in labels.tensors}:
            raise TrajectoryError(
                f"{path} is of another network than {network}, so its layers say nothing about this run. "
                "Give a file of the same data set and network."
            )
        return Intervention(name, freeze=int(argmin_iteration(ds).sel(layer=name)))
