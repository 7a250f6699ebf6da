"""Path integrals along a trajectory: every change of the loss allocated to the parameters that caused it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit import provenance, schema, segments, store
from lcakit.budget import KEEP, check_keep
from lcakit.errors import DivergedError, RecordingError, TrajectoryError, unknown
from lcakit.labels import tensor_shapes
from lcakit.progress import progress
from lcakit.record.describe import tensors_fingerprint
from lcakit.record.objective import Evaluation, Objective
from lcakit.record.quadrature import Segment, check_settings, refine
from lcakit.segments import SegmentWriter, read_header

PATH_VARIABLES = ("theta", "batch_loss", "learning_rate")  # of the training, not of an objective
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


class Allocator:
    """Walks along snapshots and allocates the loss change of each move.

    ``start(θ_0)`` then ``advance(θ_1)``, ``advance(θ_2)``, … Each returns rows for the file; the gradient at the end of
    one move is the beginning of the next, so rk4 costs two gradients a move. Sums are formed in float64 on the
    objective's device, and only the finished rows come to the host.
    """

    def __init__(self, objective: Objective, rule: Rule) -> None:
        self.objective = objective
        self.rule = rule
        self._by_class = rule.classes is not None and objective.class_names is not None
        self._theta: torch.Tensor | None = None
        self._end: Evaluation | None = None

    def start(self, theta: Any) -> Row:
        """Begin at a snapshot; return its row (loss, loss_class, accuracy, gradient)."""
        self._theta = self._vector(theta)
        self._end = self._evaluate(self._theta)
        row = self._snapshot_row(self._end)
        self._total = self._next_total
        self._parts = torch.empty_like(_gradient(self._end), dtype=torch.float64)
        return row

    def advance(self, theta: Any) -> tuple[Row, Row]:
        """Allocate the move from the last snapshot to this one; return (snapshot row, iteration row).

        Raises
        ------
        DivergedError
            If the loss or the gradient at this snapshot is not finite.
        """
        if self._theta is None or self._end is None:
            raise RecordingError("advance() needs a first snapshot: call start(theta) before it")
        here, there = self._theta, self._vector(theta)
        begin, end = self._end, self._evaluate(there)
        row_there = self._snapshot_row(end)
        delta = there - here
        first_order = float(self._total @ delta)
        segment = Segment(
            left=_gradient(begin),
            right=_gradient(end),
            gradient_at=lambda s: _gradient(self._evaluate(here + s * delta, accuracy=False)),
            add=lambda a, b: a.to(torch.float64).add_(b),
        )
        change = end.loss - begin.loss

        def allocation(splits: int) -> tuple[float, torch.Tensor]:
            self._integrate(segment.terms(self.rule.rule, splits), delta)
            total = self._parts.sum(0) if self._by_class else self._parts
            return float(total.sum()) - change, total

        total, residual, splits = refine(allocation, self.rule.rule, self.rule.tolerance, self.rule.max_splits)
        if not np.isfinite(residual):
            raise DivergedError("the gradient is not finite between two snapshots")
        row: Row = {"residual": residual, "splits": splits, "first_order": first_order, "lca": _host(total)}
        if self._by_class:
            row |= self._class_row(self._parts)
        self._theta, self._end, self._total = there, end, self._next_total
        return row_there, row

    def _integrate(self, terms: list[tuple[float, torch.Tensor]], delta: torch.Tensor) -> None:
        """Write Σ weight · gradient · Δθ to the buffer of the parts, float64, in as few passes as there are terms."""
        (first, value), *rest = terms
        self._parts.copy_(value)
        for weight, value in rest:
            self._parts.add_(value, alpha=weight / first)
        self._parts.mul_(delta * first)

    def _class_row(self, parts: torch.Tensor) -> Row:
        if self.rule.classes == "parameter":
            return {"lca_class": _host(parts), "lca_unit_class": _host(self._unit_sums(parts).T)}
        return {"lca_unit_class": _host(self._unit_sums(parts).T)}

    def _unit_sums(self, parts: torch.Tensor) -> torch.Tensor:
        """Sum (C, K) over the parameters of each unit: (C, U). Fixed order, no scatter: the same on every device."""
        labels = self.objective.labels
        out = parts.new_zeros((len(parts), labels.n_units))
        for spec, offset in zip(labels.tensors, labels.offsets, strict=True):
            view = parts[:, offset : offset + spec.size].reshape(len(parts), *spec.unit_view)
            first = labels.first_unit[spec.layer]
            out[:, first : first + spec.n_units] += view.sum((2, 4)).flatten(1)
        return out

    def _vector(self, theta: Any) -> torch.Tensor:
        """Return θ in float64 on the device. Snapshots are float32 in the file, so they are here."""
        tensor = theta if isinstance(theta, torch.Tensor) else torch.as_tensor(np.asarray(theta))
        return tensor.to(self.objective.device).to(torch.float32).to(torch.float64)

    def _evaluate(self, theta: torch.Tensor, accuracy: bool = True) -> Evaluation:
        return self.objective.evaluate(theta, classes=self._by_class, accuracy=accuracy)

    def _snapshot_row(self, at: Evaluation) -> Row:
        gradient = _gradient(at)
        self._next_total = gradient.sum(0, dtype=torch.float64) if self._by_class else gradient.to(torch.float64)
        row: Row = {"loss": at.loss, "accuracy": at.accuracy, "gradient": _host(self._next_total)}
        if at.class_losses is not None:
            row["loss_class"] = at.class_losses
        if not np.isfinite(at.loss):
            raise DivergedError(f"the loss is {at.loss}")
        if not np.isfinite(row["gradient"]).all():
            raise DivergedError(f"the gradient has entries that are not finite (the loss is {at.loss})")
        return row


def _gradient(evaluation: Evaluation) -> torch.Tensor:
    if evaluation.gradient is None:
        raise RecordingError("an allocation needs gradients, and this evaluation has none")
    return evaluation.gradient


def _host(tensor: torch.Tensor) -> np.ndarray:
    return tensor.to(torch.float32).cpu().numpy()


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
    }


def allocate(
    trajectory: Any,
    objective: Objective,
    rule: str = "rk4",
    tolerance: float | None = 1e-3,
    max_splits: int = 32,
    classes: str | None = "unit",
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    *,
    keep: Sequence[str] = KEEP,
    compression: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> xr.Dataset:
    r"""Allocate the loss changes along a stored trajectory.

    .. math:: A_{t,i} = \int_0^1 \frac{∂L}{∂θ_i}(θ_t + s Δθ)\, ds \; Δθ_i, \qquad Δθ = θ_{t+1} - θ_t

    Parameters
    ----------
    trajectory
        Path of a trajectory file with ``theta``; an opened one; or an array (T+1, K) of snapshots.
    objective
        Loss and data; its parameters must be those of the trajectory.
    rule, tolerance, max_splits
        Quadrature (:mod:`lcakit.record.quadrature`). While ``abs(residual) > tolerance`` the number of splits doubles,
        up to ``max_splits``; where that is not enough the result is kept, and residual and splits show it.
    classes
        ``"unit"`` (units × classes, the default), ``"parameter"`` (C times larger), or None.
    out
        File to write. A path given as ``trajectory`` is extended in place by default; otherwise the result stays in
        memory. Results go to disk in blocks while they are computed, and a call that was interrupted continues.
    name
        Suffix of a further objective: ``"val"`` adds ``lca_val``, ``loss_val``, … beside the others.
    keep
        Which of ``gradient, lca`` to store per parameter (``theta`` stays as it is).
    compression
        Of the file: None or ``"zlib"``.
    overwrite
        Replace allocations that the file already has, and an existing ``out``.

    Returns
    -------
    xarray.Dataset
        The trajectory with ``lca`` (iteration, parameter), ``loss`` (snapshot), ``residual`` … added.

    Raises
    ------
    TrajectoryError, RecordingError
        If there is no ``theta``, the parameters differ, or the variables are already there; the message says which.
    """
    settings = Rule(rule, tolerance, max_splits, classes)
    check_keep(keep)
    source, path = _as_dataset(trajectory, objective, in_place=out is None)
    target = Path(out) if out is not None else path
    _check_source(source, objective, name, overwrite)
    if target is not None and target != path and target.exists() and not overwrite:
        raise RecordingError(f"{target} exists already. Choose another name, or pass overwrite=True to replace it.")
    dropped = set(KEEP) - set(keep)
    attrs = objective_attrs(objective) | settings.attrs()
    allocator = Allocator(objective, settings)
    if target is None:
        rows = list(_rows(source, allocator, 0, dropped, quiet))
        parts = [snapshot for snapshot, _ in rows], [iteration for _, iteration in rows if iteration]
        new = {key: np.stack([row[key] for row in part]) for part in parts for key in (part[0] if part else {})}
        new.pop("iteration", None)
        return _join(source, schema.build_dataset({}, new, attrs), objective, name)
    computed = _to_segments(source, allocator, store.allocation_partial(target, name), attrs, dropped, quiet)
    store.save(_join(source, computed, objective, name), target, overwrite=True, compression=compression)
    segments.remove(store.allocation_partial(target, name))
    return store.open_trajectory(target)


def _to_segments(
    source: xr.Dataset, allocator: Allocator, partial: Path, attrs: Row, dropped: set[str], quiet: bool
) -> xr.Dataset:
    """Compute all rows into segments, going on where an interrupted call ended; return them as a lazy dataset."""
    ends = torch.as_tensor(source["theta"][[0, -1]].values)
    attrs = attrs | {"path_fingerprint": tensors_fingerprint(ends), "dropped": " ".join(sorted(dropped))}
    if partial.is_dir() and not segments.has_rows(partial):
        segments.remove(partial)
    done = 0
    if partial.is_dir():
        refuse_other_settings(read_header(partial).attrs, attrs, partial)
        done = store.open_partial(partial).sizes.get("iteration", 0)
    writer = SegmentWriter(partial, schema.stamp(xr.Dataset(), attrs), resume=partial.is_dir())
    try:
        for snapshot, iteration in _rows(source, allocator, done, dropped, quiet):
            writer.append(snapshot, iteration)
    finally:
        writer.close()
    return store.open_partial(partial)


def _rows(
    source: xr.Dataset, allocator: Allocator, done: int, dropped: set[str], quiet: bool
) -> Iterator[tuple[Row, Row]]:
    """Yield the rows of the moves from iteration ``done`` on; the first snapshot's row comes without an iteration."""
    theta = source["theta"]
    first = allocator.start(theta[done].values)
    if done == 0:
        yield _without(first, dropped), {}
    steps = source["iteration"].values
    block = max(1, int(2**25 // (4 * theta.sizes["parameter"])))
    with progress(len(steps), "allocating", unit="it", initial=done, quiet=quiet) as bar:
        for start in range(done, len(steps), block):
            stop = min(start + block, len(steps))
            for index, vector in enumerate(theta[start + 1 : stop + 1].values, start):
                try:
                    snapshot, iteration = allocator.advance(vector)
                except DivergedError as error:
                    raise DivergedError(f"iteration {steps[index]}: {error}") from error
                iteration["iteration"] = steps[index]  # counts the finished moves of an interrupted call
                yield _without(snapshot, dropped), _without(iteration, dropped)
                bar.update()


def _without(row: Row, dropped: set[str]) -> Row:
    return {name: value for name, value in row.items() if name not in dropped}


def _join(source: xr.Dataset, computed: xr.Dataset, objective: Objective, name: str | None) -> xr.Dataset:
    """Add the computed variables to the trajectory; attributes of a further objective carry its name."""
    names = {v: schema.with_suffix(str(v), name) for v in computed.data_vars if v in schema.VARIABLES}
    older = [schema.with_suffix(v, name) for v in schema.VARIABLES if v not in PATH_VARIABLES]
    kept = source.drop_vars([n for n in older if n in source.data_vars])
    new = computed.drop_vars(list(computed.coords)).rename(names)
    joined = kept.assign({n: (new[n].dims, new[n].data) for n in names.values()})
    if objective.class_names and "class" in joined.dims and "class" not in joined.coords:
        joined = joined.assign_coords({"class": list(objective.class_names)})
    own = {*schema.stamp(xr.Dataset()).attrs, "path_fingerprint", "dropped", "partial"}
    facts = {schema.with_suffix(k, name): v for k, v in computed.attrs.items() if k not in own}
    options = {k: computed.attrs[k] for k in ("rule", "tolerance", "max_splits", "classes")}
    made = provenance.made_by("lk.allocate", **options, name=name)
    facts[schema.with_suffix("allocated_by", name)] = "; ".join(made.values())
    return schema.stamp(joined, facts | ({} if name else {"loss_unit": objective.loss_unit}))


def _as_dataset(trajectory: Any, objective: Objective, in_place: bool) -> tuple[xr.Dataset, Path | None]:
    if isinstance(trajectory, xr.Dataset):
        return trajectory, None
    if isinstance(trajectory, str | os.PathLike):
        source = store.open_trajectory(trajectory)
        if in_place and source.attrs.get("partial"):
            raise RecordingError(
                f"{trajectory} is an unfinished recording, and cannot be extended. Make it a file with lk.finish, or "
                "pass out=…"
            )
        return source, Path(trajectory)
    theta = np.asarray(trajectory, np.float32)
    if theta.ndim != 2 or theta.shape[1] != objective.n_parameters or len(theta) < 2:
        raise TrajectoryError(
            f"an array of snapshots must have shape (T+1, {objective.n_parameters}) with T ≥ 1, got {theta.shape}"
        )
    steps = {
        "snapshot": (("snapshot",), np.arange(len(theta))),
        "iteration": (("iteration",), np.arange(len(theta) - 1)),
    }
    return schema.build_dataset(objective.labels.coords() | steps, {"theta": theta}), None


def _check_source(source: xr.Dataset, objective: Objective, name: str | None, overwrite: bool) -> None:
    if "theta" not in source:
        raise TrajectoryError(
            "the trajectory has no 'theta', so there is no path to integrate along. Record with keep including 'theta'."
        )
    labels = objective.labels
    shapes = {t.name: t.shape for t in labels.tensors}
    stored = tensor_shapes(source)
    if stored != shapes:
        differing = sorted(set(stored.items()) ^ set(shapes.items()))[:4]
        raise TrajectoryError(
            f"the trajectory's parameters are not those of the objective's model; they differ in {differing}. "
            "Build the objective from the model that was recorded."
        )
    if name is not None and (not re.fullmatch("[a-z][a-z0-9]*", name) or name in ("class", "unit", "order", "rate")):
        raise ValueError(f'name is a suffix of small letters and digits such as "val", got {name!r}')
    named = [str(c) for c in source["class"].values] if "class" in source.coords else None
    if named and objective.class_names and len(named) != objective.n_classes:
        raise RecordingError(
            f"the trajectory has {len(named)} classes, this objective {objective.n_classes}; one file has one list of "
            "classes. Build the objective with the same classes."
        )
    taken = [schema.with_suffix(v, name) for v in ("lca", "loss") if schema.with_suffix(v, name) in source]
    if taken and not overwrite:
        raise RecordingError(
            f"the trajectory already has {', '.join(taken)}. Pass overwrite=True to replace them, "
            'or name="…" to add another objective beside them.'
        )


def refuse_other_settings(stored: Any, wanted: Row, where: Path) -> None:
    """Raise RecordingError if a recording to continue was made with other settings, naming each difference."""
    ignored = ("device", "torch_version")
    found = {key: v.item() if isinstance(v, np.generic) else v for key, v in stored.items() if key not in ignored}
    differing = [
        f"{key}: stored {found[key]!r}, now {value!r}"
        for key, value in wanted.items()
        if key in found and found[key] != value
    ]
    if differing:
        raise RecordingError(
            f"{where} was begun with other settings, so it cannot be continued with these: {'; '.join(differing)}. "
            "Use the same settings, or remove it to start anew."
        )
