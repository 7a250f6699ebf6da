"""A recording that is open: the row of each iteration is computed, checked, and handed to the writer."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.errors import DivergedError, LcakitWarning, RecordingError
from lcakit.progress import phase
from lcakit.record.allocation.allocate import allocate
from lcakit.record.allocation.allocator import Allocator
from lcakit.record.allocation.closing import Closing
from lcakit.record.allocation.integral import is_finite
from lcakit.record.header import stored_online
from lcakit.record.host_copy import to_host
from lcakit.record.independence import Independence
from lcakit.record.loopstate import LoopState
from lcakit.record.objective.buffers import BufferTable
from lcakit.record.objective.objective import Objective
from lcakit.record.own_loss import OwnLoss
from lcakit.record.resume import clear
from lcakit.record.same_model import check_same_model
from lcakit.record.settings import RecorderSettings
from lcakit.storage import saving, segments
from lcakit.storage.background import THREAD
from lcakit.storage.early_chunks import EarlyChunks
from lcakit.storage.partial import open_partial
from lcakit.storage.paths import partial_path

__all__ = ["Recording"]


def __dir__() -> list[str]:
    return __all__


class Recording:
    """The rows of a recording, from the first snapshot to the last.

    It knows nothing of the :class:`lcakit.Recorder` that holds it, so that a recorder which nobody holds any more is
    collected, and the recording with it.

    Parameters
    ----------
    path
        The file that it becomes.
    objective, settings, loop
        What is allocated, how, and the state of the loop.
    n_iterations
        Optimizer steps that the loop will take, where that is known.

    Attributes
    ----------
    seconds : float
        Time spent here, gradients included.
    recorded : int
        Optimizer steps at the last snapshot.
    ever_moved : bool
        Whether θ has moved in any iteration.
    own_loss : OwnLoss
        The loss of the loop beside the recorded one.
    closing : Closing
        The sum of the allocations beside the change of the loss.
    """

    def __init__(
        self,
        path: Path,
        objective: Objective,
        settings: RecorderSettings,
        loop: LoopState,
        n_iterations: int | None = None,
    ) -> None:
        self.path, self.partial = path, partial_path(path)
        self.objective, self._settings, self._loop = objective, settings, loop
        self._online = settings.storage.online
        self._allocator = Allocator(objective, settings.allocation, stored_online(settings))
        self._n_iterations = n_iterations
        self._process = os.getpid()
        self._moving = False  # buffers, since the recording began
        self._count = 0
        self.own_loss = OwnLoss()
        self.closing = Closing(settings.allocation.rule, settings.allocation.tolerance)
        self._loss: float | None = None  # at the last snapshot
        self.seconds = 0.0
        self.recorded = 0
        self.ever_moved = False

    @property
    def of_this_process(self) -> bool:
        """False in a process that was forked while recording: what it does is none of the recording's business."""
        return self._process == os.getpid()

    # ---- beginning -----------------------------------------------------------------------------------------------

    def begin(self, header: xr.Dataset, stored: bytes | None, replace: bool, quiet: bool) -> None:
        """Open the writer, with the first row, or behind the rows of a recording that is continued.

        Parameters
        ----------
        header
            Labels and attributes.
        stored
            State of the loop to go on from, or None.
        replace
            Remove what is there, once all that can fail before has not.
        quiet
            Do not say that the first gradient takes long.
        """
        began = time.perf_counter()
        if stored is not None:
            self._restore(stored)
        self.objective.refresh()
        self._independence = Independence(self.objective)
        theta = self.objective.parameters_tensor()
        self._independence.check(theta)
        buffers = self._independence.buffers()
        self._buffers = BufferTable.of(buffers)
        with phase("computing the first gradient", quiet=quiet):
            row = self._first_row(theta, resuming=stored is not None)
        if replace:
            clear(self.path)
        self._early = self._early_chunks()
        self._writer = segments.SegmentWriter(
            self.partial,
            header.assign_coords(self._buffers.start(buffers)) if buffers else header,
            resume=stored is not None,
            state=self._loop.pack,
            running=self._allocator.running,
            block_rows=self._settings.writing.block_rows,
            block_seconds=self._settings.writing.block_seconds,
            early=self._early,
        )
        if stored is None:
            try:
                self._writer.append(row, {})
            except BaseException:
                self._writer.close(with_state=False)
                raise
        self.seconds += time.perf_counter() - began

    def _early_chunks(self) -> EarlyChunks | None:
        if self._settings.writing.compression is not None or self.path.suffix == ".zarr":
            return None
        steps, every = self._n_iterations, self._settings.storage.every
        return EarlyChunks(self.partial, None if steps is None else -(-steps // every))

    def _first_row(self, theta: torch.Tensor, resuming: bool) -> dict[str, Any]:
        self._last = theta
        if not self._online:
            return self._snapshot({}, theta)
        if self.objective.seconds_per_gradient() is None:
            self.objective.warm_up()  # the estimate that is printed is told from a gradient's time
        first = self._allocator.start(theta, first=not resuming)
        self._loss = first["loss"]
        return self._snapshot(first, theta)

    def _restore(self, stored: bytes) -> None:
        self._loop.restore(stored)
        self.recorded = self._loop.steps
        last = open_partial(self.partial)
        self._moving = "buffers" in last
        theta = last["theta"][-1].values if "theta" in last else None
        if theta is not None and not np.array_equal(theta, self.objective.parameters_vector()):
            raise RecordingError(
                f"{self.partial}: the restored weights differ from the last snapshot; it cannot be resumed exactly"
            )
        self._allocator.resume(self.partial)

    # ---- one iteration -------------------------------------------------------------------------------------------

    def record(self, told: dict[str, float]) -> None:
        """Record the move from the last snapshot to the present parameters.

        Parameters
        ----------
        told
            What the loop tells of the iteration: ``learning_rate``, ``batch_loss``.

        Raises
        ------
        DivergedError
            If the loss or a parameter is not finite.
        RecordingError
            If the loss is no longer the function of θ that it was, or the disk cannot be written.
        """
        began = time.perf_counter()
        theta = self.objective.parameters_tensor()
        self._independence.check(theta)
        try:
            snapshot, iteration = self._rows(theta)
        except DivergedError as error:
            raise DivergedError(
                f"training diverged in iteration {self.recorded} (optimizer step {self._loop.steps}): {error}. "
                "Everything before it is kept; a smaller learning rate may help."
            ) from error
        iteration |= {"iteration": self.recorded, **told}
        self.own_loss.add(told["batch_loss"], self._loss)
        if self._loss is not None and "residual" in iteration:
            change = snapshot["loss"] - self._loss - iteration.get("buffer_change", 0.0)
            self.closing.add(iteration["residual"], change, iteration["splits"])
        self._loss = snapshot.get("loss")
        self.ever_moved = self.ever_moved or not torch.equal(theta, self._last)
        self.recorded, self._last = self._loop.steps, theta
        self._writer.append(snapshot, iteration)
        self._count += 1
        if self._count & (self._count - 1) == 0:  # now and then: at rows 1, 2, 4, 8, …
            self._compare(theta)
        self.seconds += time.perf_counter() - began

    def _compare(self, theta: torch.Tensor) -> None:
        try:
            check_same_model(self.objective, theta)
        except RecordingError:
            self._independence.check_all(theta)  # which names a frozen tensor that torch did not see change
            raise

    def _rows(self, theta: torch.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        if not is_finite(theta):
            raise DivergedError("a parameter is not finite")
        moved = self._independence.moved
        follow = partial(self.objective.refresh, moved) if moved else None
        if not self._online:
            self._moving |= follow is not None
            if follow is not None:
                follow()
            return self._snapshot({}, theta), {}
        snapshot, iteration = self._allocator.advance(theta, follow)
        if self._buffers.names and iteration.setdefault("buffer_change", 0.0) == 0:
            moved = self._independence.without_effect(moved)
        self._moving |= bool(moved)
        return self._snapshot(snapshot, theta), iteration

    def _snapshot(self, row: dict[str, Any], theta: torch.Tensor) -> dict[str, Any]:
        row["snapshot"] = self._loop.steps
        if self._moving:  # as they were before is in the header
            row["buffers"] = self._buffers.row(self._independence.buffers())
        return row | ({"theta": to_host(theta)} if "theta" in self._settings.storage.keep else {})

    # ---- end -----------------------------------------------------------------------------------------------------

    def record_rest(self, told: Callable[[], dict[str, float]]) -> None:
        """Record what has moved since the last snapshot: steps between two snapshots, or a move after the last step."""
        if self._loop.steps > self.recorded:
            self.record(told())
        elif self.has_moved:
            self._loop.steps += 1
            self.record(told() | {"learning_rate": float("nan")})
            warnings.warn(
                "parameters moved after the last step that was recorded (clipped, averaged or loaded after "
                "optimizer.step(), or stepped by one of several optimizers, or by one that the recorder does not "
                "know): that is recorded as one more iteration. To end iterations where the loop does, leave the "
                "optimizer out of lk.Recorder, and call rec.step() as the last line of the loop.",
                LcakitWarning,
                stacklevel=4,
            )
        self._independence.check_all(self._last)
        self.objective.refresh(self._independence.moved)  # buffers since the last step are none of its business
        check_same_model(self.objective, self._last, last=True)

    @property
    def has_moved(self) -> bool:
        """Whether the present parameters are not those of the last snapshot."""
        return not torch.equal(self.objective.parameters_tensor(), self._last)

    def to_file(self, quiet: bool) -> None:
        """Merge all that was recorded into the file, and allocate along it what was left for later."""
        self._writer.close()
        began = time.perf_counter()
        self._allocator.release()
        del self._last
        storage, compression = self._settings.storage, self._settings.writing.compression
        with phase(f"writing {self.path.name}", quiet=quiet):
            saving.merge(self.path, compression=compression, quiet=quiet, early=self._early)
        self.seconds += time.perf_counter() - began
        if not self._online and self._loop.steps:
            stored: dict[str, Any] = {"keep": storage.keep, "statistics": storage.statistics}
            how: dict[str, Any] = vars(self._settings.allocation) | stored | {"compression": compression}
            allocate(self.path, self.objective, **how, quiet=quiet)

    def discard(self, why: str) -> RecordingError:
        """Remove a recording of nothing but its first snapshot; return the error that says why."""
        self._writer.close(with_state=False)
        segments.remove(self.partial)
        return RecordingError(f"nothing was recorded to {self.path}: no step was seen. {why}")

    def give_up(self) -> None:
        """Keep what is there, say where, and let others write; the state of a loop that was stopped is not kept."""
        if not self.of_this_process:
            return
        if threading.current_thread().name == THREAD:  # which collected garbage, and cannot wait for itself
            threading.Thread(target=self.give_up).start()
            return
        try:
            self._writer.close(with_state=False)
            state = f"all up to optimizer step {self.recorded} is kept"
        except RecordingError as error:
            state = str(error)
        print(
            f"lcakit: recording stopped; {state} in {self.partial}. "
            f"Open it with lk.open_trajectory({str(self.path)!r}), continue with resume=True, or make it a file with "
            "lk.finish.",
            file=sys.stderr,
        )
