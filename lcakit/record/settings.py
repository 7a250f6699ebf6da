"""The settings of a recording, by what they are about: the integration, what is stored, how it is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

from lcakit.errors import ArgumentError, unknown
from lcakit.record.allocation.settings import AllocationSettings
from lcakit.record.budget import KEEP, Estimate, check_count, check_keep, estimate
from lcakit.storage import saving, segments
from lcakit.trajectory.arguments import check_arguments

__all__ = ["MODES", "Options", "RecorderSettings", "StorageSettings", "WritingSettings", "signature_with_settings"]


def __dir__() -> list[str]:
    return __all__


MODES = ("online", "later")


@dataclass(frozen=True)
class StorageSettings:
    """What is stored of a training, and when.

    Parameters
    ----------
    keep
        Which of ``theta, gradient, lca`` to store per parameter and iteration.
    statistics
        Whether to store running statistics of each parameter; None: where ``lca`` is not kept.
    every
        Optimizer steps from one snapshot to the next.
    allocate
        ``"online"`` while training, or ``"later"``, along the stored snapshots.

    Raises
    ------
    ValueError
        For unknown names, or settings that exclude each other.

    Examples
    --------
    >>> StorageSettings(keep=("lca",), every=10).online
    True
    """

    keep: Sequence[str] = KEEP
    statistics: bool | None = None
    every: int = 1
    allocate: str = "online"

    def __post_init__(self) -> None:
        if self.allocate not in MODES:
            raise unknown("mode of allocation", self.allocate, MODES)
        check_keep(self.keep)
        if not self.online and "theta" not in self.keep:
            raise ValueError('allocate="later" needs the snapshots: keep must include "theta"')
        check_count("every", self.every)
        object.__setattr__(self, "keep", tuple(self.keep))

    @property
    def online(self) -> bool:
        """Whether loss changes are allocated while training."""
        return self.allocate == "online"


@dataclass(frozen=True)
class WritingSettings:
    """How a recording goes to the disk.

    Parameters
    ----------
    compression
        Of the finished file: None or ``"zlib"``.
    block_rows, block_seconds
        A block is written when it has that many iterations, or is that many seconds old.

    Raises
    ------
    ValueError
        For an unknown compression.

    Examples
    --------
    >>> WritingSettings(block_rows=8).block_seconds
    60.0
    """

    compression: str | None = None
    block_rows: int = segments.BLOCK_ROWS
    block_seconds: float = segments.BLOCK_SECONDS

    def __post_init__(self) -> None:
        saving.check_compression(self.compression)


class Options(TypedDict, total=False):
    """The settings as keywords of :class:`lcakit.Recorder`."""

    rule: str
    tolerance: float | None
    max_splits: int
    classes: str | None
    keep: Sequence[str]
    statistics: bool | None
    every: int
    allocate: str
    compression: str | None
    block_rows: int
    block_seconds: float


@dataclass(frozen=True)
class RecorderSettings:
    """All settings of a recording."""

    allocation: AllocationSettings = field(default_factory=AllocationSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    writing: WritingSettings = field(default_factory=WritingSettings)

    @classmethod
    def of(cls, given: Mapping[str, Any], others: Sequence[str] = ()) -> RecorderSettings:
        """Return the settings from keywords.

        Parameters
        ----------
        given
            Values by keyword; what is not given has its default.
        others
            Further keywords to name in the error for an unknown one.

        Raises
        ------
        ArgumentError
            For an unknown keyword, or a value of a wrong kind.
        ValueError
            For a value that cannot be.
        """
        parts = {"allocation": AllocationSettings, "storage": StorageSettings, "writing": WritingSettings}
        known = {name: {item.name for item in fields(kind)} for name, kind in parts.items()}
        allowed = [*others, *Options.__annotations__]
        for name in given:
            if name not in allowed:
                raise unknown("argument of Recorder", name, allowed, ArgumentError)
        own = {name: {k: given[k] for k in known[name] & set(given)} for name in parts}
        for name, kind in parts.items():
            check_arguments(vars(kind)["__init__"], (kind,), own[name], "Recorder")
        return cls(**{name: kind(**own[name]) for name, kind in parts.items()})

    def estimate(self, objective: Any, n_iterations: int) -> Estimate:
        """Return size and cost of recording so many optimizer steps."""
        return estimate(
            objective,
            n_iterations,
            classes=self.allocation.classes,
            keep=self.storage.keep,
            every=self.storage.every,
            rule=self.allocation.rule,
            statistics=self.storage.statistics,
        )


def signature_with_settings(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of ``function(self, …, **settings)`` as a caller sees it: each setting by its name."""
    own = [p for p in inspect.signature(function).parameters.values() if p.name != "self" and p.kind != p.VAR_KEYWORD]
    kinds = (AllocationSettings, StorageSettings, WritingSettings)
    settings = [
        inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=item.default, annotation=item.type)
        for kind in kinds
        for item in fields(kind)
    ]
    return inspect.Signature([*own, *settings], return_annotation=None)
