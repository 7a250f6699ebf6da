"""A callback for ``Trainer`` of Lightning."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch import nn

from lcakit.packages import missing
from lcakit.record.callbacks.held import Held
from lcakit.record.objective.objective import Objective
from lcakit.record.recorder import Recorder
from lcakit.trajectory.arguments import checks_creation, checks_itself

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError as error:
    try:
        from pytorch_lightning import Callback  # the same, under its older name
    except ModuleNotFoundError:
        raise missing(error, "lk.callbacks.LightningCallback") from error

__all__ = ["LightningCallback"]


def __dir__() -> list[str]:
    return __all__


@checks_creation
class LightningCallback(Callback):  # type: ignore[misc]
    r"""Records what Lightning's ``Trainer`` trains: an iteration for each optimizer step, :math:`θ_t \to θ_{t+1}`.

    Gradient accumulation, clipping, schedules and mixed precision are the trainer's; the optimizers are taken from it.
    What went backward before a step is its ``batch_loss``. With several processes only that of rank 0 records.

    Parameters
    ----------
    path
        The file to write.
    objective
        The loss whose change is allocated; its model is the LightningModule, or a part of it. Or a function of the
        LightningModule that makes it when training begins: ``lambda module: lk.Objective(module.net, data)``.
    **options
        Any others of :class:`lcakit.Recorder`; ``n_iterations`` is that of the trainer, where it knows.

    Attributes
    ----------
    recorder : lcakit.Recorder or None
        While training runs.

    Raises
    ------
    RecordingError
        When training begins, for what a recorder refuses, or if the trainer trains another model.
    MissingPackageError
        If Lightning is not installed: ``pip install 'lcakit[lightning]'``.

    Examples
    --------
    >>> callback = lk.callbacks.LightningCallback("run.nc", lk.Objective(module.net, data))  # doctest: +SKIP
    >>> lightning.Trainer(max_epochs=1, callbacks=[callback]).fit(module, loader)  # doctest: +SKIP
    """

    @checks_itself(objective=Any)
    def __init__(
        self,
        path: str | os.PathLike[str],
        objective: Objective | Callable[[nn.Module], Objective],
        **options: Any,
    ) -> None:
        super().__init__()
        self._held = Held(path, objective, options)
        self._loss: Any = None

    @property
    def recorder(self) -> Recorder | None:
        """The recorder, while training runs."""
        return self._held.recorder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to record."""
        if trainer.is_global_zero:
            steps = trainer.estimated_stepping_batches
            known = {"n_iterations": int(steps)} if 0 < steps < float("inf") else {}
            self._held.begin(pl_module, trainer.optimizers, "lightning.Trainer", **known)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Add up the parts of an accumulated loss."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Report the loss of the batch."""
        self._held.report(self._loss)
        self._loss = None

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Make the file."""
        self._held.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Keep the blocks that are there."""
        self._held.close()
