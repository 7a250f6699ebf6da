from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr

import lcakit as lk
from lcakit.testing import tiny_trajectory


@pytest.fixture
def ds() -> xr.Dataset:
    return tiny_trajectory(12, class_parameters=True)


@pytest.fixture
def path(ds, tmp_path) -> Path:
    """A valid file of ``ds``."""
    return lk.save(ds, tmp_path / "run.nc")
