from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import lcakit as lk
from lcakit.storage.paths import partial_path
from tests.support import killed_work
from tests.support.killed import STEPS, record


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_twenty_random_moments_equals_uninterrupted(tmp_path):
    killed, whole = tmp_path / "killed.nc", tmp_path / "whole.nc"
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed", str(killed)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record(str(whole))
    a, b = lk.open_trajectory(killed), lk.open_trajectory(whole)
    assert a.sizes["iteration"] == STEPS
    for name in b.data_vars:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=str(name))
    assert not partial_path(killed).exists()


SHORT = """
import sys, warnings
from pathlib import Path
import dask
from tests.support.killed_work import campaign

warnings.simplefilter("ignore")
dask.config.set(scheduler="synchronous")
campaign(sys.argv[1], 3, Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", sorted(killed_work.WORK))
def test_killed_work_loses_nothing_that_was_finished(kind, tmp_path):
    """A few kills of each kind; ``python -m tests.support.killed_work`` does a hundred."""
    done = subprocess.run([sys.executable, "-c", SHORT, kind, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
