"""Import a series of checkpoints: sparse snapshots of a training run that was not recorded.

The gradient of the loss is a conservative field: its integral from one checkpoint to the next is the change of the loss
on *any* path. So the allocation along the straight path between checkpoints adds up as that of single steps does, with
as many splits as the distance takes; it cannot tell what each parameter did in between, out and back.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from lcakit.errors import RecordingError
from lcakit.record.allocation.allocate import allocate
from lcakit.record.objective.buffers import BufferTable
from lcakit.record.objective.objective import Objective
from lcakit.sharing.importers.arrays import from_arrays
from lcakit.sharing.importers.beside_theta import BesideTheta
from lcakit.sharing.importers.model_states import Buffers, Checkpoints, Names
from lcakit.sharing.importers.numbered import Paths, numbered
from lcakit.sharing.importers.rows import Rows, lazy, to_write
from lcakit.sharing.importers.states import WRAPPERS, State, logged_rates, read_state, stated_step
from lcakit.storage import opening, saving
from lcakit.storage.paths import writable_path
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.schema import stamp

__all__ = ["WRAPPERS", "State", "from_checkpoints", "read_state"]


def __dir__() -> list[str]:
    return __all__


@checks_arguments
def from_checkpoints(
    paths: Paths,
    model: nn.Module | None = None,
    objective: Objective | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    pattern: str | None = None,
    order: str = "number",
    prefix: str | None = None,
    attrs: Mapping[str, Any] | None = None,
    compression: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **allocation: Any,
) -> xr.Dataset:
    r"""Make a trajectory of a series of checkpoints, and allocate the loss changes between them.

    .. math:: \sum_i A_{t,i} = \int_0^1 ∇L(θ_t + s\,Δθ) \cdot Δθ \, ds = L(θ_{t+1}) - L(θ_t)

    holds whatever lies between two checkpoints, so the sums are those of the whole training; how the loss change is
    shared out is that of the straight path.

    Parameters
    ----------
    paths
        Files, a glob pattern, or a folder. ``.safetensors``; or ``.pt``, ``.pth``, ``.ckpt``, ``.bin`` as far as they
        hold nothing but tensors and plain data (they are read with ``weights_only=True``). Also folders that hold one,
        or its shards and their index, as trainers write them: ``"output"`` with ``checkpoint-500/model.safetensors``
        in it. The state of the model may lie anywhere in nested dicts, such as under ``state_dict`` and ``model``;
        buffers that training moved become ``buffers`` of the trajectory, with which each checkpoint is allocated.
    model
        The model: its trainable parameters, in their order, are the parameters; that of the objective by default.
        Without a model all floating-point tensors are, in the order of the first file, and what they are is guessed
        from their names (:mod:`lcakit.sharing.importers.names`).
    objective
        Allocates at once (:func:`lcakit.allocate`). Without one the trajectory has ``theta`` only.
    out
        File to write; without it the result is lazy and reads the checkpoints, which must stay where they are.
    pattern
        Regular expression with one group, the number of a checkpoint, searched for in its name, then in its path:
        ``"epoch=([0-9]+)"``. By default the number is the step that a trainer wrote (``trainer_state.json``, or
        Lightning's ``global_step``), else the last integer of the name, or of the folder's name where each file has its
        own.
        Numbers become the ``snapshot`` coordinate, and say the order.
    order
        ``"number"``; ``"time"`` takes the files in the order in which they were written, as snapshots 0, 1, ….
    prefix
        What stands before the model's names in a checkpoint that holds several (``"ema_model."``); found where it
        holds one.
    attrs
        Root attributes that are known of the training.
    compression, overwrite
        Of the file ``out``, see :func:`lcakit.save`.
    **allocation
        With an objective: ``rule``, ``tolerance``, ``max_splits``, ``classes``, ``keep``, ``name`` of
        :func:`lcakit.allocate`. Sparse checkpoints want many splits: look at ``residual``.

    Returns
    -------
    xarray.Dataset
        One snapshot per checkpoint, ``theta`` in float32. ``learning_rate`` where a trainer wrote it: the mean of what
        it logged between two checkpoints, or the value before. One checkpoint at a time is in memory, as far as the
        rows are read one at a time; with ``out`` no more than two, or some tens of megabytes.

    Raises
    ------
    TrajectoryError
        If a file cannot be read, has no number or the same as another, or if tensors are missing, unexpected or of
        another shape; the message names file and tensor. If frozen parameters, or buffers on which the loss depends,
        are the same in all files and others in the objective's model. All files are checked before anything is
        allocated.
    RecordingError
        If ``out`` exists.
    LcakitError
        If safetensors is not installed.

    Examples
    --------
    >>> import tempfile
    >>> folder, model = Path(tempfile.mkdtemp()), nn.Linear(4, 2)
    >>> for step in (0, 100, 500):
    ...     torch.save(model.state_dict(), folder / f"step{step}.pt")
    >>> ds = from_checkpoints(folder, model=model)
    >>> ds["snapshot"].values.tolist(), ds["tensor"].values.tolist()
    ([0, 100, 500], ['weight', 'bias'])
    >>> data = torch.rand(8, 4), torch.randint(2, (8,))
    >>> from_checkpoints(folder, objective=Objective(model, data), max_splits=256, quiet=True)["lca"].shape
    (2, 10)
    """
    if allocation and objective is None:
        raise ValueError(f"{', '.join(allocation)}: options of lk.allocate, which needs an objective=…")
    files = numbered(paths, pattern, order, stated_step)
    target = writable_path(out) if out is not None else None
    if target is not None:
        _refuse_existing(target, overwrite)
    model = objective.model if model is None and objective is not None else model
    names = Names.of_file(next(iter(files.values()))) if model is None else Names.of_model(model, objective, prefix)
    buffers = _check(list(files.values()), names, model, objective)
    theta = _blocks(Checkpoints(tuple(files.values()), names), "parameter", target)
    facts = {"imported_from": "checkpoints"} | dict(attrs or {})
    rates = {} if order == "time" else _learning_rates(files)
    table = BufferTable.of(buffers)
    if buffers:
        rates["buffers"] = _blocks(Buffers(tuple(files.values()), names, table), "buffer_entry", target)
    ds = from_arrays(theta, names.labels, snapshot=np.array(list(files)), attrs=facts, **rates)
    ds = stamp(ds.assign_coords(table.coords())) if buffers else ds
    if target is not None:
        saving.save(ds, target, overwrite=overwrite, compression=compression, quiet=quiet)
    if objective is None:
        return ds if target is None else opening.open_trajectory(target)
    return allocate(ds if target is None else target, objective, compression=compression, quiet=quiet, **allocation)


def _blocks(rows: Rows, columns: str, target: Path | None) -> Any:
    """Return a table in blocks: of all checkpoints where a file is written, else of one after the other."""
    return lazy(rows, whole_rows=True) if target is None else to_write(rows, ("snapshot", columns))


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise RecordingError(
            f"{target} exists already. Choose another name, or pass overwrite=True to replace it. If it holds these "
            "checkpoints and only their allocation was interrupted, go on with lk.allocate(path, objective)."
        )


def _learning_rates(files: Mapping[int, Path]) -> dict[str, Any]:
    """Return the learning rate of each stretch between two checkpoints, where trainers wrote it down."""
    logged: dict[int, float] = {}
    for path in files.values():
        logged |= logged_rates(path)
    if not logged:
        return {}
    steps, values = np.array(sorted(logged)), np.array([logged[step] for step in sorted(logged)])
    ends, found = list(files), []
    for start, stop in itertools.pairwise(ends):
        inside = values[(steps > start) & (steps <= stop)]
        before = values[max(0, int(np.searchsorted(steps, start, "right")) - 1)]
        found.append(inside.mean() if inside.size else before)
    return {"learning_rate": np.array(found)}


def _check(
    files: Sequence[Path], names: Names, model: nn.Module | None, objective: Objective | None
) -> dict[str, torch.Tensor]:
    """Look at every file before anything is computed; return the first of the buffers that are to be stored."""
    beside = None if model is None else BesideTheta(model, objective)
    for row, path in enumerate(files):
        state = names.read(path)
        names.pick(state, path)
        if beside is not None:
            beside.compare(state, path, row, is_end=row in (0, len(files) - 1))
    if beside is None:
        return {}
    n_parameters = names.labels.n_parameters
    return beside.report(lambda row: Checkpoints(tuple(files), names).read(row, row + 1, 0, n_parameters)[0])
