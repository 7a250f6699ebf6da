"""Allocation along a stored trajectory, or along snapshots that the user has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from lcakit.errors import RecordingError
from lcakit.record.allocation.closing import warn_unless_closed
from lcakit.record.allocation.joining import join
from lcakit.record.allocation.local import LocalWork
from lcakit.record.allocation.settings import AllocationSettings
from lcakit.record.allocation.source import as_dataset, check_source
from lcakit.record.allocation.spec import ObjectiveSpec
from lcakit.record.allocation.stored import Stored
from lcakit.record.budget import KEEP, check_keep
from lcakit.record.objective.describe import tensors_fingerprint
from lcakit.record.objective.objective import Objective
from lcakit.storage import opening, saving, segments
from lcakit.storage.atomic import exclusively
from lcakit.storage.partial import open_partial
from lcakit.storage.paths import allocation_partial, writable_path
from lcakit.trajectory.arguments import checks_arguments

if TYPE_CHECKING:
    from lcakit.record.allocation.cluster import SharedWork

__all__ = ["allocate"]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
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
        The trajectory with what was allocated, in the unit of the objective's loss: ``lca`` (iteration, parameter),
        with classes ``lca_unit_class`` (iteration, unit, class) and ``loss_class`` (snapshot, class), ``loss``
        (snapshot), ``gradient`` (snapshot, parameter), and for each iteration ``residual``, ``splits`` and
        ``first_order``.

    Raises
    ------
    TrajectoryError
        If there is no ``theta``, or the parameters are not those of the objective.
    RecordingError
        If the variables or the file are there already, classes differ, or an interrupted call had other settings.
    DivergedError
        If the loss or a gradient on the path is not finite.
    ValueError
        For an unknown rule, class resolution or variable, or a ``name`` that is not a plain word.

    See Also
    --------
    lcakit.Recorder : Allocates while a network trains.

    Examples
    --------
    >>> import torch
    >>> import lcakit as lk
    >>> _ = torch.manual_seed(0)
    >>> objective = lk.Objective(torch.nn.Linear(4, 3), (torch.randn(30, 4), torch.arange(30) % 3))
    >>> path = 0.1 * torch.randn(3, objective.n_parameters)  # three snapshots: two iterations
    >>> ds = lk.allocate(path, objective, quiet=True)
    >>> dict(ds["lca"].sizes)
    {'iteration': 2, 'parameter': 15}
    >>> bool(abs(ds["lca"].sum() - (ds["loss"][-1] - ds["loss"][0])) < 1e-3)
    True
    """
    settings = AllocationSettings(rule, tolerance, max_splits, classes)
    check_keep(keep)
    saving.check_compression(compression)
    work = LocalWork(objective) if cluster is None else _on_cluster(cluster, objective, trajectory, block)
    source, path = as_dataset(trajectory, work.facts, in_place=out is None)
    target = path if out is None else writable_path(out)
    check_source(source, work.facts, name, overwrite)
    if target is not None and target != path and target.exists() and not overwrite:
        raise RecordingError(f"{target} exists already. Choose another name, or pass overwrite=True to replace it.")
    writers = _writers(cluster, target)
    stored = Stored.of(keep, statistics, path=False)
    attrs = work.facts.attrs | settings.attrs() | stored.attrs()
    if target is None:  # so there is no path, and no cluster
        local = work if isinstance(work, LocalWork) else LocalWork(objective)
        found = local.in_memory(source, settings, stored, attrs, quiet)
        warn_unless_closed(found, rule, tolerance)
        return join(source, found, work.facts, name)
    partial = allocation_partial(target, name)
    attrs |= {"path_fingerprint": _path_fingerprint(source), "dropped": " ".join(sorted({*KEEP} - stored.keep))}
    work.allocate(source, settings, stored, partial, attrs, quiet)
    warn_unless_closed(open_partial(partial), rule, tolerance)
    with exclusively(target):
        if target == path:  # which may have got another allocation since
            source = opening.open_trajectory(path)
            _check_same_path(source, attrs["path_fingerprint"], path)
            check_source(source, work.facts, name, overwrite)
        joined = join(source, open_partial(partial), work.facts, name)
        saving.save(joined, target, overwrite=True, compression=compression, cluster=writers)
        segments.remove(partial)
    return opening.open_trajectory(target)


def _path_fingerprint(source: xr.Dataset) -> str:
    return tensors_fingerprint(torch.as_tensor(source["theta"][[0, -1]].values))


def _check_same_path(source: xr.Dataset, fingerprint: str, path: Path) -> None:
    if "theta" not in source or _path_fingerprint(source) != fingerprint:
        raise RecordingError(
            f"{path} was replaced by another trajectory while this allocation was computed, so it is not added to it. "
            f"What was computed is kept in {path}….allocation.partial: put the file back, and call lk.allocate again."
        )


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
