"""Damaged and hostile files against opening, the account, the description and validation.

``python -m tests.support.fuzz --mutations 2000 --seed 0`` makes that many mutations of valid files and looks at each
in a worker process with a memory limit and a deadline. Failures are: a crash, a hang, a foreign exception, memory out
of proportion, a name printed as it is, and a file that is accepted although it contradicts itself or shows other
numbers than the one it was made from. Each is named by its number, and ``--only NUMBER`` repeats it.

What counts as fine: the file is refused (a TrajectoryError with its name), or the trouble is reported by validation, or
nothing that means anything was changed and every number is as it was. Where bytes of the data themselves were changed,
the numbers may differ: that is no structure (and a checksum, where there is one, tells).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.support.forked import context

DEADLINE = 20.0  # seconds for one mutation, without those in which its process waits for a processor
MEMORY = 2**30  # that a worker may take beyond what it has when it is ready
GROWTH = 300 * 2**20  # of the resident memory, by one mutation

UNSEEN = {True: ("kernel_layer",), False: ("kernel_layer", "tensor_layer", "tensor_shape", "unit_channel")}
"""Columns in which one change leaves a possible file: any layer may be counted with any other; and of a selection, the
tables have rows without parameters to compare them with."""

FINE = ("refused", "reported", "unchanged", "data only")


# ---- one mutation, in a worker ---------------------------------------------------------------------------------


@dataclass
class Truth:
    """A valid file and what it holds."""

    path: Path
    data: Any  # xr.Dataset, loaded
    account: str
    checks: dict[str, str]  # name -> status


def originals(folder: Path) -> dict[str, Truth]:
    """Write what is mutated: a plain file, a packed one, a selection, a Zarr store, an unfinished recording."""
    import lcakit as lk
    from lcakit.analysis.account import account
    from lcakit.storage.paths import partial_path
    from lcakit.testing import tiny_trajectory
    from lcakit.trajectory import schema
    from tests.support.recordings import record

    schema.CHUNK_ITERATIONS, schema.CHUNK_PARAMETERS = 5, 16  # so that a small file has many chunks
    ds = tiny_trajectory(12, class_parameters=True).assign(config='{"network": "digits-fc", "seed": 0}')
    paths = {
        "plain": lk.save(ds, folder / "plain.nc"),
        "packed": lk.save(tiny_trajectory(12), folder / "packed.nc", compression="zlib"),
        "selected": lk.save(ds.lk.sel(layer="fc"), folder / "selected.nc"),
        "store": lk.save(tiny_trajectory(12), folder / "store.zarr", compression="zlib"),
    }
    record(ds, folder / "partial.nc", block_rows=5).close()
    paths["partial"] = partial_path(folder / "partial.nc")
    found = {}
    for kind, path in paths.items():
        with lk.open_trajectory(path) as opened:
            checks = {check.name: check.status for check in lk.validate(opened, quiet=True).checks}
            found[kind] = Truth(path, opened.load(), account(opened).to_text(), checks)
    return found


def judge(path: Path, truth: Truth, spoilt: bool, data_too: bool, texts_too: bool = False) -> str:
    """Look at a mutated file as a user would; return an outcome, one of FINE or what is wrong."""
    import lcakit as lk
    from lcakit.analysis.account import account
    from lcakit.errors import LcakitError, LcakitWarning
    from lcakit.sharing.citation import cite
    from lcakit.sharing.describe import describe

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LcakitWarning)
        try:
            ds = lk.open_trajectory(path)
        except lk.TrajectoryError as error:
            named = path.name.split(".")[0] in str(error)
            return _printed([str(error)]) or ("refused" if named else "refused without a name")
    reported = any(isinstance(w.message, LcakitWarning) for w in caught)
    seen = []
    try:
        seen += [str(describe(ds)), cite(ds)]
        numbers, loaded = account(ds).to_text(), ds.load()
    except LcakitError as error:
        reported, numbers, loaded = True, str(error), None
        seen.append(str(error))
    report = lk.validate(ds, quiet=True)
    seen += [report.to_text(), report._repr_html_()]
    reported |= {check.name: check.status for check in report.checks} != truth.checks
    ds.close()
    if bad := _printed(seen) or ("PRINTED: a tag" if "<script" in report._repr_html_() else ""):
        return bad
    return "reported" if reported else _accepted(loaded, numbers, truth, spoilt, (data_too, texts_too))


def _accepted(loaded: Any, numbers: str, truth: Truth, spoilt: bool, also: tuple[bool, bool]) -> str:
    """Return the outcome of a file in which nothing was found; ``also``: data, or texts, were changed too."""
    import xarray as xr

    data_too, texts_too = also
    if spoilt:
        return "SILENT: accepted although it contradicts itself"
    if other := _differs(loaded, truth.data, data_too):
        return f"SILENT: {other}"
    attributes = [xr.Dataset(attrs=ds.attrs) for ds in (loaded, truth.data)]  # == fails where one of them is a list
    texts_too |= not attributes[0].identical(attributes[1]) or not loaded["layer"].equals(truth.data["layer"])
    if numbers != truth.account and not (data_too or texts_too):
        return "SILENT: the account says other numbers"
    return "data only" if data_too else "unchanged"


def _printed(texts: list[str]) -> str:
    """Say if something was printed that must not be: control characters, tags, endless lines."""
    for text in texts:
        if any(c in text for c in "\x1b\x07\x00\u202e"):
            return "PRINTED: a control character of the file"
        if len(text) > 200_000:
            return f"PRINTED: {len(text):,} letters"
    return ""


def _differs(got: Any, expected: Any, data_too: bool) -> str:
    """Say what is different in two loaded datasets; names and texts may differ, they are content."""
    import numpy as np

    from lcakit.trajectory.labels import is_whole

    if set(got.variables) != set(expected.variables):
        return f"other variables: {sorted(set(map(str, got.variables)) ^ set(map(str, expected.variables)))}"
    for name in expected.variables:
        a, b = got[name], expected[name]
        if a.dims != b.dims or a.shape != b.shape:
            return f"{name} has dimensions {a.sizes}"
        number = b.dtype.kind in "iuf" and name not in UNSEEN[is_whole(expected)]
        if number and a.dtype != b.dtype and not (a.dtype.kind in "iu" and b.dtype.kind == "i"):
            return f"{name} is {a.dtype}"
        if (
            number
            and not np.array_equal(a.values, b.values, equal_nan=True)
            and not (data_too and name in got.data_vars)
        ):
            return f"{name} holds other numbers"
    return ""


def work(seed: int, folder: Path, parent: Connection) -> None:
    """Judge the mutations whose numbers come from the parent, and send it what is tried and what came of it."""
    import resource

    import dask
    import netCDF4  # noqa: F401  (before the limit)

    import lcakit as lk
    from tests.support.mutations import mutate, trapped

    dask.config.set(scheduler="synchronous")
    truths = originals(folder)
    for truth in truths.values():  # once, so that everything is imported and cached before memory is limited
        judge(truth.path, truth, False, False)
        lk.validate(truth.path, quiet=True)
    _limit_memory(resource)
    parent.send({"ready": True})
    while (number := parent.recv()) is not None:
        rng = random.Random(f"{seed}:{number}")
        mutation = mutate(rng, truths, folder / "mutated")
        parent.send({"kind": mutation.kind, "what": mutation.what})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        try:
            outcome = _judged(mutation, truths[mutation.of])
        except Exception as error:  # noqa: BLE001  a foreign exception is what is looked for
            outcome = f"EXCEPTION: {type(error).__name__}: {error}"[:300]
        outcome = "EXECUTED: something was unpickled" if trapped(folder / "mutated") else outcome
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        if grown > GROWTH:
            outcome = f"MEMORY: {grown / 2**20:,.0f} MB; {outcome}"
        parent.send({"outcome": outcome})


def _judged(mutation: Any, truth: Truth) -> str:
    from tests.support.mutations import judge_registry

    if mutation.path.name == "registry.txt":
        return judge_registry(mutation.path, truth.path)
    return judge(mutation.path, truth, mutation.spoilt, mutation.data_too, mutation.texts_too)


def _limit_memory(resource: Any) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# ---- many mutations, watched -----------------------------------------------------------------------------------


class Worker:
    """A process that judges mutations, and a clock."""

    def __init__(self, seed: int) -> None:
        self.folder = tempfile.mkdtemp(prefix="fuzz-")
        forked = context()
        self._answers, there = forked.Pipe()
        self._process = forked.Process(target=work, args=(seed, Path(self.folder), there), daemon=True)
        self._process.start()
        there.close()  # so that the pipe ends where the process does
        if "ready" not in self._answer(300):
            raise RuntimeError("the worker of the fuzz test did not start")

    def judge(self, number: int) -> dict[str, Any]:
        """Return kind and outcome of a mutation; the caller replaces a worker that died or hung over it."""
        told: dict[str, Any] = {"done": number, "kind": "?", "what": "making it"}
        with contextlib.suppress(BrokenPipeError):  # it has died: there is no answer either
            self._answers.send(number)
        while True:
            answer = self._answer(DEADLINE)
            told |= answer
            if "outcome" in answer:
                return told

    def _waited(self) -> float:
        """Seconds in which its threads could have run, and others did: on a busy machine most of them."""
        waited = 0
        for thread in Path(f"/proc/{self._process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # it has ended
                waited += int(thread.read_text().split()[1])
        return waited / 1e9

    def _in_time(self, seconds: float) -> bool:
        """Say whether there is an answer, or an end, before the process has had these seconds."""
        began, waited = time.monotonic(), self._waited()
        while (left := seconds + self._waited() - waited - (time.monotonic() - began)) > 0:
            if self._answers.poll(left):
                return True
        return self._answers.poll()

    def _answer(self, seconds: float) -> dict[str, Any]:
        if not self._in_time(seconds):
            self._process.kill()
            self._process.join()
            return {"outcome": f"HANG: more than {seconds:.0f} s", "dead": True}
        try:
            answer: dict[str, Any] = self._answers.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            status = self._process.exitcode
            how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            return {"outcome": f"CRASH: {how}", "dead": True}
        return answer

    def close(self) -> None:
        """End the process and remove its files."""
        if self._process.is_alive():
            self._answers.send(None)
            self._process.join()
        shutil.rmtree(self.folder, ignore_errors=True)


def run(numbers: range, seed: int, workers: int = 1) -> list[dict[str, Any]]:
    """Judge mutations, each by its number; return an answer for each."""
    with ThreadPoolExecutor(workers) as pool:
        parts = pool.map(lambda first: _run_one_by_one(numbers[first::workers], seed), range(workers))
        return sorted((answer for part in parts for answer in part), key=lambda answer: answer["done"])


def _run_one_by_one(numbers: range, seed: int) -> list[dict[str, Any]]:
    answers, worker = [], None
    try:
        for number in numbers:
            worker = worker or Worker(seed)
            answers.append(worker.judge(number))
            if len(answers) % 100 == 0:
                print(f"{len(answers)} of {len(numbers)} judged", file=sys.stderr, flush=True)
            for line in failures(answers[-1:]):
                print(line, file=sys.stderr, flush=True)
            if answers[-1].get("dead"):
                worker.close()
                worker = None
    finally:
        if worker is not None:
            worker.close()
    return answers


def failures(answers: list[dict[str, Any]]) -> list[str]:
    """Return a line for each mutation whose outcome is not fine."""
    bad = [a for a in answers if a["outcome"] not in FINE]
    return [f"{a['done']}: {a['kind']} ({a['what']}): {a['outcome']}" for a in bad]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Judge mutated trajectory files.")
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--only", type=int, help="one mutation by its number")
    args = parser.parse_args()
    began = time.monotonic()
    numbers = range(args.mutations) if args.only is None else range(args.only, args.only + 1)
    answers = run(numbers, args.seed, args.workers)
    table = collections.Counter((a["kind"], a["outcome"].split(":")[0]) for a in answers)
    for (kind, outcome), count in sorted(table.items()):
        print(f"{kind:24} {outcome:12} {count}")
    found = failures(answers)
    print("\n".join(found))
    print(f"{len(answers)} mutations in {time.monotonic() - began:.0f} s: {len(found)} failures")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
