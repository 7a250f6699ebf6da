"""What an allocation is made with: the settings that a file states, and whether a continuation agrees with them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lcakit.errors import LcakitWarning, RecordingError, unknown
from lcakit.record.allocation.quadrature import check_settings
from lcakit.record.budget import KEEP, statistics_of
from lcakit.record.objective.objective import Objective
from lcakit.trajectory.labels import Labels
from lcakit.trajectory.schema import STATISTICS

ROUNDING = ("device", "torch_version", "evaluation_batch_size", "threads")
"""Attributes that say where something was computed: elsewhere it is the same up to rounding (but for the batch where
BatchNorm makes it part of the objective)."""

UNSAID = {"statistics": "none"}
"""Attributes that are left out where they have this value."""

CLASS_RESOLUTIONS = ("unit", "parameter", None)

Row = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """How an allocation is computed: quadrature rule, tolerance, most splits, class resolution."""

    rule: str = "rk4"
    tolerance: float | None = 1e-3
    max_splits: int = 32
    classes: str | None = "unit"

    def __post_init__(self) -> None:
        check_settings(self.rule, self.tolerance, self.max_splits)
        if self.classes not in CLASS_RESOLUTIONS:
            raise unknown("class resolution", self.classes, CLASS_RESOLUTIONS)

    def attrs(self) -> dict[str, Any]:
        """Return the root attributes that describe it."""
        return {
            "rule": self.rule,
            "tolerance": -1.0 if self.tolerance is None else self.tolerance,
            "max_splits": self.max_splits,
            "classes": self.classes or "none",
        }


@dataclass(frozen=True)
class Stored:
    """What of an allocation is stored per parameter: series (``keep``), and running statistics by their names."""

    keep: frozenset[str] = frozenset(KEEP)
    statistics: tuple[str, ...] = ()

    @classmethod
    def of(cls, keep: Sequence[str], statistics: bool | None, path: bool = True) -> Stored:
        """Return what these options of :class:`lcakit.Recorder` ask for.

        Without ``path``: along a path that is stored, so that its turns can be counted from there.
        """
        names = statistics_of(keep, statistics)
        return cls(frozenset(keep), tuple(n for n in names if path or STATISTICS[n] != "theta"))

    def attrs(self) -> dict[str, Any]:
        """Return the attributes by which a recording to continue is recognized."""
        return {"statistics": " ".join(self.statistics)} if self.statistics else {}


@dataclass(frozen=True)
class Facts:
    """What is known of an objective without its data: what a file must agree with, and what is written in it."""

    labels: Labels
    class_names: tuple[str, ...] | None
    loss_unit: str
    attrs: Row


def facts_of(objective: Objective) -> Facts:
    """Return the facts of an objective; they can be sent from one process to another."""
    return Facts(objective.labels, objective.class_names, objective.loss_unit, objective_attrs(objective))


def objective_attrs(objective: Objective) -> dict[str, Any]:
    """Return the root attributes that describe an objective."""
    return {
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


def refuse_other_settings(stored: Any, wanted: Row, where: Path) -> None:
    """Raise RecordingError if a recording to continue was made with other settings, naming each difference."""
    ignored = {*ROUNDING}
    if not stored.get("norm_mode") == wanted.get("norm_mode") == "none":
        ignored.remove("evaluation_batch_size")
    found = UNSAID | {k: v.item() if isinstance(v, np.generic) else v for k, v in stored.items() if k not in ignored}
    differing = [
        f"{key}: stored {found[key]!r}, now {value!r}"
        for key, value in (UNSAID | wanted).items()
        if key in found and found[key] != value
    ]
    if differing:
        raise RecordingError(
            f"{where} was begun with other settings, so it cannot be continued with these: {'; '.join(differing)}. "
            "Use the same settings, or remove it to start anew."
        )


def check_continued(stored: Any, wanted: Row, where: Path) -> None:
    """Refuse other settings, and warn where a recording is continued, but not bit by bit as without the break."""
    refuse_other_settings(stored, wanted, where)
    places = ROUNDING if wanted["device"] == "cpu" else ROUNDING[:-1]  # a GPU does not mind the number of threads
    differing = [key for key in places if stored.get(key) not in (None, wanted[key])]
    if differing:
        what = "; ".join(f"{key} {stored[key]}, now {wanted[key]}" for key in differing)
        amplified = "" if differing == ["evaluation_batch_size"] else ", and training amplifies that"
        warnings.warn(
            f"{where} was begun with {what}: from here on numbers are rounded otherwise{amplified}. Continue as it was "
            "begun for the same bits.",
            LcakitWarning,
            stacklevel=4,
        )
