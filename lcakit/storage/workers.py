"""Tasks for the workers of a Dask cluster: not all at once, each again where its worker died, with errors that help."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any

from distributed import Client, Future, KilledWorker, as_completed

from lcakit.errors import RecordingError

__all__ = ["PATIENCE", "RETRIES", "given_up", "results", "wait_for_worker"]


def __dir__() -> list[str]:
    return __all__


PATIENCE = 30.0  # seconds until a cluster has a worker, and for tasks that are running when another one has failed
RETRIES = 3  # of a task that failed


def wait_for_worker(client: Client, seconds: float = PATIENCE) -> None:
    """Wait until a cluster has a worker.

    Raises
    ------
    RecordingError
        If it has none after ``seconds``.
    """
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError as error:
        address = getattr(client.scheduler, "address", "an unknown address")
        raise RecordingError(f"the cluster at {address} has no worker after {seconds:.0f} s. Start some.") from error


def results(
    client: Client, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]
) -> Generator[Any, None, None]:
    """Yield what ``function`` returns for each tuple of arguments, as workers finish them.

    At most two tasks for each thread of the cluster are sent out at a time: the arguments of all are nowhere at once.
    Close the iterator (:func:`contextlib.closing`): after that nothing runs any more, as far as workers answer.

    Raises
    ------
    RecordingError
        If workers died over a task. Errors of ``function`` are raised unchanged.
    """
    rest = iter(tasks)
    threads = sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
    out: set[Future[Any]] = set()
    done = as_completed(loop=client.loop)

    def send(count: int) -> None:
        for task in islice(rest, count):
            out.add(future := client.submit(function, *task, pure=False, retries=RETRIES))
            done.add(future)

    try:
        send(2 * max(1, threads))
        for future in done:
            yield _result(future)
            out.discard(future)
            send(1)
    finally:
        with contextlib.suppress(TimeoutError):
            list(as_completed(list(out), loop=client.loop, timeout=PATIENCE))
        client.cancel(list(out))


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except KilledWorker as error:
        raise given_up("a task", error, "and try again.") from error


def given_up(what: str, error: KilledWorker, remedy: str) -> RecordingError:
    """Return the error to raise where workers died over a task."""
    return RecordingError(
        f"{what} was given up: {error.allowed_failures + 1} workers died over it, the last one at "
        f"{error.last_worker.address}. Often that is a lack of memory: give workers more of it, {remedy}"
    )
