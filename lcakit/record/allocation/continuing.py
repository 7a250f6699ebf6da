"""Whether work that was interrupted can go on with these settings, and whether with the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lcakit.errors import LcakitWarning, RecordingError
from lcakit.trajectory.class_kind import CLASS

__all__ = ["ROUNDING", "check_continued", "refuse_other_settings"]


def __dir__() -> list[str]:
    return __all__


ROUNDING = ("device", "torch_version", "evaluation_batch_size", "threads")
"""Attributes that say where something was computed: elsewhere it is the same up to rounding (but for the batch where
BatchNorm makes it part of the objective)."""

_LEFT_OUT = {"statistics": "none", "class_kind": CLASS, "noise_seed": None}
"""Attributes that are left out where they have this value."""


def refuse_other_settings(stored: Mapping[Any, Any], wanted: dict[str, Any], where: Path) -> None:
    """Raise RecordingError if a recording to continue was made with other settings, naming each difference."""
    ignored = {*ROUNDING}
    batch_matters = "noise_seed" in wanted or {stored.get("norm_mode"), wanted.get("norm_mode")} - {"none", "running"}
    if batch_matters:
        ignored.remove("evaluation_batch_size")
    found = _LEFT_OUT | {k: v.item() if isinstance(v, np.generic) else v for k, v in stored.items() if k not in ignored}
    differing = [
        f"{key}: stored {found[key]!r}, now {value!r}"
        for key, value in (_LEFT_OUT | wanted).items()
        if key in found and found[key] != value
    ]
    if differing:
        raise RecordingError(
            f"{where} was begun with other settings, so it cannot be continued with these: {'; '.join(differing)}. "
            "Use the same settings, or remove it to start anew."
        )


def check_continued(stored: Mapping[Any, Any], wanted: dict[str, Any], where: Path) -> None:
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
