"""Allocation on a Dask cluster: blocks of iterations, each computed by one worker and written as one segment.

The segments of :mod:`lcakit.storage.segments` are what makes this simple: a block that has its name is whole, so a
worker that dies loses its block only, a block that is computed twice is the same twice, and a call that was stopped
goes on with the blocks that are missing. Every block begins with a gradient that the block before it computed too: one
in 2 · block. Running statistics are those of each block, joined in order at the end.

Workers need lcakit, the module of the factory, the data, and the trajectory's folder under the same path. One thread
each is best: an objective uses the cores that torch was given.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import xarray as xr
from dask.base import tokenize
from dask.local import get_sync
from distributed import Client, KilledWorker, LocalCluster, as_completed, get_worker

from lcakit.errors import LcakitError, RecordingError
from lcakit.progress import progress
from lcakit.record.allocation.allocator import Allocator
from lcakit.record.allocation.along_path import rows_along
from lcakit.record.allocation.continuing import refuse_other_settings
from lcakit.record.allocation.facts import Facts, facts_of, objective_attrs
from lcakit.record.allocation.rows import Row
from lcakit.record.allocation.settings import AllocationSettings
from lcakit.record.allocation.spec import ObjectiveSpec
from lcakit.record.allocation.statistics import merge_files
from lcakit.record.allocation.stored import Stored
from lcakit.record.objective.objective import Objective
from lcakit.storage import continuing, opening, segments
from lcakit.storage.atomic import Lock
from lcakit.storage.paths import given_path
from lcakit.storage.segments import BLOCK
from lcakit.storage.urls import is_url
from lcakit.storage.workers import PATIENCE, RETRIES, given_up, wait_for_worker
from lcakit.trajectory import schema
from lcakit.version import __version__

__all__ = ["BLOCKS_A_WORKER", "BUILDING", "CONNECTING", "PLACES", "SharedWork", "connected", "device_of_worker"]


def __dir__() -> list[str]:
    return __all__


BLOCKS_A_WORKER = 8
CONNECTING = 10.0  # seconds until a scheduler answers
BUILDING = 1800.0  # seconds until a worker has built the objective: its data may have to be downloaded
PLACES = ("device", "torch_version", "threads")  # in which workers may differ


@contextmanager
def connected(scheduler: str | None = None, workers: int = 2) -> Iterator[Client]:
    """Give a client of a cluster: the one whose scheduler has this address, or ``workers`` processes on this machine.

    Raises
    ------
    RecordingError
        If no scheduler answers at the address.
    """
    if scheduler is None:
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,  # errors of tasks come back, and are told in our words
            ) as own,
            Client(own) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=CONNECTING)
    except (OSError, ValueError) as error:  # a timeout is an OSError
        raise RecordingError(
            f"no scheduler answers at {scheduler} within {CONNECTING:.0f} s ({error}). Start one there with "
            "`dask scheduler`, and workers with `dask worker`."
        ) from error
    with client:
        yield client


def device_of_worker(devices: Sequence[str]) -> str:
    """Return the device of the worker that asks: workers of :func:`connected` are numbered, and share them out."""
    return devices[int(get_worker().name) % len(devices)]


class SharedWork:
    """An allocation that the workers of a client share.

    Making it builds the objective on every worker and compares what they have.

    Raises
    ------
    RecordingError
        If there is no worker, one lacks a package, the module or the data, or workers have different data; the message
        says which worker and what.
    """

    def __init__(self, client: Client, spec: ObjectiveSpec, trajectory: str, block: int | None = None) -> None:
        if block is not None and block < 1:
            raise ValueError(f"block must be a positive number of iterations, got {block}")
        self.client, self.spec, self._block = client, spec, block
        self.trajectory = trajectory if is_url(trajectory) else str(given_path(trajectory).absolute())
        self.facts, self._identity = _common_facts(client, spec)

    def allocate(
        self,
        source: xr.Dataset,
        settings: AllocationSettings,
        stored: Stored,
        partial: Path,
        attrs: Row,
        quiet: bool,
    ) -> None:
        """Compute all blocks that ``partial`` does not have yet."""
        partial, count = partial.absolute(), source.sizes["iteration"]
        partial.mkdir(parents=True, exist_ok=True)
        with Lock(partial), progress(count, "allocating", quiet=quiet) as bar:
            block = self._prepare(source, partial, attrs)
            waiting = []
            for number, start in enumerate(range(0, count, block)):
                stop, segment = min(start + block, count), partial / f"{number:06d}.npz"
                if segment.exists():
                    bar.update(stop - start)
                else:
                    what = (self.spec, self._identity, self.trajectory, settings, stored)
                    waiting.append(self._submit((*what, start, stop, str(segment)), start, stop))
            self._wait(waiting, bar)
            if stored.statistics:
                continuing.merge_running(partial, merge_files)

    def _prepare(self, source: xr.Dataset, partial: Path, attrs: Row) -> int:
        """Write the header, or find one with the same settings; return the block size."""
        if (partial / segments.HEADER).exists():
            stored = segments.read_header(partial).attrs
            if BLOCK not in stored:
                raise RecordingError(f"{partial} was begun without a cluster. Continue it so, or remove it.")
            block = int(stored[BLOCK])
            asked = block if self._block is None else self._block
            refuse_other_settings(stored, attrs | {BLOCK: asked}, partial)
            return block
        workers = len(self.client.scheduler_info(n_workers=-1)["workers"])
        even = -(-source.sizes["iteration"] // (BLOCKS_A_WORKER * max(1, workers)))
        block = self._block or min(max(1, even), segments.BLOCK_ROWS)
        segments.write_header(partial, schema.stamp(xr.Dataset(), attrs | {BLOCK: block}))
        return block

    def _submit(self, task: tuple[Any, ...], start: int, stop: int) -> Any:
        # the part before the first number is the name on the dashboard
        key = f"allocate-{start:06d}-{stop - 1:06d}-{tokenize(task)}"
        return self.client.submit(_compute_block, *task, key=key, retries=RETRIES, pure=False)

    def _wait(self, futures: list[Any], bar: Any) -> None:
        try:
            for future in as_completed(futures, loop=self.client.loop):
                bar.update(future.result())
        except KilledWorker as error:
            remedy = (
                "or take smaller chunks (batch_size of the objective). Finished blocks are kept; the same call goes on "
                "with the others."
            )
            raise given_up("a block", error, remedy) from error
        finally:
            self.client.cancel(futures)


# ---- on the workers --------------------------------------------------------------------------------------------

_ONE_AT_A_TIME = threading.Lock()
_BUILT: dict[str, Objective] = {}


@contextmanager
def _objective(spec: ObjectiveSpec) -> Iterator[Objective]:
    """Give the process's objective, built at its first use; for one task at a time, since θ is loaded into it."""
    with _ONE_AT_A_TIME:
        key = tokenize(spec.factory, spec.options)
        if key not in _BUILT:
            _BUILT.clear()  # of an earlier allocation
            _BUILT[key] = spec.build()
        yield _BUILT[key]


def _compute_block(
    spec: ObjectiveSpec,
    identity: Row,
    trajectory: str,
    settings: AllocationSettings,
    stored: Stored,
    start: int,
    stop: int,
    path: str,
) -> int:
    """Write one segment, unless a worker that was thought dead has done it; return the number of iterations."""
    if not Path(path).exists():
        # this is a task already: what it reads must not become tasks of the cluster
        local = dask.config.set(scheduler=get_sync)
        with _objective(spec) as objective, local, opening.open_trajectory(trajectory) as ds:
            differing = _differences(_identity(objective), identity)
            if differing:
                raise RecordingError(
                    f"a worker that came later has another objective: {differing}. Give every worker the same versions "
                    "and data."
                )
            allocator = Allocator(objective, settings, stored)
            segments.write_rows(Path(path), rows_along(ds, allocator, start, stop), stop - start, allocator.running)
    return stop - start


def _ready(spec: ObjectiveSpec) -> tuple[Facts, Row]:
    """Build the objective anew, since its data may have changed; return what it is."""
    with _ONE_AT_A_TIME:
        _BUILT.clear()
    with _objective(spec) as objective:
        return facts_of(objective), _identity(objective)


def _identity(objective: Objective) -> Row:
    """Return what must be the same on every worker: the version, and the attributes that decide the numbers."""
    attrs = {key: value for key, value in objective_attrs(objective).items() if key not in PLACES}
    if not objective.batch_coupling:  # the chunk size, which a GPU chooses larger, changes only the rounding
        attrs.pop("evaluation_batch_size")
    return {"lcakit": __version__, **attrs}


# ---- before the work -------------------------------------------------------------------------------------------


def _common_facts(client: Client, spec: ObjectiveSpec) -> tuple[Facts, Row]:
    """Build the objective everywhere; return its facts and identity if that is the same everywhere."""
    wait_for_worker(client, PATIENCE)
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    asked = {worker: client.submit(_ready, spec, workers=[worker], pure=False) for worker in workers}
    answers = {worker: _answer(spec, worker, future) for worker, future in asked.items()}
    (first, (facts, identity)), *others = answers.items()
    for worker, (theirs, own) in others:
        differing = _differences(own, identity)
        if differing or theirs.labels != facts.labels:
            raise RecordingError(
                f"workers {worker} and {first} have different objectives: {differing or 'other parameters'}. "
                "Give every worker the same versions and data."
            )
    return facts, identity


def _answer(spec: ObjectiveSpec, worker: str, future: Any) -> tuple[Facts, Row]:
    try:
        answer: tuple[Facts, Row] = future.result(timeout=BUILDING)
    except TimeoutError as error:
        raise RecordingError(f"worker {worker} has not built the objective within {BUILDING:.0f} s") from error
    except Exception as error:  # whatever the factory raises there
        told = str(error) if isinstance(error, LcakitError) else f"{type(error).__name__}: {error}"
        raise RecordingError(
            f"worker {worker} cannot build the objective: {told.rstrip('.')}. Every worker needs lcakit, the module of "
            f"{spec.factory!r}, and the data."
        ) from error
    return answer


def _differences(own: Row, wanted: Row) -> str:
    return "; ".join(f"{key} {own.get(key)} and {wanted[key]}" for key in wanted if own.get(key) != wanted[key])
