"""The state of one model in its checkpoints: which tensor is which parameter, as rows of a trajectory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lcakit.errors import TrajectoryError
from lcakit.record.objective.buffers import BufferTable
from lcakit.record.objective.describe import describe, name_cleaner, unwrap
from lcakit.record.objective.objective import Objective
from lcakit.sharing.importers.names import bare_name, guess_labels, is_learned
from lcakit.sharing.importers.rows import Rows
from lcakit.sharing.importers.states import State, flattened, in_wrappers, load, read_state, unwrapped
from lcakit.trajectory.labels import Labels

__all__ = ["Buffers", "Checkpoints", "Names"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class Names:
    """Which tensors of a checkpoint are parameters: ``learned`` maps names in it (without wrappers) to those of θ.

    A tied parameter has several names. ``ignored`` are buffers and frozen parameters; None: whatever is not learned.
    ``prefix`` is what the user says that stands before the names.
    """

    labels: Labels
    learned: dict[str, str]
    ignored: frozenset[str] | None
    prefix: str | None = None

    @classmethod
    def of_model(cls, model: nn.Module, objective: Objective | None, prefix: str | None) -> Names:
        """Return the names in checkpoints of a model."""
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
    def of_file(cls, path: Path) -> Names:
        """Return those of all tensors in a checkpoint whose model is not at hand."""
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


class Checkpoints(Rows):
    """The snapshots (checkpoints, K): each file is opened when its row is asked for."""

    def __init__(self, paths: tuple[Path, ...], names: Names) -> None:
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


class Buffers(Rows):
    """The buffers that moved (checkpoints, numbers)."""

    dtype: np.dtype[Any] = np.dtype("f8")

    def __init__(self, paths: tuple[Path, ...], names: Names, table: BufferTable) -> None:
        super().__init__(len(paths), sum(table.sizes))
        self.paths, self.names, self.table = paths, names, table

    def read(self, start: int, stop: int, left: int, right: int) -> np.ndarray:
        """Read those of some checkpoints."""
        rows = []
        for path in self.paths[start:stop]:
            stored = {bare_name(name): value for name, value in self.names.read(path).items()}
            rows.append(self.table.row({name: stored[bare_name(name)] for name in self.table.names}))
        return np.array(rows).reshape(stop - start, -1)[:, left:right]
