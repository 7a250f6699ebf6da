"""What a recorder may be given of a training loop, its optimizers and further objects with a state, and their steps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import nn

from lcakit.errors import RecordingError
from lcakit.record.objective.describe import unwrap

_ACT_AFTER_STEP = (torch.optim.lr_scheduler.LRScheduler, torch.amp.GradScaler)


def checked_state(
    state: Mapping[str, Any], reserved: Mapping[str, Any], hooked: Sequence[torch.optim.Optimizer]
) -> dict[str, Any]:
    """Return the loop's further objects; refuse those whose state at the end of ``optimizer.step()`` is not final."""
    taken = sorted(set(state) & set(reserved))
    if taken:
        raise RecordingError(f"state has the name {taken[0]!r}, which the recorder uses itself. Choose another name.")
    late = [name for name, part in state.items() if isinstance(part, _ACT_AFTER_STEP)]
    if hooked and late:
        raise RecordingError(
            f"state[{late[0]!r}] acts after optimizer.step(), when the iteration is recorded already, so a resume "
            "would not be exact. Leave the optimizer out of the recorder, put it into state too, and call rec.step() "
            "as the last line of the loop."
        )
    return dict(state)


def checked_optimizers(given: Any, model: nn.Module) -> list[torch.optim.Optimizer]:
    """Return the optimizers given as a list; refuse what steps nothing of the model."""
    if given is None:
        return []
    found = [given] if isinstance(given, torch.optim.Optimizer) else list(given)
    live = {id(p) for p in unwrap(model).parameters()}
    for optimizer in found:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise RecordingError(
                f"optimizer must be a torch optimizer or several, got {type(optimizer).__name__}. "
                "Without one, call rec.step() in the loop."
            )
        if not any(id(p) in live for group in optimizer.param_groups for p in group["params"]):
            raise RecordingError(
                "the optimizer has no parameter of the objective's model, so its steps would not be a trajectory of "
                "it. Build both from the same model."
            )
    return found


class StepWatch:
    """Calls ``each`` whenever all of some optimizers have stepped.

    Parameters
    ----------
    optimizers
        Those whose steps make an iteration.
    others
        Further optimizers of the loop, watched for the learning rate alone.
    each
        Called at the end of the last of the steps.

    Attributes
    ----------
    rate : float
        Learning rate of the first parameter group in the last step, NaN before it.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        others: Iterable[torch.optim.Optimizer],
        each: Callable[[], None],
    ) -> None:
        self._optimizers, self._others, self._each = tuple(optimizers), tuple(others), each
        self._stepped: set[int] = set()
        self._hooks: list[Any] = []
        self.rate = float("nan")

    def begin(self) -> None:
        """Watch from now on."""
        watched = (*self._optimizers, *self._others)
        self._hooks += [optimizer.register_step_post_hook(self._after_step) for optimizer in watched]

    def end(self) -> None:
        """Watch no longer."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if is_inner_step(optimizer):
            return
        if not self._stepped:
            self.rate = float(optimizer.param_groups[0].get("lr", float("nan")))
        if optimizer in self._optimizers:
            self._stepped.add(id(optimizer))
            if len(self._stepped) == len(self._optimizers):
                self._stepped.clear()
                self._each()


def is_inner_step(optimizer: torch.optim.Optimizer) -> bool:
    """Say, from a step hook, whether the step that ends is only a part of another step of the same optimizer.

    A subclass whose ``step`` calls ``super().step()`` runs torch's hooks once for each of the two.
    """
    wrapper = torch.optim.Optimizer.profile_hook_step.__code__.co_consts
    frame: FrameType | None = sys._getframe()
    running = 0
    while frame is not None:
        if frame.f_code in wrapper and frame.f_locals.get("args", (None,))[0] is optimizer:
            running += 1
        frame = frame.f_back
    return running > 1
