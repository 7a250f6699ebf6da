"""Which runs may be averaged: those that differ in chance only."""

from __future__ import annotations

import pytest
import xarray as xr

import lcakit as lk
from lcakit.trajectory.configurations import configurations, require_alike
from lcakit.trajectory.provenance import with_config


def run(**config):
    return with_config(xr.Dataset(), {"rate": 0.1, **config})


def frozen(at):
    return run(interventions=[{"layer": "fc", "freeze": at}])


def test_iterations_of_freezing_that_each_run_found_are_of_one_configuration():
    runs = {
        "fc-argmin-0": frozen(3),
        "fc-argmin-1": frozen(7),
        "fc-frozen-0": frozen("start"),
        "fc-plain-0": run(seed=1),
    }
    assert configurations(runs) == {
        "argmin": ["fc-argmin-0", "fc-argmin-1"],
        "frozen": ["fc-frozen-0"],
        "plain": ["fc-plain-0"],
    }


def test_iterations_of_freezing_under_other_names_are_other_configurations():
    assert list(configurations({"fc-early-0": frozen(3), "fc-late-0": frozen(70)})) == ["early", "late"]


@pytest.mark.parametrize(("names", "alike"), [(["argmin-0", "argmin-1"], True), (["early-0", "late-0"], False)])
def test_an_average_is_of_one_configuration(names, alike):
    ds = xr.concat([frozen(3), frozen(7)], xr.Variable("run", names))
    if alike:
        require_alike(ds)
    else:
        with pytest.raises(lk.TrajectoryError, match="2 configurations"):
            require_alike(ds)
