"""The Recorder: three lines around the user's own training loop."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
import xarray as xr

from lcakit.errors import DivergedError, LcakitWarning, RecordingError, unknown
from lcakit.record import budget as budgets
from lcakit.record import loopstate
from lcakit.record.allocation.allocate import allocate
from lcakit.record.allocation.allocator import Allocator
from lcakit.record.allocation.facts import objective_attrs
from lcakit.record.allocation.integral import is_finite
from lcakit.record.allocation.settings import AllocationSettings
from lcakit.record.allocation.stored import Stored
from lcakit.record.host_copy import to_host
from lcakit.record.loop import StepWatch, checked_optimizers, checked_state
from lcakit.record.objective.describe import unwrap
from lcakit.record.objective.objective import Objective
from lcakit.record.resume import found_state
from lcakit.storage import saving, segments
from lcakit.storage.partial import open_partial
from lcakit.storage.paths import partial_path, writable_path
from lcakit.trajectory import provenance, schema

MODES = ("online", "later")
_MAY_CHANGE = ("command", "iterations")  # of the config, from a recording to its resume


class Recorder:
    """Records the trajectory of a training loop and allocates its loss changes.

    ::

        with lk.Recorder("run.nc", objective, optimizer) as rec:
            for x, y in loader:
                optimizer.zero_grad(); F.cross_entropy(model(x), y).backward()
                optimizer.step()                      # recorded: no further line needed

    Training is never changed: with and without the recorder the weights are bit-identical. Blocks of iterations go to
    ``run.nc.partial/`` from a background thread while the loop runs; a clean exit merges them into ``run.nc``. After
    an error or a kill the finished blocks stay, open like a file, and ``resume=True`` continues bit by bit.

    Parameters
    ----------
    path
        The file to write.
    objective
        The loss whose change is allocated; its model is the one that trains.
    optimizer
        A torch optimizer, or several: an iteration ends when each has stepped. None: call :meth:`step` yourself, as
        the last line of the loop's body (needed to resume exactly where a scheduler or scaler acts *after*
        ``optimizer.step()``; hand these over in ``state``).
    rule, tolerance, max_splits, classes
        The allocation, as for :func:`lcakit.allocate`.
    keep
        Which of ``theta, gradient, lca`` to store per parameter and iteration.
    statistics
        Store running statistics of each parameter over the whole recording: its sum of LCA and of its squares, the
        iterations it helped and hurt, the turns of the weight and the sign changes of the gradient; and how many
        parameters of each layer help and hurt in each iteration. None: where ``lca`` is not kept, those whose series
        is not; ``keep=()`` records networks of any size. They take 36 bytes of memory for each parameter.
    every
        Take a snapshot after every n-th optimizer step.
    allocate
        ``"online"`` while training, or ``"later"``: only θ is stored while training, and all is allocated in one pass
        when the loop is over; the numbers are the same.
    n_iterations
        Optimizer steps the loop will take, for the estimate and the budget.
    budget
        Largest size of the file, such as ``"20 GB"``; refused before the first step if it would be larger.
    state
        Further objects of the loop to restore on resume, by name: anything with ``state_dict``, or ``torch.Generator``.
        Model, optimizers and the global generators are always kept.
    resume
        Continue an unfinished recording (or begin, if there is none); :attr:`steps` says where the loop goes on.
    overwrite
        Replace a file or an unfinished recording of that name.
    compression
        Of the final file: None or ``"zlib"``.
    config
        Anything JSON can hold, stored in the file as provenance; ``seed`` is stored as an attribute.
    quiet
        Print no estimate when the recording begins, and show no progress bar of an allocation that comes later.
    block_rows, block_seconds
        A block is written when it has that many iterations or is that many seconds old (or has 32 MiB, at least one
        iteration). A kill costs those since the last block, which ``resume=True`` trains again.

    Attributes
    ----------
    steps : int
        Optimizer steps seen so far.
    seconds : float
        Time spent in the recorder, gradients included.

    Raises
    ------
    RecordingError
        For an existing file, other settings on resume, or a disk that cannot be written.
    BudgetError
        If the file would be larger than the budget.
    DivergedError
        When loss or parameters stop being finite; all iterations before are kept.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        objective: Objective,
        optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None = None,
        *,
        rule: str = "rk4",
        tolerance: float | None = 1e-3,
        max_splits: int = 32,
        classes: str | None = "unit",
        keep: Sequence[str] = budgets.KEEP,
        statistics: bool | None = None,
        every: int = 1,
        allocate: str = "online",
        n_iterations: int | None = None,
        budget: str | int | None = None,
        state: Mapping[str, Any] | None = None,
        resume: bool = False,
        overwrite: bool = False,
        compression: str | None = None,
        config: Mapping[str, Any] | None = None,
        seed: int | None = None,
        quiet: bool = False,
        block_rows: int = segments.BLOCK_ROWS,
        block_seconds: float = segments.BLOCK_SECONDS,
    ) -> None:
        if allocate not in MODES:
            raise unknown("mode of allocation", allocate, MODES)
        budgets.check_keep(keep)
        if allocate == "later" and "theta" not in keep:
            raise ValueError('allocate="later" needs the snapshots: keep must include "theta"')
        budgets.check_count("every", every)
        if n_iterations is not None:
            budgets.check_count("n_iterations", n_iterations)
        if resume and overwrite:
            raise ValueError("resume=True continues a recording and overwrite=True replaces it; pass one of them")
        saving.check_compression(compression)
        if budget is not None and n_iterations is None:
            raise ValueError("a budget needs n_iterations=…, the number of optimizer steps the loop will take")
        self.path = writable_path(path).absolute()  # the loop may change the working directory
        self.objective = objective
        self.steps = 0
        self.seconds = 0.0
        self._rule = AllocationSettings(rule, tolerance, max_splits, classes)
        self._keep, self._every, self._later = tuple(keep), every, allocate == "later"
        self._statistics = statistics
        self._n_iterations, self._budget = n_iterations, budget
        self._resume, self._overwrite = resume, overwrite
        self._compression, self._quiet = compression, quiet
        self._blocks: dict[str, Any] = {"block_rows": block_rows, "block_seconds": block_seconds}
        self._config, self._seed = provenance.checked_config(config), seed
        self._optimizers = checked_optimizers(optimizer, objective.model)
        self._batch_loss: float | torch.Tensor = float("nan")
        self._unreported: bool | None = None  # whether the first iteration had no loss of its batch
        self._parts: dict[str, Any] = {"model": unwrap(objective.model)}
        self._parts |= {f"optimizer{k}": opt for k, opt in enumerate(self._optimizers)}
        further = checked_state(state or {}, self._parts, self._optimizers)
        self._parts |= further
        others = [part for part in further.values() if isinstance(part, torch.optim.Optimizer)]
        self._watch = StepWatch(self._optimizers, others, self._step)
        nothing = Stored(frozenset())  # what is stored of an allocation that comes later
        self._allocator = Allocator(objective, self._rule, nothing if self._later else Stored.of(keep, statistics))
        self._writer: segments.SegmentWriter | None = None
        self._recorded = 0

    # ---- life of a recording -----------------------------------------------------------------------------------

    def __enter__(self) -> Recorder:
        began = time.perf_counter()
        partial = partial_path(self.path)
        if self._budget is not None:
            self._estimate().check(self._budget, needed=("theta",) if self._later else ())
        loopstate.check_packable(self._parts)
        state = found_state(
            self.path,
            partial,
            resume=self._resume,
            overwrite=self._overwrite,
            later=self._later,
            attrs=self._attrs(),
            config={key: value for key, value in self._config.items() if key not in _MAY_CHANGE},
        )
        resuming = state is not None
        if state is not None:
            self._restore(partial, state)
        self.seconds += time.perf_counter() - began
        first = self._first_row(resuming)
        if not self._quiet:
            per = "" if self._n_iterations else "for every 1,000 steps (n_iterations is not given): "
            print(f"lcakit: {per}{self._estimate().to_text()}", file=sys.stderr)
        header = self._header()
        self._writer = segments.SegmentWriter(
            partial, header, resume=resuming, state=self._pack, running=self._allocator.running, **self._blocks
        )
        if not resuming:
            self._writer.append(first, {})
        self._watch.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watch.end()
        if self._writer is None:
            return
        try:
            if kind is None and self.steps > self._recorded:
                self._record()
        except BaseException:
            self._stop_early(self._writer)
            raise
        if kind is not None:
            return self._stop_early(self._writer)
        self._writer.close()
        began = time.perf_counter()
        self._allocator.release()
        saving.finish(self.path, compression=self._compression)
        self.seconds += time.perf_counter() - began
        if self._later and self.steps:
            how: dict[str, Any] = {"keep": self._keep, "compression": self._compression, "quiet": self._quiet}
            allocate(self.path, self.objective, **vars(self._rule), **how, statistics=self._statistics)
        self._warn_of_nothing()

    def step(self, batch_loss: float | torch.Tensor | None = None) -> None:
        """Say that one optimizer step is done, in a loop whose optimizer the recorder does not watch."""
        if self._optimizers:
            raise RecordingError(
                "the recorder watches the optimizer, so every optimizer.step() is recorded already. Drop rec.step() "
                "(rec.report(batch_loss) before optimizer.step() stores a loss), or leave the optimizer out of the "
                "recorder."
            )
        self.report(batch_loss)
        self._step()

    def report(self, batch_loss: float | torch.Tensor | None) -> None:
        """Give the loss of the training batch of the iteration in progress (call it before ``optimizer.step()``)."""
        if batch_loss is not None:
            self._batch_loss = batch_loss.detach() if isinstance(batch_loss, torch.Tensor) else batch_loss

    # ---- one iteration -----------------------------------------------------------------------------------------

    def _step(self) -> None:
        if self._writer is None:
            raise RecordingError("the recorder is not open: use it as a context manager (with lk.Recorder(…) as rec:)")
        self.steps += 1
        if self.steps % self._every == 0:
            self._record()

    def _record(self) -> None:
        began = time.perf_counter()
        theta = self.objective.parameters_tensor()
        try:
            snapshot, iteration = self._rows(theta)
        except DivergedError as error:
            raise DivergedError(
                f"training diverged in iteration {self._recorded} (optimizer step {self.steps}): {error}. "
                "Everything before it is kept; a smaller learning rate may help."
            ) from error
        told = {"learning_rate": self._watch.rate, "batch_loss": float(self._batch_loss)}
        iteration |= {"iteration": self._recorded, **told}
        if self._unreported is None:
            self._unreported = bool(np.isnan(told["batch_loss"]))
        self._batch_loss = float("nan")
        self._recorded = self.steps
        if self._writer is not None:
            self._writer.append(snapshot, iteration)
        self.seconds += time.perf_counter() - began

    def _rows(self, theta: torch.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        if not is_finite(theta):
            raise DivergedError("a parameter is not finite")
        snapshot, iteration = ({}, {}) if self._later else self._allocator.advance(theta)
        return self._snapshot(snapshot, theta), iteration

    def _snapshot(self, row: dict[str, Any], theta: torch.Tensor) -> dict[str, Any]:
        row["snapshot"] = self.steps
        return row | ({"theta": to_host(theta)} if "theta" in self._keep else {})

    def _first_row(self, resuming: bool) -> dict[str, Any]:
        theta = self.objective.parameters_tensor()
        if not self._later and self.objective.seconds_per_gradient() is None:
            self.objective.warm_up()  # the estimate below is told from a gradient's time
        row = {} if self._later else self._allocator.start(theta, first=not resuming)
        return {} if resuming else self._snapshot(row, theta)

    def _restore(self, partial: Path, state: bytes) -> None:
        self.steps = self._recorded = loopstate.restore(loopstate.unpack(state), self._parts)
        self.objective.refresh()
        last = open_partial(partial)
        stored = last["theta"][-1].values if "theta" in last else None
        if stored is not None and not np.array_equal(stored, self.objective.parameters_vector()):
            raise RecordingError(
                f"{partial}: the restored weights differ from the last snapshot; it cannot be resumed exactly"
            )
        self._allocator.resume(partial)

    def _attrs(self) -> dict[str, Any]:
        attrs = objective_attrs(self.objective) | self._rule.attrs()
        attrs |= {
            "optimizers": " ".join(type(optimizer).__name__ for optimizer in self._optimizers),
            "every": self._every,
            "keep": " ".join(self._keep),
            "allocate": "later" if self._later else "online",
        }
        attrs |= self._allocator.stored.attrs()
        return attrs | ({} if self._seed is None else {"seed": self._seed})

    def _header(self) -> xr.Dataset:
        coords: dict[str, Any] = dict(self.objective.labels.coords())
        if self.objective.class_names:
            coords["class"] = (("class",), np.array(self.objective.class_names))
        header = schema.build_dataset(coords, {}, self._attrs() | self._made_by())
        return provenance.with_config(header, self._config)

    def _made_by(self) -> dict[str, str]:
        """Return the command or call that began the recording, and the versions it began with."""
        told = {
            "every": self._every,
            "keep": self._keep,
            "statistics": self._statistics,
            "allocate": "later" if self._later else "online",
        }
        return provenance.made_by("lk.Recorder", **vars(self._rule), **told, seed=self._seed)

    def _estimate(self) -> budgets.Estimate:
        return budgets.estimate(
            self.objective,
            self._n_iterations or 1000,
            classes=self._rule.classes,
            keep=self._keep,
            every=self._every,
            rule=self._rule.rule,
            statistics=self._statistics,
        )

    def _pack(self) -> bytes:
        return loopstate.pack(self.steps, self._parts)

    def _warn_of_nothing(self) -> None:
        """Warn at the end of a loop of what was given and is in no iteration, or that there is none."""
        if not self.steps:
            warnings.warn(
                f"{self.path} has no iteration, since no step was seen: pass the optimizer to lk.Recorder, or call "
                "rec.step() as the last line of the loop.",
                LcakitWarning,
                stacklevel=3,
            )
        elif self._unreported and not np.isnan(float(self._batch_loss)):
            warnings.warn(
                "the first step had no loss yet and the last loss given to rec.report() no step any more: if it was "
                "called after optimizer.step(), each loss is stored one iteration late. Call it before.",
                LcakitWarning,
                stacklevel=3,
            )

    def _stop_early(self, writer: segments.SegmentWriter) -> None:
        """Keep what is there after an error in the loop; the error itself goes on to the caller."""
        try:
            writer.close(with_state=False)
            state = f"all up to optimizer step {self._recorded} is kept"
        except RecordingError as error:
            state = str(error)
        print(
            f"lcakit: recording stopped; {state} in {partial_path(self.path)}. "
            f"Open it with lk.open_trajectory({str(self.path)!r}), continue with resume=True, or make it a file with "
            "lk.finish.",
            file=sys.stderr,
        )
