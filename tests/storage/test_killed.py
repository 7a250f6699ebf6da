from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import lcakit as lk
from lcakit.storage.paths import partial_path
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
