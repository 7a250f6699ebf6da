"""A callback for ``Trainer`` of Hugging Face's transformers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import transformers
from torch import nn

from lcakit.record.callbacks.held import Held
from lcakit.record.objective.objective import Objective
from lcakit.record.recorder import Recorder
from lcakit.trajectory.arguments import checks_creation, checks_itself

__all__ = ["TrainerCallback"]


def __dir__() -> list[str]:
    return __all__


@checks_creation
class TrainerCallback(transformers.TrainerCallback):  # type: ignore[misc]
    r"""Records what ``transformers.Trainer`` trains: an iteration for each optimizer step, :math:`θ_t \to θ_{t+1}`.

    Gradient accumulation, clipping, schedules and mixed precision are the trainer's; the optimizer is taken from it.
    With several processes only that of rank 0 records.

    Parameters
    ----------
    path
        The file to write.
    objective
        The loss whose change is allocated; its model is the one that the trainer gets. Or a function of the model that
        makes the objective when training begins.
    **options
        Any others of :class:`lcakit.Recorder`; ``n_iterations`` is that of the trainer.

    Attributes
    ----------
    recorder : lcakit.Recorder or None
        While training runs.

    Raises
    ------
    RecordingError
        When training begins, for what a recorder refuses, or if the trainer trains another model.
    MissingPackageError
        If transformers is not installed: ``pip install 'lcakit[transformers]'``.

    Examples
    --------
    >>> callback = lk.callbacks.TrainerCallback("run.nc", lk.Objective(model, data))  # doctest: +SKIP
    >>> transformers.Trainer(model, args, train_dataset=train, callbacks=[callback]).train()  # doctest: +SKIP
    """

    @checks_itself(objective=Any)
    def __init__(
        self,
        path: str | os.PathLike[str],
        objective: Objective | Callable[[nn.Module], Objective],
        **options: Any,
    ) -> None:
        self._held = Held(path, objective, options)

    @property
    def recorder(self) -> Recorder | None:
        """The recorder, while training runs."""
        return self._held.recorder

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin to record."""
        self._held.close()  # of a training before this one that failed
        if state.is_world_process_zero:
            steps = {"n_iterations": int(state.max_steps)} if state.max_steps > 0 else {}
            self._held.begin(kwargs["model"], [kwargs["optimizer"]], "transformers.Trainer", **steps)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make the file."""
        self._held.end()

    def close(self) -> None:
        """Give up a recording whose training failed, for which the trainer has no event: its blocks stay."""
        self._held.close()
