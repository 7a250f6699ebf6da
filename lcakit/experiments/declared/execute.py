"""Run what is missing: in this process, or each run in one of its own, several side by side."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

import torch

from lcakit.errors import LcakitError
from lcakit.experiments.declared.directory import Task
from lcakit.text import format_seconds

__all__ = ["Outcomes", "run_missing"]


def __dir__() -> list[str]:
    return __all__


# What a run may fail of and others need not: divergence, data, disk, memory, a process that was killed.
_FAILURES = (LcakitError, ValueError, OSError, RuntimeError, MemoryError)
Outcomes = Iterator[tuple[Task, Exception | None]]


def run_missing(tasks: Sequence[Task], jobs: int | None = None, quiet: bool = False) -> dict[str, str]:
    """Record the runs that have no file yet; return why runs failed, by name.

    A run that fails leaves what it has recorded, and the others go on. A process that is killed is a failed run, too.

    Parameters
    ----------
    jobs
        Runs side by side, which share the threads. 1: in this process, one after the other, with a progress bar. By
        default as many as there are cores; on a GPU one. How many are missing makes no difference: training with
        another number of threads is rounded otherwise.
    """
    missing = [task for task in tasks if not task.finished]
    cores = torch.get_num_threads()
    on_cpu = all((task.device or "cpu") == "cpu" for task in tasks)
    jobs = jobs or (max(1, min(cores, len(tasks))) if on_cpu else 1)
    failed: dict[str, str] = {}
    outcomes = _side_by_side(missing, jobs, max(1, cores // jobs)) if jobs > 1 else _one_by_one(missing, quiet)
    began = time.perf_counter()
    for done, (task, error) in enumerate(outcomes, 1):
        if error is not None:
            failed[task.name] = f"{type(error).__name__}: {error}"
        if not quiet:
            how = "finished" if error is None else f"FAILED ({failed[task.name]})"
            took = format_seconds(time.perf_counter() - began)
            print(f"lcakit: run {done} of {len(missing)}, {task.name}: {how}, {took} so far", file=sys.stderr)
    return failed


def _one_by_one(tasks: Iterable[Task], quiet: bool) -> Outcomes:
    for task in tasks:
        try:
            task.record(quiet)
        except _FAILURES as error:
            error.__cause__ = error.__context__ = None  # their frames hold the model and the data
            yield task, error.with_traceback(None)
        else:
            yield task, None


def _side_by_side(tasks: Sequence[Task], jobs: int, threads: int) -> Outcomes:
    pool, fresh = ThreadPoolExecutor(jobs), _fresh()
    try:
        futures: dict[Future[None], Task] = {pool.submit(_in_own_process, fresh, task, threads): task for task in tasks}
        for future in as_completed(futures):
            try:
                future.result()
            except _FAILURES as error:
                yield futures[future], error
            else:
                yield futures[future], None
    finally:  # after Ctrl-C no further run may start
        pool.shutdown(cancel_futures=True)


_PRELOADED = [Task.__module__, "torchvision", "sklearn.datasets"]
_UNCHOSEN = ["__main__"]  # what Python's fork server imports where nobody has said


def _fresh() -> BaseContext:
    """Return how processes start: forked copies of this one, which has used torch, may hang.

    On Linux they are forked from one that has done nothing but imports: those take seconds, and runs are many. There is
    one such server in a process, and what it imports is its user's to say; where nobody has, it starts with ours.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    if getattr(forkserver._forkserver, "_preload_modules", None) == _UNCHOSEN:
        found.set_forkserver_preload(_PRELOADED)
        try:
            forkserver.ensure_running()
        finally:
            found.set_forkserver_preload(_UNCHOSEN)
    return found


def _in_own_process(fresh: BaseContext, task: Task, threads: int) -> None:
    """Record in a new process: its memory is its own, and a crash does not take other runs with it."""
    with ProcessPoolExecutor(1, fresh, torch.set_num_threads, (threads,)) as pool:
        pool.submit(task.record).result()
