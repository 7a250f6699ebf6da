"""Processes forked from one that has already imported what is slow to import: a start takes no seconds.

That process is started by the first test that needs it, executes nothing but imports, and is the one of
``multiprocessing`` whose start method is "forkserver": workers of Dask may come from it too, see :func:`dask_workers`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import dask

IMPORTED = (
    *("torch", "torchvision", "sklearn.datasets", "scipy.stats", "h5py", "netCDF4", "pooch", "distributed"),
    *("ipykernel.kernelapp", "ipywidgets", "matplotlib.pyplot", "bokeh.models", "bokeh.plotting", "markdown_it"),
    *("lcakit.analysis.accessor", "lcakit.experiments.training"),
    *("lcakit.landscapes.nqm.training", "lcakit.landscapes.wedges.paths", "tests.support.in_notebook"),
)
"""What is slow to import."""


def context() -> multiprocessing.context.BaseContext:
    """Return the context whose processes are forked; where forking is not safe, they import everything themselves."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(IMPORTED))
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
