"""Import a series of checkpoints: sparse snapshots of a training run that was not recorded.

The gradient of the loss is a conservative field: its integral from one checkpoint to the next is the change of the loss
on *any* path. So the allocation along the straight path between checkpoints adds up as that of single steps does, with
as many splits as the distance takes; it cannot tell what each parameter did in between, out and back.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from lcakit.errors import RecordingError, TrajectoryError
from lcakit.record.allocation.allocate import allocate
from lcakit.record.objective.describe import describe, name_cleaner, unwrap
from lcakit.record.objective.objective import Objective
from lcakit.sharing.importers.arrays import from_arrays
from lcakit.sharing.importers.beside_theta import BesideTheta
from lcakit.sharing.importers.names import bare_name, guess_labels, is_learned
from lcakit.sharing.importers.numbered import Paths, numbered
from lcakit.sharing.importers.rows import Rows, lazy
from lcakit.sharing.importers.states import (
    WRAPPERS,
    State,
    flattened,
    in_wrappers,
    load,
    logged_rates,
    read_state,
    stated_step,
    unwrapped,
)
from lcakit.storage import opening, saving
from lcakit.storage.paths import writable_path
from lcakit.trajectory.arguments import checks_arguments
from lcakit.trajectory.labels import Labels

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
        buffers are left out, with a warning where they differ and may matter.
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
        rows are read one at a time.

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
    names = _Names.of_file(next(iter(files.values()))) if model is None else _Names.of_model(model, objective, prefix)
    _check(list(files.values()), names, model, objective)
    theta = lazy(_Checkpoints(tuple(files.values()), names), whole_rows=True)
    facts = {"imported_from": "checkpoints"} | dict(attrs or {})
    rates = {} if order == "time" else _learning_rates(files)
    ds = from_arrays(theta, names.labels, snapshot=np.array(list(files)), attrs=facts, **rates)
    if target is not None:
        saving.save(ds, target, overwrite=overwrite, compression=compression, quiet=quiet)
    if objective is None:
        return ds if target is None else opening.open_trajectory(target)
    return allocate(ds if target is None else target, objective, compression=compression, quiet=quiet, **allocation)


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


# ---- what is in them -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Names:
    """Which tensors of a checkpoint are parameters: ``learned`` maps names in it (without wrappers) to those of θ.

    A tied parameter has several names. ``ignored`` are buffers and frozen parameters; None: whatever is not learned.
    ``prefix`` is what the user says that stands before the names.
    """

    labels: Labels
    learned: dict[str, str]
    ignored: frozenset[str] | None
    prefix: str | None = None

    @classmethod
    def of_model(cls, model: nn.Module, objective: Objective | None, prefix: str | None) -> _Names:
        bare = unwrap(model)
        clean = name_cleaner(bare)
        labels = describe(model)
        if objective is not None and {t.name: t.shape for t in labels.tensors} == {
            t.name: t.shape for t in objective.labels.tensors
        }:
            labels = objective.labels  # it has seen in which order the layers are called
        names = {t.name for t in labels.tensors}
        first: dict[int, str] = {}
        learned = {}
        for name, parameter in bare.named_parameters(remove_duplicate=False):
            canonical = first.setdefault(id(parameter), clean(name))
            if canonical in names:
                learned[bare_name(clean(name))] = canonical
        if len(set(learned.values())) < len(names):
            raise TrajectoryError(
                "the model has parameters whose names differ only by 'module' or '_orig_mod', which wrappers add to "
                "the names in checkpoints, so it is not clear which is which. Rename that part of the model."
            )
        ignored = {bare_name(clean(name)) for name in bare.state_dict()} - learned.keys()
        return cls(labels, learned, frozenset(ignored), prefix)

    @classmethod
    def of_file(cls, path: Path) -> _Names:
        state = {bare_name(name): value for name, value in read_state(path).items() if value.is_floating_point()}
        labels = guess_labels({name: tuple(value.shape) for name, value in state.items()})
        return cls(labels, {t.name: t.name for t in labels.tensors}, None)

    def read(self, path: Path) -> State:
        """Return the state of the model in a checkpoint: at the top, under the usual names, or where its names are."""
        stored = load(path)
        if self.ignored is None:
            return in_wrappers(stored, path)
        state = {name: value for name, value in unwrapped(stored).items() if isinstance(value, torch.Tensor)}
        if self.prefix is None and self._starts({bare_name(str(name)): value for name, value in state.items()}) == [""]:
            return state
        tensors = {bare_name(name): value for name, value in flattened(stored)}
        starts = [p for p in self._starts(tensors) if f".{p}".endswith(f".{bare_name(self.prefix or '')}")]
        if len(starts) > 1:
            several = ", ".join(map(repr, starts))
            raise TrajectoryError(f"{path}: holds the model several times, under {several}. Say with prefix=… which.")
        if not starts and self.prefix is not None:
            raise TrajectoryError(f"{path}: no state of the model under prefix={self.prefix!r}")
        if not starts:
            return in_wrappers(stored, path)
        return {name[len(starts[0]) :]: value for name, value in tensors.items() if name.startswith(starts[0])}

    def _starts(self, tensors: State) -> list[str]:
        """Return what stands before the model's names in ``tensors``, where all of them are there."""
        longest = max(self.learned, key=len)
        aliases: dict[str, set[str]] = {}
        for alias, name in self.learned.items():
            aliases.setdefault(name, set()).add(alias)
        starts = [name.removesuffix(longest) for name in tensors if f".{name}".endswith(f".{longest}")]
        return [p for p in starts if all(any(p + alias in tensors for alias in own) for own in aliases.values())]

    def pick(self, state: State, path: Path) -> dict[str, torch.Tensor]:
        """Return the learned tensors of a checkpoint by their names in θ; refuse one that does not fit."""
        picked: dict[str, torch.Tensor] = {}
        unexpected = []
        for stored, value in state.items():
            name = self.learned.get(bare_name(stored))
            if name is None:
                unexpected += [stored] if self._is_unexpected(bare_name(stored), value) else []
            elif name in picked and not torch.equal(picked[name], value):
                raise TrajectoryError(f"{path}: {stored!r} is a second {name!r} with other values")
            else:
                picked[name] = value
        self._refuse(path, [t.name for t in self.labels.tensors if t.name not in picked], unexpected)
        for spec in self.labels.tensors:
            value = picked[spec.name]
            if tuple(value.shape) != spec.shape or not value.is_floating_point():
                got = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
                raise TrajectoryError(f"{path}: {spec.name!r} is {got}, expected floats of shape {spec.shape}")
        return picked

    def _is_unexpected(self, bare: str, value: torch.Tensor) -> bool:
        if self.ignored is not None:
            return bare not in self.ignored
        return value.is_floating_point() and is_learned(bare)

    def _refuse(self, path: Path, missing: list[str], unexpected: list[str]) -> None:
        if not missing and not unexpected:
            return
        parts = [("missing", missing), ("unexpected", unexpected)]
        said = "; ".join(f"{what}: {', '.join(map(repr, names[:5]))}" for what, names in parts if names)
        raise TrajectoryError(f"{path}: not of this model, {said}. Give the model that was trained.")


class _Checkpoints(Rows):
    """The snapshots (checkpoints, K): each file is opened when its row is asked for."""

    def __init__(self, paths: tuple[Path, ...], names: _Names) -> None:
        super().__init__(len(paths), names.labels.n_parameters)
        self.paths, self.names = paths, names

    def read(self, start: int, stop: int, left: int, right: int) -> np.ndarray:
        """Read what overlaps ``left:right``; the rest of the mapped files is not touched."""
        out = np.empty((stop - start, right - left), self.dtype)
        labels = self.names.labels
        for row, path in enumerate(self.paths[start:stop]):
            picked = self.names.pick(self.names.read(path), path)
            for spec, offset in zip(labels.tensors, labels.offsets, strict=True):
                a, b = max(left, offset), min(right, offset + spec.size)
                if a < b:
                    values = picked[spec.name].reshape(-1)[a - offset : b - offset]
                    out[row, a - left : b - left] = values.to(torch.float32).numpy()
        return out


def _check(files: Sequence[Path], names: _Names, model: nn.Module | None, objective: Objective | None) -> None:
    """Look at every file before anything is computed: at θ, and at what the objective takes from its own model."""
    beside = None if model is None else BesideTheta(model, objective)
    for row, path in enumerate(files):
        state = names.read(path)
        names.pick(state, path)
        if beside is not None:
            beside.compare(state, path, row, is_end=row in (0, len(files) - 1))
    if beside is not None:
        n_parameters = names.labels.n_parameters
        beside.report(lambda row: _Checkpoints(tuple(files), names).read(row, row + 1, 0, n_parameters)[0])
