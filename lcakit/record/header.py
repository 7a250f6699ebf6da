"""What a recording says of itself: attributes that decide its numbers, labels, and how it was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lcakit.errors import RecordingError
from lcakit.record.allocation.facts import objective_attrs
from lcakit.record.allocation.stored import Stored
from lcakit.record.objective.objective import Objective
from lcakit.record.optimizers import layers_of
from lcakit.record.settings import RecorderSettings
from lcakit.storage.checked import unreadable
from lcakit.trajectory import provenance, schema
from lcakit.trajectory.columns import LABELS

__all__ = ["checked_header", "header_of", "settings_attrs", "stored_online"]


def __dir__() -> list[str]:
    return __all__


def settings_attrs(
    objective: Objective, settings: RecorderSettings, optimizers: Iterable[Any], seed: int | None
) -> dict[str, Any]:
    """Return the attributes that a recording to continue must agree with."""
    storage = settings.storage
    return {
        **objective_attrs(objective),
        **settings.allocation.attrs(),
        "optimizers": " ".join(type(layers_of(optimizer)[0]).__name__ for optimizer in optimizers),
        "every": storage.every,
        "keep": " ".join(storage.keep),
        "allocate": storage.allocate,
        **stored_online(settings).attrs(),
        **({} if seed is None else {"seed": seed}),
    }


def stored_online(settings: RecorderSettings) -> Stored:
    """Return what is stored of the allocation while training: nothing of one that comes later."""
    storage = settings.storage
    return Stored.of(storage.keep, storage.statistics) if storage.online else Stored(frozenset())


def header_of(
    objective: Objective,
    settings: RecorderSettings,
    attrs: Mapping[str, Any],
    config: Mapping[str, Any],
    seed: int | None,
) -> xr.Dataset:
    """Return labels, attributes and provenance, as they are written before the first row."""
    coords: dict[str, Any] = dict(objective.labels.coords())
    if objective.class_names:
        coords["class"] = (("class",), np.array(objective.class_names))
    storage = settings.storage
    told = {
        "every": storage.every,
        "keep": storage.keep,
        "statistics": storage.statistics,
        "allocate": storage.allocate,
    }
    made = provenance.made_by("lk.Recorder", **vars(settings.allocation), **told, seed=seed)
    header = schema.build_dataset(coords, {}, {**attrs, **made})
    return provenance.with_config(header, dict(config))


def checked_header(header: xr.Dataset, path: Path) -> xr.Dataset:
    """Return the header; raise RecordingError, before anything is recorded, if a file with it could not be opened."""
    named = header.drop_vars(LABELS, errors="ignore")  # which are computed, and long
    if wrong := unreadable(named, str(path)):
        raise RecordingError(
            f"{path} could not be opened after the training: {'; '.join(wrong)}. Change that "
            "(class_names, group_names, seed, config, or names in the model) before it begins."
        )
    return header
