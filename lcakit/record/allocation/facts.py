"""What is known of an objective without its data: what a file says of it, and what can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lcakit.record.objective.objective import Objective
from lcakit.trajectory.class_kind import CLASS
from lcakit.trajectory.labels import Labels

__all__ = ["Facts", "facts_of", "objective_attrs"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Facts:
    """What is known of an objective without its data: what a file must agree with, and what is written in it."""

    labels: Labels
    class_names: tuple[str, ...] | None
    loss_unit: str
    attrs: dict[str, Any]


def facts_of(objective: Objective) -> Facts:
    """Return the facts of an objective; they can be sent from one process to another."""
    return Facts(objective.labels, objective.class_names, objective.loss_unit, objective_attrs(objective))


def objective_attrs(objective: Objective) -> dict[str, Any]:
    """Return the root attributes that describe an objective."""
    kind, noise = objective.class_kind, objective.noise_seed
    further = ({} if kind == CLASS else {"class_kind": kind}) | ({} if noise is None else {"noise_seed": noise})
    return further | {
        "loss_name": objective.loss_name,
        "loss_unit": objective.loss_unit,
        "n_examples": objective.n_examples,
        "norm_mode": objective.norm_mode,
        "evaluation_batch_size": objective.batch_size,
        "precision": objective.precision,
        "data_fingerprint": objective.data_fingerprint,
        "model_fingerprint": objective.model_fingerprint,
        "device": str(objective.device),
        "torch_version": torch.__version__,
        "threads": torch.get_num_threads(),
    }
