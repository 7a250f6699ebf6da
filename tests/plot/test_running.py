"""Cumulative curves of parameters: many are two marks, too many are refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.pictures import DS, hv, marks, named, plot


def test_many_curves_are_two_marks_and_too_many_are_refused():
    picture = plot.cumulative(DS)
    paths = marks(picture, hv.Path)
    assert len(paths) == 2
    totals = DS["lca"].sum("iteration", dtype=np.float64).values
    assert sum(len(path.split()) for path in paths) == (totals != 0).sum()
    wide = tiny_trajectory(2, layers=(TensorSpec("w", (100, 60), "kernel", "w", "linear"),))
    with pytest.raises(ValueError, match=re.escape("6000 curves are too many for one picture (at most 5000). Select")):
        plot.cumulative(wide)
    assert len(named(plot.cumulative(wide, parameters=["w[3, 4]", 7]), hv.Curve)) == 2
