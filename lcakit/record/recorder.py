"""The Recorder: three lines around the user's own training loop."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any, Unpack

import torch

from lcakit.errors import RecordingError
from lcakit.record.budget import check_count
from lcakit.record.header import checked_header, header_of, settings_attrs
from lcakit.record.loop import BatchLosses, StepWatch, checked_state, warn_of_rest
from lcakit.record.loopstate import LoopState
from lcakit.record.objective.describe import unwrap
from lcakit.record.objective.objective import Objective
from lcakit.record.optimizers import checked_optimizers, states_of
from lcakit.record.pace import Pace
from lcakit.record.processes import claim, stands_aside
from lcakit.record.recording import Recording
from lcakit.record.resume import refuse_existing, resumed_state
from lcakit.record.settings import Options, RecorderSettings, signature_with_settings
from lcakit.storage.paths import PARTIAL, partial_path, writable_path
from lcakit.trajectory import provenance
from lcakit.trajectory.arguments import checks_creation, checks_itself

__all__ = ["Recorder"]


def __dir__() -> list[str]:
    return __all__


_OWN = ("n_iterations", "budget", "state", "resume", "overwrite", "config", "seed", "quiet")
_MAY_CHANGE = ("command", "iterations")  # of the config, from a recording to its resume


@checks_creation
class Recorder:
    """Records the trajectory of a training loop and allocates its loss changes.

    ::

        with lk.Recorder("run.nc", objective, optimizer) as rec:
            for x, y in loader:
                optimizer.zero_grad(); F.cross_entropy(model(x), y).backward()
                optimizer.step()                      # recorded: no further line needed

    Training is never changed: with and without the recorder the weights are bit-identical. Blocks of iterations go to
    ``run.nc.partial/`` from a background thread while the loop runs; a clean exit makes them ``run.nc``. After
    an error or a kill the finished blocks stay, open like a file, and ``resume=True`` continues bit by bit. Where
    there is no place for ``with``, as between callbacks, :meth:`start` begins, :meth:`stop` ends, and :meth:`close`
    gives up.

    Parameters
    ----------
    path
        The file to write.
    objective
        The loss whose change is allocated; its model is the one that trains.
    optimizer
        A torch optimizer, or several: an iteration ends when each has stepped. What wraps one (of Lightning, Fabric,
        accelerate) is looked through. None: call :meth:`step` yourself, as the last line of the loop's body (needed to
        resume exactly where a scheduler or scaler acts *after* ``optimizer.step()``, and to record weights that are
        clipped after it; hand these objects over in ``state``).
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
    config
        Anything JSON can hold, stored in the file as provenance.
    seed
        Stored as an attribute.
    quiet
        Print no estimate when the recording begins, and show no progress bar of an allocation that comes later.
    rule, tolerance, max_splits, classes
        The allocation, as for :func:`lcakit.allocate`.
    keep
        Which of ``theta, gradient, lca`` to store per parameter and iteration.
    statistics
        Store running statistics of each parameter over the whole recording: its sum of LCA and of its squares, the
        iterations that it helps and hurts, its turns and gradient crossings. None: where ``lca`` is not kept, those
        whose series is not; ``keep=()`` records networks of any size. They take 36 bytes of memory for each parameter.
    every
        Take a snapshot after every n-th optimizer step.
    allocate
        ``"online"`` while training, or ``"later"``: only θ is stored while training, and all is allocated in one pass
        when the loop is over; the numbers are the same.
    compression
        Of the final file: None or ``"zlib"``.
    block_rows, block_seconds
        A block is written when it has that many iterations or is that many seconds old (or has 32 MiB, at least one
        iteration). A kill costs those since the last block, which ``resume=True`` trains again.

    Attributes
    ----------
    path : Path
        The file, absolute.
    steps : int
        Optimizer steps seen so far.
    seconds : float
        Time spent in the recorder, gradients included.

    Raises
    ------
    RecordingError
        For an existing file, other settings on resume, or a disk that cannot be written; at a step, if the loss is no
        longer the function of θ that it was (parameters unfrozen, added or replaced, another forward pass); at the end,
        if no step was seen.
    BudgetError, DivergedError
        If the file would be larger than the budget; if loss or parameters stop being finite (all before is kept).
    TypeError, ValueError
        For an unknown argument, or a value that cannot be.

    See Also
    --------
    lcakit.allocate : Allocates along a path that is stored already.
    lcakit.estimate : Says size and time before anything runs.

    Notes
    -----
    What is recorded is the model's parameters as they are when the optimizer's step ends. In a process group (DDP) the
    first rank records, and the recorders of the others do nothing. A process that was forked records nothing.

    Examples
    --------
    >>> import tempfile, torch
    >>> import lcakit as lk
    >>> _ = torch.manual_seed(0)
    >>> x, y = torch.randn(30, 4), torch.arange(30) % 3
    >>> model = torch.nn.Linear(4, 3)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    >>> folder = tempfile.TemporaryDirectory()
    >>> with lk.Recorder(f"{folder.name}/run.nc", lk.Objective(model, (x, y)), optimizer, quiet=True) as rec:
    ...     for _ in range(5):
    ...         optimizer.zero_grad()
    ...         torch.nn.functional.cross_entropy(model(x), y).backward()
    ...         optimizer.step()
    >>> ds = lk.open_trajectory(rec.path)
    >>> rec.steps, dict(ds["lca"].sizes)
    (5, {'iteration': 5, 'parameter': 15})
    """

    @checks_itself(path=Any)
    def __init__(
        self,
        path: str | os.PathLike[str],
        objective: Objective,
        optimizer: Any = None,
        *,
        n_iterations: int | None = None,
        budget: str | int | None = None,
        state: Mapping[str, Any] | None = None,
        resume: bool = False,
        overwrite: bool = False,
        config: Mapping[str, Any] | None = None,
        seed: int | None = None,
        quiet: bool = False,
        **settings: Unpack[Options],
    ) -> None:
        self.settings = RecorderSettings.of(settings, _OWN)
        if n_iterations is not None:
            check_count("n_iterations", n_iterations)
        if resume and overwrite:
            raise ValueError("resume=True continues a recording and overwrite=True replaces it; pass one of them")
        if budget is not None and n_iterations is None:
            raise ValueError("a budget needs n_iterations=…, the number of optimizer steps the loop will take")
        path = writable_path(path).absolute()  # the loop may change the working directory
        self.path = path.with_name(path.name.removesuffix(PARTIAL))
        self.objective = objective
        self._n_iterations, self._budget, self._quiet, self._seconds = n_iterations, budget, quiet, 0.0
        self._resume, self._overwrite = resume, overwrite
        self._config, self._seed = provenance.checked_config(config), seed
        self._optimizers = checked_optimizers(optimizer, objective.model)
        usual = {"model": unwrap(objective.model), **states_of(self._optimizers)}
        further = checked_state(state or {}, usual, self._optimizers)
        self._loop = LoopState(further, usual)
        others = [part for part in further.values() if isinstance(part, torch.optim.Optimizer)]
        self._watch = StepWatch(self._optimizers, others, self._step)
        self._losses = BatchLosses()
        self._aside, self._pace = False, Pace.silent()
        self._recording: Recording | None = None
        self._give_up: Any = None

    __signature__ = signature_with_settings(__init__)

    @property
    def steps(self) -> int:
        """Optimizer steps seen so far."""
        return self._loop.steps

    @property
    def seconds(self) -> float:
        """Time spent in the recorder, gradients included."""
        return self._seconds + (self._recording.seconds if self._recording else 0.0)

    @property
    def is_open(self) -> bool:
        """Whether it records: after its start, and before its end, in the process that began it."""
        recording = self._recording
        return recording is not None and recording.of_this_process and self._give_up.alive

    # ---- life of a recording -----------------------------------------------------------------------------------

    def start(self) -> Recorder:
        """Begin to record, where there is no place for ``with``; return the recorder.

        Keep it in a variable: one that nobody holds is closed.

        Raises
        ------
        RecordingError, BudgetError, DivergedError
            As the class says; nothing is left behind then.
        """
        self._aside = stands_aside(self._resume)
        if not self._aside:
            self._open()
        self._watch.begin()
        return self

    def _open(self) -> None:
        began, storage = time.perf_counter(), self.settings.storage
        estimate = partial(self.settings.estimate, self.objective, self._n_iterations or 1000)
        if self._budget is not None:
            estimate().check(self._budget, needed=() if storage.online else ("theta",))
        claim(self.path, self)
        self._loop.check()
        refuse_existing(self.path, resume=self._resume, overwrite=self._overwrite, later=not storage.online)
        attrs = settings_attrs(self.objective, self.settings, self._optimizers, self._seed)
        config = {key: value for key, value in self._config.items() if key not in _MAY_CHANGE}
        where = partial_path(self.path)
        stored = None if self._overwrite else resumed_state(where, attrs, config, self._loop.kept)
        recording = Recording(self.path, self.objective, self.settings, self._loop, self._n_iterations)
        self._seconds += time.perf_counter() - began
        header = checked_header(header_of(self.objective, self.settings, attrs, self._config, self._seed), self.path)
        recording.begin(header, stored, self._overwrite, self._quiet)
        self._recording = recording
        self._give_up = weakref.finalize(self, _give_up, self._watch, recording)
        if not self._quiet:
            self._pace = Pace.announced(estimate(), self._n_iterations)

    def stop(self) -> None:
        """End the recording, and make it a file: what the ``with`` form does when its block ends without an error.

        Raises
        ------
        RecordingError
            If no step was seen, or the file cannot be written; what was recorded stays then.
        """
        self._watch.end()
        if (recording := self._recording) is None or not self.is_open:
            return
        try:
            if not self.steps and (self._optimizers or recording.has_moved):
                self._give_up.detach()
                raise recording.discard(self._watch.why_nothing)
            recording.record_rest(self._told)
        except BaseException:
            self.close()
            raise
        self._give_up.detach()
        recording.to_file(self._quiet)
        warn_of_rest(self.path, self.steps, self._losses, recording if self._optimizers else None)

    def close(self) -> None:
        """Give up a recording that was not ended: what the ``with`` form does after an error.

        Its blocks stay in ``run.nc.partial``, which opens like a file, and which others may continue now.
        """
        self._watch.end()
        if self.is_open:
            self._give_up()

    def __enter__(self) -> Recorder:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        (self.stop if kind is None else self.close)()

    # ---- what the loop calls -----------------------------------------------------------------------------------

    def step(self, batch_loss: float | torch.Tensor | None = None) -> None:
        """Say that one optimizer step is done, in a loop whose optimizer the recorder does not watch.

        Parameters
        ----------
        batch_loss
            As for :meth:`report`.

        Raises
        ------
        RecordingError
            If the recorder watches an optimizer, or is not open.
        """
        if self._optimizers:
            raise RecordingError(
                "the recorder watches the optimizer, so every optimizer.step() is recorded already. Drop rec.step() "
                "(rec.report(batch_loss) before optimizer.step() stores a loss), or leave the optimizer out of the "
                "recorder."
            )
        self.report(batch_loss)
        self._step()

    def report(self, batch_loss: float | torch.Tensor | None) -> None:
        """Give the loss of the training batch of the iteration in progress (call it before ``optimizer.step()``).

        Parameters
        ----------
        batch_loss
            A number, or a tensor of one; None reports nothing.
        """
        self._losses.report(batch_loss)

    def _step(self) -> None:
        recording = self._recording
        if self._aside or (recording is not None and not recording.of_this_process):
            return
        if recording is None or not self.is_open:
            raise RecordingError(
                "the recorder is not open: use it as a context manager (with lk.Recorder(…) as rec:), or call "
                "rec.start() before the loop and rec.stop() after it"
            )
        self._loop.steps += 1
        self._pace.step()
        if self.steps % self.settings.storage.every == 0:
            recording.record(self._told())

    def _told(self) -> dict[str, float]:
        return {"learning_rate": self._watch.rate, "batch_loss": self._losses.take()}


def _give_up(watch: StepWatch, recording: Recording) -> None:
    """End a recording whose recorder was collected, or closed."""
    if recording.of_this_process:
        watch.end()
        recording.give_up()
