"""What a recorder may be given of a training loop beside its optimizers, and when an iteration of the loop ends."""

from __future__ import annotations

import math
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from lcakit.errors import LcakitWarning, RecordingError
from lcakit.record.optimizers import layers_of

if TYPE_CHECKING:
    from lcakit.record.recording import Recording

__all__ = ["BatchLosses", "StepWatch", "checked_state", "warn_of_rest"]


def __dir__() -> list[str]:
    return __all__


_ACT_AFTER_STEP = (torch.optim.lr_scheduler.LRScheduler, torch.amp.GradScaler)
_FEW = 3  # steps: fewer may stand still, as the first of a learning rate that is warmed up
_RUNS_HOOKS = torch.optim.Optimizer.profile_hook_step.__code__.co_consts
"""Holds the code of torch's wrapper of ``step``."""


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


class BatchLosses:
    """The losses of training batches that the loop reports, one for each iteration.

    Attributes
    ----------
    reported_late : bool
        Whether the first iteration had no loss, and the last loss has no iteration.
    """

    def __init__(self) -> None:
        self._waiting: float | torch.Tensor = float("nan")
        self._first: float | None = None

    def report(self, loss: float | torch.Tensor | None) -> None:
        """Keep the loss of the iteration in progress."""
        if loss is not None:
            self._waiting = loss.detach() if isinstance(loss, torch.Tensor) else loss

    def take(self) -> float:
        """Return the loss of the iteration that ends, NaN where none was reported."""
        loss, self._waiting = float(self._waiting), float("nan")
        self._first = loss if self._first is None else self._first
        return loss

    @property
    def reported_late(self) -> bool:  # noqa: D102  (an attribute)
        return self._first is not None and math.isnan(self._first) and not math.isnan(float(self._waiting))


def warn_of_rest(path: Path, steps: int, losses: BatchLosses, recording: Recording | None) -> None:
    """Warn at the end of what was given and is in no iteration, that there is none, or that the loop trains otherwise.

    ``recording`` is that of a loop whose optimizer is watched: without one, weights may be recorded that are not those
    of the loop's losses (averages), and what moves them is not known.
    """
    text = None
    if not steps:
        text = (
            f"{path} has no iteration, since no step was seen: pass the optimizer to lk.Recorder, or call rec.step() "
            "as the last line of the loop."
        )
    elif recording is not None and not recording.ever_moved and steps >= _FEW:
        text = (
            f"no parameter has moved in {steps} steps. Does the loop train another copy of the model than the "
            "objective's, or is the learning rate 0?"
        )
    elif losses.reported_late:
        text = (
            "the first step had no loss yet and the last loss given to rec.report() no step any more: if it was called "
            "after optimizer.step(), each loss is stored one iteration late. Call it before."
        )
    elif recording is not None:
        text = recording.closing.warning() or recording.own_loss.warning()
    if text:
        warnings.warn(text, LcakitWarning, stacklevel=4)


class StepWatch:
    """Calls ``each`` whenever all of some optimizers have stepped.

    An optimizer may be inside another one, or inside a wrapper: the outermost step that runs is the one that counts.

    Parameters
    ----------
    optimizers
        Those whose steps make an iteration.
    others
        Further optimizers of the loop, watched for the learning rate alone.
    each
        A method, called at the end of the last of the steps. Neither it nor the watch is kept alive by the optimizers.

    Attributes
    ----------
    rate : float
        Learning rate of the first parameter group in the last step, NaN before it.
    """

    def __init__(self, optimizers: Sequence[Any], others: Iterable[Any], each: Callable[[], None]) -> None:
        self._watched = [layers_of(optimizer) for optimizer in (*optimizers, *others)]
        self._count, self._each = len(optimizers), weakref.WeakMethod(each)
        self._stepped: set[int] = set()
        self._hooks: list[Any] = []
        self.rate = float("nan")

    def begin(self) -> None:
        """Watch from now on."""
        mine = weakref.ref(self)
        for number, layers in enumerate(self._watched):
            for layer in layers:

                def after_step(optimizer: torch.optim.Optimizer, *_: Any, number: int = number) -> None:
                    watch = mine()
                    if watch is not None:
                        watch._after_step(optimizer, number)

                self._hooks.append(layer.register_step_post_hook(after_step))

    def end(self) -> None:
        """Watch no longer."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @property
    def why_nothing(self) -> str:
        """What to do where no iteration was seen."""
        idle = [number for number in range(self._count) if number not in self._stepped]
        if not idle:
            return "Call rec.step() as the last line of the loop."
        names = ", ".join(type(self._watched[number][0]).__name__ for number in idle)
        return (
            f"Pass the optimizer that the loop calls step() on: {names} has taken none. An iteration ends when each of "
            "several optimizers has."
        )

    def _after_step(self, optimizer: torch.optim.Optimizer, number: int) -> None:
        if _is_inner_step(self._watched[number]):
            return
        if not self._stepped:
            self.rate = float(optimizer.param_groups[0].get("lr", float("nan")))
        if number < self._count:
            self._stepped.add(number)
            each = self._each()
            if len(self._stepped) == self._count and each is not None:
                self._stepped.clear()
                each()


def _is_inner_step(layers: Sequence[torch.optim.Optimizer]) -> bool:
    """Say, from a step hook, whether the step that ends is only a part of another step of the same optimizer.

    A subclass whose ``step`` calls ``super().step()`` runs torch's hooks once for each of the two, and so does one that
    calls the step of an optimizer inside it.
    """
    mine = {id(layer) for layer in layers}
    frame: FrameType | None = sys._getframe()
    running = 0
    while frame is not None:
        if frame.f_code in _RUNS_HOOKS and id(frame.f_locals.get("args", (None,))[0]) in mine:
            running += 1
        frame = frame.f_back
    return running > 1
