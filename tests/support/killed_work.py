"""Work that is killed (SIGKILL) at random moments and begun again, until it is done: nothing that was finished is lost.

``python -m tests.support.killed_work --kills 100`` kills recording, allocation in place, finishing (with and without
early chunks), sharing, saving to a Zarr store and an experiment, about as often each. After every kill what is on the
disk must open, with the numbers that it had, and no finished block may be lost; at the end the result must be that of
work that nobody killed, and nothing may be left beside it. ``--kinds`` chooses some. Children are forked, so that each
starts in milliseconds.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import torch
import xarray as xr

import lcakit as lk
from lcakit.experiments.run import Run
from lcakit.experiments.training import record_run
from lcakit.storage import early_chunks
from lcakit.storage.early_chunks import EarlyChunks
from lcakit.storage.paths import partial_path
from lcakit.storage.segments import segment_paths
from lcakit.testing import tiny_trajectory
from tests.support import killed
from tests.support.networks import dense, examples
from tests.support.recordings import record

STEPS = 30


@dataclass(frozen=True)
class Work:
    """What is done to a path, how what is there is looked at after a kill, and what must be there in the end."""

    do: Callable[[Path], Any]
    before: Callable[[Path], Any]
    look: Callable[[Path, Path], None]


def loaded(path: Path) -> xr.Dataset:
    """Open a trajectory and read all of it."""
    with lk.open_trajectory(path) as ds:
        return ds.load()


def same_numbers(got: xr.Dataset, expected: xr.Dataset, rows: bool = False) -> None:
    """Raise AssertionError where numbers differ; ``rows``: as far as there are any yet."""
    for name in expected.data_vars if not rows else got.data_vars:
        a, b = got[name].values, expected[name].values
        b = b[: len(a)] if rows and a.ndim else b
        if b.dtype.kind in "iuf":
            assert np.array_equal(a, b, equal_nan=True), f"{name} has other numbers"


# ---- the kinds of work ----------------------------------------------------------------------------------------------


def _finished_rows(path: Path, whole: Path) -> None:
    """A recording, begun or done, holds the first rows of the whole one."""
    partial = partial_path(path)
    if path.exists() or (partial.is_dir() and (partial / "header.nc").exists() and segment_paths(partial)):
        same_numbers(loaded(path), loaded(whole), rows=True)


def _allocated(path: Path, whole: Path) -> None:
    """The file has what it had, and the allocation all or not at all."""
    got, expected = loaded(path), loaded(whole)
    same_numbers(got[[name for name in expected.data_vars if name in got]], expected, rows=True)


def _old_or_new(path: Path, whole: Path) -> None:
    """A file that is replaced is the old one or the new one."""
    if path.exists():
        got = loaded(path)
        assert got.sizes["iteration"] in (3, loaded(whole).sizes["iteration"])
        if got.sizes["iteration"] != 3:
            same_numbers(got, loaded(whole))


def _begin_path(path: Path) -> None:
    theta = np.cumsum(np.random.default_rng(0).normal(size=(STEPS, 53)) * 0.03, axis=0).astype("f4")
    lk.save(lk.allocate(theta, lk.Objective(dense(), examples(), workers=1), quiet=True), path)


def _allocate(path: Path) -> None:
    with lk.open_trajectory(path) as ds:
        done = "lca_val" in ds
    if not done:
        lk.allocate(path, lk.Objective(dense(), examples(seed=2), workers=1), name="val", quiet=True)


def _begin_partial(path: Path) -> None:
    record(tiny_trajectory(2000), path, block_rows=40).close()


def _finish(path: Path) -> None:
    if partial_path(path).is_dir():
        lk.finish(path, overwrite=True, compression="zlib")


def _begin_early(path: Path) -> None:
    early_chunks.LEAST_BYTES = 0  # so that small recordings have them too
    early = EarlyChunks(partial_path(path), 2000)
    record(tiny_trajectory(2000), path, block_rows=40).close()
    while early.add_next():
        pass
    early.close()


def _finish_early(path: Path) -> None:
    if partial_path(path).is_dir():
        lk.finish(path, overwrite=True)


def _begin_source(path: Path) -> None:
    lk.save(tiny_trajectory(3), path)
    lk.save(tiny_trajectory(2000), path.with_name("source.nc"))


def _share(path: Path) -> None:
    lk.share(path.with_name("source.nc"), path, keepbits=23, overwrite=True)


def _save(path: Path) -> None:
    lk.save(lk.open_trajectory(path.with_name("source.nc")), path, overwrite=True)


def _experiment(path: Path) -> None:
    if not path.exists() or "lca_val" not in loaded(path):
        run = Run("digits-fc", iterations=16, batch_size=50, train_examples=300)
        record_run(run, path, validation=True, resume=True, quiet=True, block_rows=4)


def _nothing(path: Path) -> None:
    """Nothing is there before."""


def _record(path: Path) -> None:
    if not path.exists():
        killed.record(str(path), STEPS)


WORK: dict[str, tuple[Work, str]] = {
    "record": (Work(_record, _nothing, _finished_rows), "run.nc"),
    "allocate": (Work(_allocate, _begin_path, _allocated), "run.nc"),
    "finish": (Work(_finish, _begin_partial, _finished_rows), "run.nc"),
    "finish-early": (Work(_finish_early, _begin_early, _finished_rows), "run.nc"),
    "share": (Work(_share, _begin_source, _old_or_new), "run.nc"),
    "zarr": (Work(_save, _begin_source, _old_or_new), "run.zarr"),
    "experiment": (Work(_experiment, _nothing, _finished_rows), "run.nc"),
}


# ---- killing --------------------------------------------------------------------------------------------------------


def _fork(do: Callable[[Path], Any], path: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            do(path)
            os._exit(0)
        except BaseException:  # noqa: BLE001  told by the status
            traceback.print_exc()
            os._exit(1)
    return child


def campaign(kind: str, kills: int, folder: Path, seed: int = 0) -> int:
    """Do one kind of work, killed so many times; return how many of them found it at work.

    Raises
    ------
    AssertionError
        If something was lost, or the work ended with an error.
    """
    work, name = WORK[kind]
    whole, path, moments, hit = folder / "whole" / name, folder / "killed" / name, random.Random(seed), 0
    for place in (whole, path):
        shutil.rmtree(place.parent, ignore_errors=True)
        place.parent.mkdir(parents=True)
        work.before(place)
    began = time.monotonic()
    assert os.waitpid(_fork(work.do, whole), 0)[1] == 0, f"{kind} failed though nobody killed it"
    span = time.monotonic() - began
    for _ in range(kills):
        child = _fork(work.do, path)
        time.sleep(moments.uniform(0.0, min(1.0, 3 / kills + 0.3) * span))
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), f"{kind} ended with an error"
        hit += status != 0
        work.look(path, whole)
        if status == 0 and kind not in ("share", "zarr"):  # done: begin again
            shutil.rmtree(path.parent)
            path.parent.mkdir()
            work.before(path)
    status = os.waitstatus_to_exitcode(os.waitpid(_fork(work.do, path), 0)[1])
    assert status == 0, f"{kind} cannot go on"
    same_numbers(loaded(path), loaded(whole))
    left = {p.name for p in path.parent.iterdir()} - {p.name for p in whole.parent.iterdir()}
    assert not left, f"{kind} left {', '.join(left)}"
    return hit


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Kill work at random moments.")
    parser.add_argument("--kills", type=int, default=100, help="of all kinds together")
    parser.add_argument("--kinds", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    dask.config.set(scheduler="synchronous")
    each, failed = -(-args.kills // len(args.kinds)), 0
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.kinds:
            began = time.monotonic()
            try:
                hit = campaign(kind, each, Path(folder) / kind, args.seed)
                seconds = time.monotonic() - began
                print(f"{kind:12} {each} kills, {hit} at work: nothing lost ({seconds:.0f} s)", flush=True)
            except (AssertionError, lk.LcakitError) as error:
                failed += 1
                print(f"{kind:12} FAILED: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
