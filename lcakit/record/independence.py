"""Whether the loss is still the function of θ that it was: what it depends on beside θ must stay as it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch

from lcakit.errors import RecordingError
from lcakit.record.objective.buffers import evaluated_buffers
from lcakit.record.objective.describe import name_cleaner, unwrap
from lcakit.record.objective.objective import Objective

__all__ = ["Independence"]


def __dir__() -> list[str]:
    return __all__


_SMALL = 2**16
"""Buffers of so many numbers are compared number by number: batch normalization, and what writes to ``tensor.data``,
change them without a new version."""
_ROUNDING = 1e-6  # relative: additions on a GPU may come in any order


class Independence:
    """Watches the parameters and buffers of a model that are not part of θ.

    A change is seen by the version that torch counts for each tensor, that of a small buffer by its numbers. A tensor
    that changed is tried: where the loss stays the same without it (counters, running statistics that are not used), it
    is let alone from then on, and where not, recording stops.

    Parameters
    ----------
    objective
        The loss; θ and the model are its.

    Attributes
    ----------
    moved : list of str
        Buffers that the last :meth:`check` has seen to change, of those that matter: a recording follows them.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._theta = {id(parameter) for parameter in objective._live.parameters}
        self._copies = evaluated_buffers(objective)
        self._used = set(objective._evaluator.sweep.replicas[0].tensors())
        self._seen = {name: _State(tensor) for name, tensor, _ in self._outside()}
        self._no_matter: set[str] = set()
        self.moved: list[str] = []

    def buffers(self) -> dict[str, torch.Tensor]:
        """Return the buffers of the model that the loss is evaluated with, as they are now, by clean name."""
        bare = unwrap(self._objective.model)
        clean = name_cleaner(bare)
        return {clean(name): buffer for name, buffer in bare.named_buffers() if clean(name) in self._used}

    def without_effect(self, names: Iterable[str]) -> list[str]:
        """Let counters among these buffers alone from now on: their change did not change the loss; return the others.

        Only whole numbers: a number with a fraction may have changed by too little to be seen.
        """
        others = [name for name in names if self._copies[name].is_floating_point()]
        self._no_matter |= set(names) - set(others)
        return others

    def check(self, theta: torch.Tensor) -> None:
        """Compare with what was there before.

        Parameters
        ----------
        theta
            The present parameters (K,), at which the loss is evaluated where something has changed.

        Raises
        ------
        RecordingError
            If a parameter that is not part of θ learns now, or a tensor that the loss depends on has changed.
        """
        changed = []
        for name, tensor, learns in self._outside():
            if learns or name not in self._seen:
                self._refuse(name)
            if not self._seen[name].still(tensor) or (tensor.numel() <= _SMALL and self._differs(name, tensor)):
                self._seen[name] = _State(tensor)
                changed.append(name)
        new = [name for name in changed if name not in self._no_matter]
        buffers = self.buffers()
        self.moved = [name for name in new if name in buffers and self._differs(name, buffers[name])]
        if refused := [name for name in new if name not in buffers]:
            self._try(refused, theta)

    def check_all(self, theta: torch.Tensor) -> None:
        """Compare the loss with what it is now, whatever torch says of versions: ``tensor.data`` is not counted there.

        Raises
        ------
        RecordingError
            As :meth:`check`.
        """
        self.check(theta)
        buffers = self.buffers()
        if names := [name for name in self._seen if name not in buffers]:
            self._try(names, theta)

    def _differs(self, name: str, live: torch.Tensor) -> bool:
        """Say whether the numbers of a buffer are not those that the objective evaluates with."""
        copy = self._copies.get(name)
        return copy is not None and not torch.equal(live.to(copy.device, copy.dtype), copy)

    def _outside(self) -> Iterator[tuple[str, torch.Tensor, bool]]:
        """Yield name, tensor, and whether it learns, of all that is not part of θ."""
        bare = unwrap(self._objective.model)
        clean = name_cleaner(bare)
        for name, parameter in bare.named_parameters():
            if id(parameter) not in self._theta and parameter.numel():
                yield clean(name), parameter, parameter.requires_grad
        for name, buffer in bare.named_buffers():
            if clean(name) in self._used:  # running statistics, say, may not be
                yield clean(name), buffer, False

    def _refuse(self, name: str) -> None:
        what = "learns now (requires_grad) and did not" if name in self._seen else "is there now and was not"
        raise RecordingError(
            f"{name!r} {what} when the recording began, so it is not part of θ, and its part of the loss change would "
            "be missing. Make the objective and the recorder of the whole model while all that will ever learn "
            "requires gradients, and freeze after that what shall wait."
        )

    def _try(self, names: list[str], theta: torch.Tensor) -> None:
        before = self._objective.loss(theta)
        self._objective.refresh(names)
        after = self._objective.loss(theta)
        if not math.isclose(before, after, rel_tol=_ROUNDING, abs_tol=1e-12):
            raise RecordingError(
                f"{_listed(names)} changed while training without being part of θ, and the loss depends on it: at the "
                f"same parameters it was {before:.6g} and is {after:.6g}. LCA allocates to parameters alone, so the "
                "account would not close. Keep it fixed while recording, or make it a parameter that learns."
            )
        self._no_matter |= set(names)


class _State:
    """What changes with the numbers of a tensor: which it is, where it is, and how often it was written to."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor, self._place, self._version = tensor, tensor.data_ptr(), tensor._version

    def still(self, tensor: torch.Tensor) -> bool:
        """Say whether this is the tensor as it was."""
        return tensor is self._tensor and tensor.data_ptr() == self._place and tensor._version == self._version


def _listed(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
