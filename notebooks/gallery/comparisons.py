"""Validation, settings, and the idea itself"""

import tempfile
from pathlib import Path

import lcakit as lk
from lcakit.experiments.training import Run, record_run


def train_validation():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.nc"
        record_run(Run("digits-fc", iterations=60), path, validation=True, quiet=True)
        ds = lk.open_trajectory(path).load()
    return lk.plot.train_validation(ds, backend="matplotlib")


def overfitting_map():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.nc"
        record_run(Run("digits-fc", iterations=60), path, validation=True, quiet=True)
        ds = lk.open_trajectory(path).load()
    return lk.plot.overfitting_map(ds, backend="matplotlib")


def sweep():
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for rate in (0.01, 0.02, 0.05, 0.1, 0.2):
            path = Path(folder) / f"{rate}.nc"
            record_run(Run("digits-fc", learning_rate=rate, iterations=40), path, quiet=True)
            runs[rate] = lk.open_trajectory(path).load()
    return lk.plot.sweep(runs, backend="matplotlib")


def path_allocation():
    return lk.plot.path_allocation(backend="matplotlib")
