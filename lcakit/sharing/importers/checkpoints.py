"""Import a series of checkpoints: sparse snapshots of a training run that was not recorded.

The gradient of the loss is a conservative field: its integral from one checkpoint to the next is the change of the loss
on *any* path. So the allocation along the straight path between checkpoints adds up as that of single steps does, with
as many splits as the distance takes; it cannot tell what each parameter did in between, out and back.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from lcakit.errors import RecordingError, TrajectoryError
from lcakit.packages import package
from lcakit.record.allocation.allocate import allocate
from lcakit.record.objective.describe import describe, name_cleaner, unwrap
from lcakit.record.objective.objective import Objective
from lcakit.sharing.importers.arrays import from_arrays
from lcakit.sharing.importers.names import guess_labels, is_learned
from lcakit.sharing.importers.numbered import SAFETENSORS, Paths, numbered
from lcakit.sharing.importers.rows import Rows, lazy
from lcakit.storage import opening, saving
from lcakit.storage.paths import writable_path
from lcakit.trajectory.labels import Labels

__all__ = ["WRAPPERS", "State", "from_checkpoints", "read_state"]


def __dir__() -> list[str]:
    return __all__


WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
"""Where training loops put the state of the model inside a checkpoint, in the order in which they are tried."""

State = Mapping[str, torch.Tensor]


def from_checkpoints(
    paths: Paths,
    model: nn.Module | None = None,
    objective: Objective | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    pattern: str | None = None,
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
        hold nothing but tensors and plain data (they are read with ``weights_only=True``). The state of the model may
        lie under ``state_dict``, ``model_state_dict``, ``model``, ``net`` or ``module``; buffers are left out.
    model
        The model: its trainable parameters, in their order, are the parameters; that of the objective by default.
        Without a model all floating-point tensors are, in the order of the first file, and what they are is guessed
        from their names (:mod:`lcakit.sharing.importers.names`).
    objective
        Allocates at once (:func:`lcakit.allocate`). Without one the trajectory has ``theta`` only.
    out
        File to write; without it the result is lazy and reads the checkpoints, which must stay where they are.
    pattern
        Regular expression with one group, the number of a checkpoint, searched for in its name: ``"epoch=([0-9]+)"``.
        By default the number is the last integer of the name. Numbers become the ``snapshot`` coordinate, and say the
        order.
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
        One snapshot per checkpoint, ``theta`` in float32.

    Raises
    ------
    TrajectoryError
        If a file cannot be read, has no number or the same as another, or if tensors are missing, unexpected or of
        another shape; the message names file and tensor. All files are checked before anything is computed.
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
    files = numbered(paths, pattern)
    target = writable_path(out) if out is not None else None
    if target is not None:
        _refuse_existing(target, overwrite)
    model = objective.model if model is None and objective is not None else model
    names = _Names.of_model(model, objective) if model is not None else _Names.of_file(next(iter(files.values())))
    _check(files.values(), names, model if objective is not None else None)
    theta = lazy(_Checkpoints(tuple(files.values()), names), whole_rows=True)
    facts = {"imported_from": "checkpoints"} | dict(attrs or {})
    ds = from_arrays(theta, names.labels, snapshot=np.array(list(files)), attrs=facts)
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


# ---- what is in them -------------------------------------------------------------------------------------------------


def read_state(path: Path) -> State:
    """Return the tensors of a checkpoint, mapped from the file, by the names they have in it.

    Raises
    ------
    TrajectoryError
        If the file cannot be read, holds no tensors, or would need code to be run.
    """
    if not path.is_file():
        raise TrajectoryError(f"{path}: there is no such file")
    state = _read_safetensors(path) if path.suffix in SAFETENSORS else _read_pickled(path)
    for name in WRAPPERS:
        if isinstance(state.get(name), Mapping):
            state = state[name]
            break
    tensors = {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise TrajectoryError(
            f"{path}: no tensors in it; it holds {', '.join(map(repr, list(state)[:10])) or 'nothing'}. The state of "
            f"the model is looked for at the top, and under {', '.join(WRAPPERS)}."
        )
    return tensors


def _read_safetensors(path: Path) -> dict[str, Any]:
    safetensors = package("safetensors", f"reading {path.name}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise TrajectoryError(f"{path}: cannot be read as a safetensors file ({error})") from error


def _read_pickled(path: Path) -> Mapping[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise TrajectoryError(
            f"{path}: cannot be read: it is damaged, or holds more than tensors and plain data{_not_plain(error)}, and "
            "lcakit never runs code from a file. Save the model's state_dict() alone, best as .safetensors."
        ) from error
    except Exception as error:  # a damaged file can fail anywhere in the reader
        raise TrajectoryError(f"{path}: cannot be read as a checkpoint of PyTorch ({error})") from error
    if not isinstance(state, Mapping):
        raise TrajectoryError(f"{path}: holds a {type(state).__name__}, expected a state_dict or a dict with one in it")
    return state


def _not_plain(error: pickle.UnpicklingError) -> str:
    """Return what PyTorch's reader refused (its own message also advises to run the file, which is unsafe)."""
    found = re.search(r"GLOBAL (\S{1,100})", str(error))
    return f" ({found[1]})" if found else ""


def _bare(name: str) -> str:
    """Return a name without the parts that DataParallel and torch.compile add, wherever they are."""
    return ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod"))


@dataclass(frozen=True)
class _Names:
    """Which tensors of a checkpoint are parameters: ``learned`` maps names in it (without wrappers) to those of θ.

    A tied parameter has several names. ``ignored`` are buffers and frozen parameters; None: whatever is not learned.
    """

    labels: Labels
    learned: dict[str, str]
    ignored: frozenset[str] | None

    @classmethod
    def of_model(cls, model: nn.Module, objective: Objective | None) -> _Names:
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
                learned[_bare(clean(name))] = canonical
        if len(set(learned.values())) < len(names):
            raise TrajectoryError(
                "the model has parameters whose names differ only by 'module' or '_orig_mod', which wrappers add to "
                "the names in checkpoints, so it is not clear which is which. Rename that part of the model."
            )
        ignored = {_bare(clean(name)) for name in bare.state_dict()} - learned.keys()
        return cls(labels, learned, frozenset(ignored))

    @classmethod
    def of_file(cls, path: Path) -> _Names:
        state = {_bare(name): value for name, value in read_state(path).items() if value.is_floating_point()}
        labels = guess_labels({name: tuple(value.shape) for name, value in state.items()})
        return cls(labels, {t.name: t.name for t in labels.tensors}, None)

    def pick(self, state: State, path: Path) -> dict[str, torch.Tensor]:
        """Return the learned tensors of a checkpoint by their names in θ; refuse one that does not fit."""
        picked: dict[str, torch.Tensor] = {}
        unexpected = []
        for stored, value in state.items():
            name = self.learned.get(_bare(stored))
            if name is None:
                unexpected += [stored] if self._is_unexpected(_bare(stored), value) else []
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
            picked = self.names.pick(read_state(path), path)
            for spec, offset in zip(labels.tensors, labels.offsets, strict=True):
                a, b = max(left, offset), min(right, offset + spec.size)
                if a < b:
                    values = picked[spec.name].reshape(-1)[a - offset : b - offset]
                    out[row, a - left : b - left] = values.to(torch.float32).numpy()
        return out


def _check(paths: Iterable[Path], names: _Names, objective_model: nn.Module | None) -> None:
    """Look at every file before anything is computed; the first and the last must have the objective's frozen part."""
    files = list(paths)
    for path in files:
        state = read_state(path)
        names.pick(state, path)
        if objective_model is not None and path in (files[0], files[-1]):
            _check_frozen(state, path, objective_model)


def _check_frozen(state: State, path: Path, model: nn.Module) -> None:
    bare = unwrap(model)
    clean = name_cleaner(bare)
    stored = {_bare(name): value for name, value in state.items()}
    for name, parameter in bare.named_parameters():
        value = stored.get(_bare(clean(name)))
        if parameter.requires_grad or value is None:
            continue
        if value.shape != parameter.shape or not torch.equal(value, parameter.detach().to(value)):
            raise TrajectoryError(
                f"{path}: {clean(name)!r}, which the model does not train, has other values than in the objective's "
                "model, so the losses would not be those of the checkpoints. Load a checkpoint into the model first "
                "(model.load_state_dict), then make the objective."
            )
