"""Imports what is slow to import, in the process that others are forked from; see :mod:`tests.support.forked`."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile

MODULES = (
    *("torch", "torchvision", "sklearn.datasets", "scipy.stats", "h5py", "netCDF4", "pooch", "distributed"),
    *("ipykernel.kernelapp", "ipywidgets", "matplotlib.pyplot", "bokeh.models", "bokeh.plotting", "markdown_it"),
    *("lcakit.analysis.accessor", "lcakit.experiments.training"),
    *("lcakit.landscapes.nqm.training", "lcakit.landscapes.wedges.paths", "tests.support.in_notebook"),
    *("lcakit.cli.main", "lcakit.views.explorer.serving"),
)


def _import_all() -> str:
    """Import the modules that are installed; return what that wrote to standard output and standard error."""
    before = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            for name in MODULES:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            for number, kept in enumerate(before, 1):
                os.dup2(kept, number)
                os.close(kept)
        file.seek(0)
        return file.read().decode()


WRITTEN = _import_all()
