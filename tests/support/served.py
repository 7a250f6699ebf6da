"""A small run in two forms on a web server of this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

import lcakit as lk
from lcakit.sharing.copies import share
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec

HANGING = ("silent", "stalling", "trickling")


def small_run() -> xr.Dataset:
    return tiny_trajectory(60, layers=(TensorSpec("w", (2000,), "bias", "w"),), classes=("a",))


def write_both(ds: xr.Dataset, folder: Path) -> Path:
    """Write a run as recorded and as a compact copy."""
    lk.save(ds, folder / "run.nc")
    share(ds, folder / "small copy.nc", keepbits=23)
    return folder


def same(got: xr.Dataset, ds: xr.Dataset) -> bool:
    return set(got.variables) >= set(ds.variables) and all(np.array_equal(got[n], ds[n]) for n in ds.variables)


def patience(mode: str) -> float:
    """Return seconds to wait for a server: not long for one that hangs, long for one that this machine keeps busy."""
    return 0.3 if mode in HANGING else 30
