from __future__ import annotations

import os
import warnings
from pathlib import Path

import dask
import numpy as np
import pytest

import lcakit as lk
from lcakit.storage.paths import partial_path
from tests.support import forked, killed, killed_work


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_twenty_random_moments_equals_uninterrupted(tmp_path):
    forked.run(killed.main, str(tmp_path))
    a, b = lk.open_trajectory(tmp_path / "killed.nc"), lk.open_trajectory(tmp_path / "whole.nc")
    assert a.sizes["iteration"] == killed.STEPS
    for name in b.data_vars:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=str(name))
    assert not partial_path(tmp_path / "killed.nc").exists()


def few(kind: str, folder: Path) -> None:
    warnings.simplefilter("ignore")
    with dask.config.set(scheduler="synchronous"):
        killed_work.campaign(kind, 3, folder)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", sorted(killed_work.WORK))
def test_killed_work_loses_nothing_that_was_finished(kind, tmp_path):
    """A few kills of each kind; ``python -m tests.support.killed_work`` does a hundred."""
    forked.run(few, kind, tmp_path)
