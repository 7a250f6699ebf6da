"""Processes forked from one that has already imported what is slow to import: a start takes no seconds.

That process is started by the first test that needs it, executes nothing but imports, and is the one of
``multiprocessing`` whose start method is "forkserver": workers of Dask may come from it too, see :func:`dask_workers`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import dask


def context() -> multiprocessing.context.BaseContext:
    """Return the context whose processes are forked; where forking is not safe, they import everything themselves."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.support.imported"])
    forkserver.ensure_running()
    return found


def dask_workers() -> AbstractContextManager[Any]:
    """Let Dask fork its worker processes, inside the ``with`` block that starts their cluster."""
    method = context().get_start_method()
    return dask.config.set({"distributed.worker.multiprocessing-method": method})


def run(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function of a module in a process of its own; raise AssertionError if it does not return there."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "stderr"
        process = context().Process(target=_call, args=(log, function, *arguments))
        process.start()
        process.join()
        assert process.exitcode == 0, f"it ended with {process.exitcode}\n{log.read_text() if log.exists() else ''}"


def _call(log: Path, function: Callable[..., Any], *arguments: Any) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    function(*arguments)


@contextmanager
def command(*arguments: str, folder: Path | None = None, log: Path | None = None) -> Iterator[IO[str]]:
    """Run ``lcakit`` with these arguments until the end of the block; give what it prints, its errors go to the log."""
    here, there = context().Pipe(duplex=False)
    process = context().Process(target=_command, args=(arguments, folder or Path.cwd(), log, there))
    process.start()
    there.close()
    try:
        with os.fdopen(os.dup(here.fileno())) as printed:
            yield printed
    finally:
        process.terminate()
        process.join(15)
        process.kill()  # also if it does not want to
        process.join()


def _command(arguments: tuple[str, ...], folder: Path, log: Path | None, printed: Connection) -> None:
    import pyviz_comms

    from lcakit.cli.main import main

    pyviz_comms._in_ipython = False  # it was imported as in a notebook
    os.chdir(folder)
    os.dup2(printed.fileno(), 1)
    if log is not None:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    sys.exit(main(list(arguments)))
