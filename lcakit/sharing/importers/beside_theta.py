"""What checkpoints hold beside θ: frozen parameters and buffers, compared with those of the objective's model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from lcakit.errors import LcakitWarning, TrajectoryError
from lcakit.record.objective.buffers import evaluated_buffers, loss_with_buffers
from lcakit.record.objective.describe import name_cleaner, unwrap
from lcakit.record.objective.objective import Objective
from lcakit.sharing.importers.names import bare_name
from lcakit.sharing.importers.states import State

__all__ = ["BesideTheta"]


def __dir__() -> list[str]:
    return __all__


_ROUNDING = 1e-6  # relative, as for a recording's buffers
_MOST_NAMES = 5


class _Other(NamedTuple):
    """A checkpoint whose buffers are not those of the objective."""

    row: int
    path: Path
    buffers: State


class BesideTheta:
    """Compares frozen parameters and buffers of checkpoints with each other, and with those of the objective.

    Frozen parameters are those of the objective's model, and so are buffers that are the same in all checkpoints:
    others are refused, since loading a checkpoint into the model puts them right. Buffers that training moved become
    part of the trajectory, with which the loss of each checkpoint is its own.

    Parameters
    ----------
    model
        The model of the checkpoints.
    objective
        Buffers count as far as it evaluates with them: running statistics of BatchNorm, say, with ``norm="running"``
        only. None: all but those of BatchNorm do.
    """

    def __init__(self, model: nn.Module, objective: Objective | None) -> None:
        self._objective = objective
        self._frozen = _frozen_parameters(model)
        self._buffers = _own_buffers(model) if objective is None else evaluated_buffers(objective)
        self._first: dict[str, torch.Tensor] = {}
        self._lacking: set[str] = set()
        self._moving: dict[str, None] = {}
        self._differing: dict[str, None] = {}
        self._ends: list[_Other] = []

    def compare(self, state: State, path: Path, row: int, is_end: bool) -> None:
        """Look at one checkpoint; frozen parameters are looked at in the first and the last one.

        Raises
        ------
        TrajectoryError
            If frozen parameters are not those of the objective's model.
        """
        stored = {bare_name(name): value for name, value in state.items()}
        if self._objective is not None and is_end:
            _refuse_other_frozen(stored, path, self._frozen)
        held = {name: stored[bare_name(name)] for name in self._buffers if bare_name(name) in stored}
        self._lacking |= {name for name in self._buffers if not _fits(held.get(name), self._buffers[name])}
        for name, value in held.items():
            if not _same(self._first.setdefault(name, value.clone()), value):
                self._moving[name] = None
        other = [name for name, value in held.items() if not _same(value, self._buffers[name])]
        if other and self._objective is not None:
            self._differing |= dict.fromkeys(other)
            fit = {name: held[name].clone() for name in other if held[name].shape == self._buffers[name].shape}
            self._ends = [*self._ends[:1], _Other(row, path, fit)]

    def report(self, theta_of: Callable[[int], Any]) -> dict[str, torch.Tensor]:
        """Return the buffers to store with each snapshot, as they are in the first checkpoint: none where none moved.

        Parameters
        ----------
        theta_of
            Gives θ (K,) of a checkpoint by its place.

        Raises
        ------
        TrajectoryError
            If the buffers are the same in all checkpoints, others in the objective's model, and the loss is another
            with them.
        """
        moving = [name for name in self._moving if name not in self._lacking]
        to_store = {name: value for name, value in self._first.items() if name not in self._lacking}
        lacking = [name for name in self._moving if name in self._lacking and self._first[name].is_floating_point()]
        if lacking:
            _warn(
                f"the buffers {_listed(lacking)} are not the same in all checkpoints, and not in each of them in the "
                "shape that the model has, so they are left out: an allocation will be of the loss with those of the "
                "objective's model, which is not the loss of the checkpoints where it depends on them."
            )
        if any(self._first[name].is_floating_point() for name in moving):  # not counters alone
            return to_store
        if self._objective is None:
            return {}
        losses = [self._losses(self._objective, end, theta_of(end.row)) for end in self._ends]
        matters = [not math.isclose(fixed, own, rel_tol=_ROUNDING, abs_tol=1e-12) for fixed, own in losses]
        if any(matters) and moving:
            return to_store
        if not any(matters) and not any(self._buffers[name].is_floating_point() for name in self._differing):
            return {}  # counters, say
        path, (fixed, own) = max(
            ((end.path, pair) for end, pair in zip(self._ends, losses, strict=True)),
            key=lambda found: abs(found[1][0] - found[1][1]),
        )
        says = f"of {path.name} it is {fixed:.6g}, with its own buffers {own:.6g}"
        if any(matters):
            raise TrajectoryError(
                f"{path}: the buffers {_listed(self._differing)} have other values than in the objective's model, and "
                f"the loss depends on them: {says}. Load a checkpoint into the model first (model.load_state_dict), "
                "then make the objective."
            )
        _warn(
            f"the buffers {_listed(self._differing)} of the checkpoints are not those of the objective's model, with "
            f"which the loss is allocated: {says}."
        )
        return {}

    @staticmethod
    def _losses(objective: Objective, end: _Other, theta: Any) -> tuple[float, float]:
        """Return the loss of a checkpoint's parameters with the objective's buffers, and with its own."""
        return objective.loss(theta), loss_with_buffers(objective, theta, end.buffers)


def _frozen_parameters(model: nn.Module) -> State:
    bare = unwrap(model)
    clean = name_cleaner(bare)
    return {clean(name): p.detach() for name, p in bare.named_parameters() if not p.requires_grad}


def _own_buffers(model: nn.Module) -> State:
    """Return the buffers by clean name, without running statistics of BatchNorm, which an objective rarely uses."""
    bare = unwrap(model)
    clean = name_cleaner(bare)
    norms = [module for module in bare.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    running = {id(buffer) for norm in norms for buffer in norm.buffers()}
    return {clean(name): buffer for name, buffer in bare.named_buffers() if id(buffer) not in running}


def _refuse_other_frozen(stored: State, path: Path, frozen: State) -> None:
    for name, parameter in frozen.items():
        value = stored.get(bare_name(name))
        if value is not None and not _same(value, parameter):
            raise TrajectoryError(
                f"{path}: {name!r}, which the model does not train, has other values than in the objective's model, "
                "so the losses would not be those of the checkpoints. Load a checkpoint into the model first "
                "(model.load_state_dict), then make the objective."
            )


def _same(stored: torch.Tensor, other: torch.Tensor) -> bool:
    """Say whether the numbers are the same, in the precision of the first."""
    return stored.shape == other.shape and torch.equal(stored, other.detach().to(stored))


def _fits(stored: torch.Tensor | None, buffer: torch.Tensor) -> bool:
    return stored is not None and stored.shape == buffer.shape and stored.is_complex() == buffer.is_complex()


def _warn(text: str) -> None:
    warnings.warn(text, LcakitWarning, stacklevel=6)


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(map(repr, list(names)[:_MOST_NAMES]))
    return shown + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")
