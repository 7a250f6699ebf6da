"""Loss and layers"""

import numpy as np
import xarray as xr

import lcakit as lk


def loss():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.loss(ds, classes=True, log=True, backend="matplotlib")


def residual():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.residual(ds, backend="matplotlib")


def layers():
    runs = lk.open_runs([lk.fetch(f"mnist-fc-sgd-{seed}.nc") for seed in range(3)])
    return lk.plot.layers(runs, lca="lca_unit_class", backend="matplotlib")


def layers_over_time():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.layers_over_time(ds, backend="matplotlib")


def layer_map():
    ds = lk.open_trajectory(lk.fetch("digits-resnet8w8-plain-0.nc"))
    return lk.plot.layer_map(ds, lca="lca_unit_class", backend="matplotlib")


def delays():
    delays = [0, 3, 6, 9]
    runs = [lk.open_trajectory(lk.fetch(f"digits-resnet8w8-delay-{delay}-0.nc")) for delay in delays]
    lca = [lk.layers.layer_lca(run, lca="lca_unit_class").sum(["iteration"], keep_attrs=True) for run in runs]
    ends = xr.concat(lca, "run").isel(layer=[0, -1])
    return lk.plot.delays(np.array(delays), ends, backend="matplotlib")
