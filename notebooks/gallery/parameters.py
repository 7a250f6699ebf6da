"""Single parameters, units and how they move"""

import lcakit as lk


def parameter_map():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.parameter_map(ds, "fc1", iteration=slice(0, 50), backend="matplotlib")


def unit_map():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.unit_map(ds, "fc2", backend="matplotlib")


def cumulative():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.cumulative(ds, units=[0, 1, 2, 3], layer="fc3", backend="matplotlib")


def turns():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.turns(ds, backend="matplotlib")


def detail():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.detail(ds, "fc3.weight[7, 12]", backend="matplotlib")


def phase_lag():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.phase_lag(ds, backend="matplotlib")
