"""The recording of a trainer: made when it begins, ended when it ends or fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from lcakit.errors import RecordingError
from lcakit.record.objective.describe import unwrap
from lcakit.record.objective.objective import Objective
from lcakit.record.recorder import Recorder

__all__ = ["Held"]


def __dir__() -> list[str]:
    return __all__


class Held:
    """A recorder that a trainer's events start and stop.

    Parameters
    ----------
    path, options
        As for :class:`lcakit.Recorder`.
    objective
        The objective, or a function of the model that makes it when training begins.
    """

    def __init__(
        self, path: Any, objective: Objective | Callable[[nn.Module], Objective], options: dict[str, Any]
    ) -> None:
        if "optimizer" in options:
            raise RecordingError("the callback takes the optimizer from its trainer; leave optimizer=… out")
        if not isinstance(objective, Objective) and not callable(objective):
            raise RecordingError(
                f"objective must be an lk.Objective or a function of the model that makes one, got "
                f"{type(objective).__name__}: lk.callbacks.TrainerCallback(path, lk.Objective(model, data))"
            )
        self._path, self._objective, self._options = path, objective, options
        self.recorder: Recorder | None = None

    def begin(self, model: nn.Module, optimizers: Iterable[Any], trainer: str, **options: Any) -> Recorder:
        """Make the recorder of a training that begins, and start it.

        Raises
        ------
        RecordingError
            If the objective is of another model, or the trainer has no optimizer.
        """
        made = self._objective
        objective = made if isinstance(made, Objective) else made(model)
        live, own = set(map(id, unwrap(model).parameters())), set(map(id, unwrap(objective.model).parameters()))
        if not own & live:
            raise RecordingError(
                f"{trainer} trains another model than that of the objective (no parameter is the same). Make the "
                "objective of the model that is given to the trainer, or give a function: "
                "lambda model: lk.Objective(model, data)."
            )
        found = list(optimizers)
        if not found:
            raise RecordingError(f"{trainer} has no optimizer yet, so its steps cannot be watched")
        self.recorder = Recorder(self._path, objective, found, **{**options, **self._options})
        return self.recorder.start()

    def report(self, loss: Any) -> None:
        """Give the loss of the batch, if there is one."""
        if self.recorder is not None and isinstance(loss, float | torch.Tensor):
            self.recorder.report(loss)

    def end(self) -> None:
        """End the recording, and make the file."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            recorder.stop()

    def close(self) -> None:
        """Give up a recording whose training failed; its blocks stay."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            recorder.close()
