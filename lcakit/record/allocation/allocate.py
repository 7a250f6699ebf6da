"""Allocation along a stored trajectory: what is there already is checked, results are joined to it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from lcakit.errors import RecordingError, TrajectoryError
from lcakit.progress import progress
from lcakit.record.allocation.allocator import Allocator, rows_along
from lcakit.record.allocation.settings import Facts, Row, Rule, Stored, facts_of, refuse_other_settings
from lcakit.record.allocation.spec import ObjectiveSpec
from lcakit.record.budget import KEEP, check_keep
from lcakit.record.objective.describe import tensors_fingerprint
from lcakit.record.objective.objective import Objective
from lcakit.storage import opening, saving, segments
from lcakit.storage.atomic import Lock
from lcakit.storage.partial import open_partial
from lcakit.storage.paths import allocation_partial, given_path, writable_path
from lcakit.storage.segments import BLOCK, SegmentWriter, read_header
from lcakit.text import printable, visible
from lcakit.trajectory import provenance, schema
from lcakit.trajectory.labels import tensor_shapes

if TYPE_CHECKING:
    from lcakit.record.allocation.cluster import SharedWork

PATH_VARIABLES = ("theta", "batch_loss", "learning_rate", "turn_count")  # of the training, not of an objective


def allocate(
    trajectory: Any,
    objective: Objective | ObjectiveSpec,
    rule: str = "rk4",
    tolerance: float | None = 1e-3,
    max_splits: int = 32,
    classes: str | None = "unit",
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    *,
    keep: Sequence[str] = KEEP,
    statistics: bool | None = None,
    compression: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    cluster: Any = None,
    block: int | None = None,
) -> xr.Dataset:
    r"""Allocate the loss changes along a stored trajectory.

    .. math:: A_{t,i} = \int_0^1 \frac{∂L}{∂θ_i}(θ_t + s Δθ)\, ds \; Δθ_i, \qquad Δθ = θ_{t+1} - θ_t

    Parameters
    ----------
    trajectory
        Path of a trajectory file with ``theta``; an opened one; or an array (T+1, K) of snapshots.
    objective
        Loss and data; its parameters must be those of the trajectory. A :class:`lcakit.ObjectiveSpec` says how to build
        it, which a cluster needs.
    rule, tolerance, max_splits
        Quadrature (:mod:`lcakit.record.allocation.quadrature`). While ``abs(residual) > tolerance`` the number of
        splits doubles, up to ``max_splits``; where that is not enough the result is kept, and residual and splits show
        it.
    classes
        ``"unit"`` (units × classes, the default), ``"parameter"`` (C times larger), or None.
    out
        File to write. A path given as ``trajectory`` is extended in place by default; otherwise the result stays in
        memory. Results go to disk in blocks while they are computed, and a call that was interrupted continues.
    name
        Suffix of a further objective: ``"val"`` adds ``lca_val``, ``loss_val``, … beside the others.
    keep
        Which of ``gradient, lca`` to store per parameter and iteration (``theta`` stays as it is).
    statistics
        Store running statistics of each parameter, as :class:`lcakit.Recorder` does. None: where ``lca`` is not kept.
    compression
        Of the file: None or ``"zlib"``.
    overwrite
        Replace allocations that the file already has, and an existing ``out``.
    quiet
        No progress bar.
    cluster
        A ``dask.distributed.Client``: its workers share blocks of iterations
        (:mod:`lcakit.record.allocation.cluster`). They must see ``trajectory`` and ``out`` under the same paths. If
        that is a Zarr store, they also write it.
    block
        Iterations that a worker of the cluster computes at a time; None: about eight blocks a worker, at most 64.

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
    saving.check_compression(compression)
    work = Alone(objective) if cluster is None else _on_cluster(cluster, objective, trajectory, block)
    source, path = _as_dataset(trajectory, work.facts, in_place=out is None)
    target = path if out is None else writable_path(out)
    _check_source(source, work.facts, name, overwrite)
    if target is not None and target != path and target.exists() and not overwrite:
        raise RecordingError(f"{target} exists already. Choose another name, or pass overwrite=True to replace it.")
    writers = _writers(cluster, target)
    stored = Stored.of(keep, statistics, path=False)
    attrs = work.facts.attrs | settings.attrs() | stored.attrs()
    if target is None:  # so there is no path, and no cluster
        alone = work if isinstance(work, Alone) else Alone(objective)
        return _join(source, alone.in_memory(source, settings, stored, attrs, quiet), work.facts, name)
    partial = allocation_partial(target, name)
    ends = torch.as_tensor(source["theta"][[0, -1]].values)
    attrs |= {"path_fingerprint": tensors_fingerprint(ends), "dropped": " ".join(sorted({*KEEP} - stored.keep))}
    work.allocate(source, settings, stored, partial, attrs, quiet)
    computed = open_partial(partial)
    joined = _join(source, computed, work.facts, name)
    saving.save(joined, target, overwrite=True, compression=compression, cluster=writers)
    segments.remove(partial)
    return opening.open_trajectory(target)


def _on_cluster(client: Any, objective: Any, trajectory: Any, block: int | None) -> SharedWork:
    from lcakit.record.allocation.cluster import SharedWork

    if not isinstance(objective, ObjectiveSpec):
        raise RecordingError(
            "the workers of a cluster build the objective themselves: pass lk.ObjectiveSpec('package.module:function', "
            f"{{…}}), not {type(objective).__name__}"
        )
    if not isinstance(trajectory, str | os.PathLike):
        raise RecordingError("the workers of a cluster read the trajectory themselves: pass the path of its file")
    return SharedWork(client, objective, os.fspath(trajectory), block)


def _writers(cluster: Any, target: Path | None) -> Any:
    """Return the cluster if its workers write the file too: a Zarr store; a netCDF file has one writer."""
    if cluster is None or target is None or target.suffix != ".zarr":
        return None
    from lcakit.storage.zarr_cluster import check_workers

    check_workers(cluster)  # before the work, not after it
    return cluster


class Alone:
    """An allocation in this process; :class:`lcakit.record.allocation.cluster.SharedWork` is that of a cluster."""

    def __init__(self, objective: Objective | ObjectiveSpec) -> None:
        self.objective = objective.build() if isinstance(objective, ObjectiveSpec) else objective
        self.facts = facts_of(self.objective)

    def in_memory(self, source: xr.Dataset, settings: Rule, stored: Stored, attrs: Row, quiet: bool) -> xr.Dataset:
        """Return what was computed, with ``attrs``."""
        allocator = Allocator(self.objective, settings, stored)
        with _bar(source, 0, quiet) as bar:
            rows = [tuple(map(_arrived, pair)) for pair in rows_along(source, allocator, done=bar.update)]
        parts = [snapshot for snapshot, _ in rows], [iteration for _, iteration in rows if iteration]
        new = {key: np.stack([row[key] for row in part]) for part in parts for key in (part[0] if part else {})}
        new.pop("iteration", None)
        new |= {} if allocator.statistics is None else allocator.statistics.variables()
        return schema.build_dataset({}, new, attrs)

    def allocate(
        self,
        source: xr.Dataset,
        settings: Rule,
        stored: Stored,
        partial: Path,
        attrs: Row,
        quiet: bool,
    ) -> None:
        """Compute all rows into segments in ``partial``, going on where an interrupted call ended."""
        if (partial / segments.HEADER).exists() and BLOCK in read_header(partial).attrs:
            raise RecordingError(f"{partial} was begun on a cluster. Continue it there (cluster=…), or remove it.")
        if partial.is_dir() and not segments.has_rows(partial):
            Lock(partial).release()  # raises if another allocation has just begun there
            segments.remove(partial)
        done, allocator = 0, Allocator(self.objective, settings, stored)
        if partial.is_dir():
            refuse_other_settings(read_header(partial).attrs, attrs, partial)
            done = _continued(partial, allocator)
        header = schema.stamp(xr.Dataset(), attrs)
        writer = SegmentWriter(partial, header, resume=partial.is_dir(), running=allocator.running)
        try:
            with _bar(source, done, quiet) as bar:
                for snapshot, iteration in rows_along(source, allocator, done, done=bar.update):
                    writer.append(snapshot, iteration)
        finally:
            writer.close()


def _arrived(row: Row) -> Row:
    """Return a row whose numbers are in ordinary memory."""
    return {name: np.array(value) for name, value in row.items()}


def _continued(partial: Path, allocator: Allocator) -> int:
    """Go on where an interrupted call ended; return the number of iterations that it finished."""
    if allocator.statistics is not None:
        segments.go_back_to_running(partial)
    if not segments.segment_paths(partial):
        return 0
    allocator.resume(partial)
    return open_partial(partial).sizes.get("iteration", 0)


def _bar(source: xr.Dataset, done: int, quiet: bool) -> Any:
    return progress(source.sizes["iteration"], "allocating", unit="it", initial=done, quiet=quiet)


def _join(source: xr.Dataset, computed: xr.Dataset, facts: Facts, name: str | None) -> xr.Dataset:
    """Add the computed variables to the trajectory; attributes of a further objective carry its name."""
    names = {v: schema.with_suffix(str(v), name) for v in computed.data_vars if v in schema.VARIABLES}
    older = [schema.with_suffix(v, name) for v in schema.VARIABLES if v not in PATH_VARIABLES]
    kept = source.drop_vars([n for n in older if n in source.data_vars])
    new = computed.drop_vars(list(computed.coords)).rename(names)
    joined = kept.assign({n: (new[n].dims, new[n].data) for n in names.values()})
    if facts.class_names and "class" in joined.dims and "class" not in joined.coords:
        joined = joined.assign_coords({"class": list(facts.class_names)})
    own = {*schema.stamp(xr.Dataset()).attrs, "path_fingerprint", "dropped", "partial", BLOCK}
    own |= {"threads"} & set(source.attrs)  # of the training
    told = {schema.with_suffix(k, name): v for k, v in computed.attrs.items() if k not in own}
    told |= {"Conventions": schema.CONVENTIONS, "schema_version": schema.SCHEMA_VERSION}
    options = {k: computed.attrs[k] for k in ("rule", "tolerance", "max_splits", "classes")}
    made = provenance.made_by("lk.allocate", **options, name=name)
    told[schema.with_suffix("allocated_by", name)] = "; ".join(made.values())
    return schema.stamp(joined, told | {schema.with_suffix("loss_unit", name): facts.loss_unit})


def _as_dataset(trajectory: Any, facts: Facts, in_place: bool) -> tuple[xr.Dataset, Path | None]:
    if isinstance(trajectory, xr.Dataset):
        return trajectory, None
    if isinstance(trajectory, str | os.PathLike):
        source = opening.open_trajectory(trajectory)
        if in_place and source.attrs.get("partial"):
            raise RecordingError(
                f"{trajectory} is an unfinished recording, and cannot be extended. Make it a file with lk.finish, or "
                "pass out=…"
            )
        return source, writable_path(trajectory) if in_place else given_path(trajectory)
    tensor = isinstance(trajectory, torch.Tensor)
    theta = np.asarray(trajectory.detach().cpu() if tensor else trajectory, np.float32)
    n_parameters = facts.labels.n_parameters
    if theta.ndim != 2 or theta.shape[1] != n_parameters or len(theta) < 2:
        raise TrajectoryError(
            f"an array of snapshots must have shape (T+1, {n_parameters}) with T ≥ 1, got {theta.shape}"
        )
    steps = {
        "snapshot": (("snapshot",), np.arange(len(theta))),
        "iteration": (("iteration",), np.arange(len(theta) - 1)),
    }
    return schema.build_dataset(facts.labels.coords() | steps, {"theta": theta}), None


def _same_classes(stored: Sequence[str], ours: Sequence[str]) -> bool:
    """Say whether these can be the same classes: by their names, or their number where one side has only numbers."""
    numbers = [str(k) for k in range(len(ours))]
    return len(stored) == len(ours) and (list(stored) == list(ours) or numbers in (list(stored), list(ours)))


def _some(names: Sequence[str], most: int = 10) -> str:
    more = ", …" if len(names) > most else ""
    return f"{len(names)} classes ({', '.join(printable(name, 20) for name in names[:most])}{more})"


def _check_source(source: xr.Dataset, facts: Facts, name: str | None, overwrite: bool) -> None:
    if "theta" not in source:
        raise TrajectoryError(
            "the trajectory has no 'theta', so there is no path to integrate along. Record with keep including 'theta'."
        )
    shapes = {t.name: t.shape for t in facts.labels.tensors}
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
    ours = [visible(name) for name in facts.class_names or ()]  # as names come back from a file
    if named and ours and not _same_classes(named, ours):
        raise RecordingError(
            f"the trajectory has {_some(named)}, this objective {_some(ours)}; one file has one list of "
            "classes. Build the objective with the same classes in the same order (class_names=…)."
        )
    taken = [schema.with_suffix(v, name) for v in ("lca", "loss") if schema.with_suffix(v, name) in source]
    if taken and not overwrite:
        raise RecordingError(
            f"the trajectory already has {', '.join(taken)}. Pass overwrite=True to replace them, "
            'or name="…" to add another objective beside them.'
        )
