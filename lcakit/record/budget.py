"""What a recording will cost, estimated before it runs: bytes by variable, gradient evaluations, time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lcakit.errors import ArgumentError, BudgetError, unknown
from lcakit.text import format_bytes, format_range, parse_bytes
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.class_kind import CLASS
from lcakit.trajectory.labels import Labels
from lcakit.trajectory.schema import STATISTICS, VARIABLES

__all__ = ["KEEP", "LABEL_BYTES", "Estimate", "check_count", "check_keep", "estimate", "load_per_core", "statistics_of"]


def __dir__() -> list[str]:
    return __all__


KEEP = ("theta", "gradient", "lca")
LABEL_BYTES = 20
"""Bytes of the five labels of a parameter: few compared with its series, but not with its statistics."""

_IN_PLACE_OF_LCA = LABEL_BYTES + sum(int(VARIABLES[name].dtype[1:]) for name in STATISTICS)
"""Bytes for each parameter that are stored where ``lca`` is not kept."""

_BUSY = 1.5  # runnable processes for each core from which the estimate says so

_NODES_INSIDE = {"first_order": 0, "trapezoid": 0, "midpoint": 1, "rk4": 1, "boole": 3}


@dataclass(frozen=True)
class Estimate:
    """Size and cost of a recording.

    Attributes
    ----------
    n_iterations, n_parameters
        T and K; T counts recorded iterations (after thinning).
    bytes_by_variable : dict
        Bytes of each large variable, uncompressed.
    gradient_evaluations : int
        Full-set gradients that the rule needs without refinement.
    seconds : float or None
        Time of these gradients, each as the one that was timed; None before that.
    load : float
        Runnable processes for each core when this was estimated: others take their share of the machine.
    every : int
        Optimizer steps from one snapshot to the next.
    class_factor : float
        Cost of a gradient by class relative to a plain one: above 1 where batches mix the classes.
    class_kind, why_slower : str
        The word for a class, and when a gradient by class costs more.
    notes : tuple of str
        What else is to be known of the objective.

    Examples
    --------
    >>> import torch
    >>> cost = estimate(torch.nn.Linear(4, 3), 100)
    >>> cost.n_parameters, cost.gradient_evaluations
    (15, 201)
    >>> cost.check("1 MB")
    """

    n_iterations: int
    n_parameters: int
    bytes_by_variable: dict[str, int]
    gradient_evaluations: int
    seconds: float | None
    every: int = 1
    class_factor: float = 1.0
    class_kind: str = CLASS
    why_slower: str = "with BatchNorm"
    notes: tuple[str, ...] = ()
    load: float = 1.0

    @property
    def seconds_range(self) -> tuple[float, float] | None:
        """Least and most time that the recording may take; None before a gradient has been timed.

        At least half of ``seconds`` on a machine that others no longer use: a gradient is timed when much is done for
        the first time. At most twice ``seconds``: steps of training, and iterations that are allocated in finer steps.
        """
        if self.seconds is None:
            return None
        return self.seconds / (2 * max(1.0, self.load)), 2 * self.seconds

    @property
    def bytes(self) -> int:
        """Size of the file in bytes, uncompressed."""
        return sum(self.bytes_by_variable.values())

    def to_text(self) -> str:
        """Return the estimate as a few lines."""
        parts = ", ".join(f"{name} {format_bytes(n)}" for name, n in self.bytes_by_variable.items())
        took = f", about {format_range(*self.seconds_range)}" if self.seconds_range is not None else ""
        if took and self.load > _BUSY:
            took += f" (this machine is busy: {self.load:.0f} runnable processes for each core; "
            took += "one thread, torch.set_num_threads(1), may be faster)"
        return (
            f"{self.n_iterations:,} iterations × {self.n_parameters:,} parameters: {format_bytes(self.bytes)} "
            f"({parts}); {self.gradient_evaluations:,} full-set gradients{took}{self._why_slower()}"
            + "".join(f"; {note}" for note in self.notes)
        )

    def _why_slower(self) -> str:
        if self.class_factor == 1.0:
            return ""
        return (
            f"; {self.why_slower} a gradient by {self.class_kind} costs about {self.class_factor:.3g} times a plain "
            "one (classes=None records without)"
        )

    def check(self, budget: str | int, needed: Sequence[str] = ()) -> None:
        """Check that the file fits a budget.

        Parameters
        ----------
        budget
            Bytes, or text such as ``"20 GB"``.
        needed
            Variables that the error must not suggest to drop.

        Raises
        ------
        BudgetError
            If the file would be larger; the message says what makes it smaller.
        """
        allowed = parse_bytes(budget)
        if self.bytes > allowed:
            remedies = ", or ".join(self._remedies(allowed, needed))
            raise BudgetError(
                f"the recording needs {format_bytes(self.bytes)}, the budget is {format_bytes(allowed)}. "
                + (f"{remedies[0].upper()}{remedies[1:]}." if remedies else "Nothing smaller can be recorded.")
            )

    def _remedies(self, allowed: int, needed: Sequence[str]) -> Iterator[str]:
        """Yield what makes the recording smaller; thinning only where it is enough by itself."""
        first = sum(4 * self.n_parameters for name in ("theta", "gradient") if name in self.bytes_by_variable)
        once = first + sum(self.bytes_by_variable.get(name, 0) for name in ("statistics", "labels"))
        fitting = (allowed - once) * self.n_iterations // max(self.bytes - once, 1)
        if fitting >= 1:
            yield f"thin it (every={-(-self.n_iterations * self.every // fitting)})"
        instead = {"lca": _IN_PLACE_OF_LCA * self.n_parameters}
        kept = [name for name in KEEP if self.bytes_by_variable.get(name, 0) > instead.get(name, 0)]
        if kept := [name for name in kept if name not in needed]:
            yield f"drop a variable (keep without {kept[0]!r})"
        if "statistics" in self.bytes_by_variable:
            yield "leave out running statistics (statistics=False)"
        if "lca_class" in self.bytes_by_variable:
            yield 'use coarser classes (classes="unit")'
        elif "lca_unit_class" in self.bytes_by_variable:
            yield "use no classes (classes=None)"


@checks_arguments
def estimate(
    model: Any,
    n_iterations: int,
    *,
    classes: str | None = "unit",
    keep: Sequence[str] = KEEP,
    every: int = 1,
    rule: str = "rk4",
    n_classes: int | None = None,
    seconds_per_gradient: float | None = None,
    statistics: bool | None = None,
) -> Estimate:
    """Estimate size and cost of recording ``n_iterations`` optimizer steps of a model.

    Parameters
    ----------
    model
        An :class:`lcakit.Objective` (its classes and timing are used), an ``nn.Module``, or
        :class:`lcakit.trajectory.labels.Labels`.
    n_iterations
        Optimizer steps that the loop will take; with ``every`` only each n-th of them is recorded.
    classes, keep, every, rule, statistics
        As for :class:`lcakit.Recorder`.
    n_classes
        C, needed with an ``nn.Module`` or labels for the per-class variables (0 by default).
    seconds_per_gradient
        Measured time of one full-set gradient; an objective that has computed some knows it.

    Returns
    -------
    Estimate
        ``bytes`` is the size of the uncompressed file and ``seconds`` the time of its gradients; ``to_text()`` prints
        both, and ``check("20 GB")`` raises an error if the file is larger.

    Raises
    ------
    ValueError
        For an unknown rule, a name in ``keep`` that cannot be kept, or non-positive counts.

    Examples
    --------
    >>> import torch
    >>> estimate(torch.nn.Linear(4, 3), 100, keep=("lca",)).bytes_by_variable
    {'lca': 6000}
    """
    check_keep(keep)
    if rule not in _NODES_INSIDE:
        raise unknown("rule", rule, _NODES_INSIDE)
    check_count("n_iterations", n_iterations)
    check_count("every", every)
    labels = _labels(model)
    n_classes = getattr(model, "n_classes", 0) if n_classes is None else n_classes
    by_class = bool(classes is not None and n_classes)
    if seconds_per_gradient is None and hasattr(model, "seconds_per_gradient"):
        seconds_per_gradient = model.seconds_per_gradient(by_class)
    steps = -(-n_iterations // every)
    k, u = labels.n_parameters, labels.n_units
    size = {
        "theta": 4 * (steps + 1) * k,
        "gradient": 4 * (steps + 1) * k,
        "lca": 4 * steps * k,
    }
    found = {name: size[name] for name in keep}
    if by_class:
        found["lca_unit_class"] = 4 * steps * u * n_classes
    if classes == "parameter" and n_classes:
        found["lca_class"] = 4 * steps * k * n_classes
    if not by_class and "lca" not in keep:
        found["unit_lca"] = 4 * steps * u
    if names := statistics_of(keep, statistics):
        found["statistics"] = k * sum(int(VARIABLES[name].dtype[1:]) for name in names)
        found["labels"] = LABEL_BYTES * k
    count = steps * (1 + _NODES_INSIDE[rule]) + 1
    seconds = None if seconds_per_gradient is None else count * seconds_per_gradient
    told = {name: getattr(model, name) for name in ("class_kind", "why_slower", "notes") if hasattr(model, name)}
    factor = getattr(model, "class_factor", 1.0) if by_class else 1.0
    return Estimate(steps, k, found, count, seconds, every, factor, load=load_per_core(), **told)


def load_per_core() -> float:
    """Return how many processes want to run, for each core of this machine: the mean of a minute; 1 if not known."""
    if not hasattr(os, "getloadavg"):  # Windows
        return 1.0
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def _labels(model: Any) -> Labels:
    for labels in (model, getattr(model, "labels", None)):
        if isinstance(labels, Labels):
            return labels
    if not hasattr(model, "named_modules"):
        raise ArgumentError(f"model must be a torch module, an objective or labels, got a {type(model).__name__}")
    from lcakit.record.objective.describe import describe

    return describe(model)


def check_count(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def check_keep(keep: Sequence[str]) -> None:
    """Raise ValueError for names in ``keep`` that are not per-parameter variables."""
    for name in [keep] if isinstance(keep, str) else keep:
        if name not in KEEP:
            raise unknown("variable to keep", name, KEEP)
    if isinstance(keep, str):
        raise ValueError(f"keep must be a sequence of names such as ({keep!r},), got the text {keep!r}")


def statistics_of(keep: Sequence[str], statistics: bool | None) -> tuple[str, ...]:
    """Return the running statistics that a recording stores.

    All with ``True``; none with ``False``. With None: where ``lca`` is not kept, those whose series is not.
    """
    if statistics is None:
        return tuple(n for n, series in STATISTICS.items() if series not in keep) if "lca" not in keep else ()
    return tuple(STATISTICS) if statistics else ()
