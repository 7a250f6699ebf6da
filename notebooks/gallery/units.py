"""Layers in step, units and their classes"""

import lcakit as lk


def peaks():
    ds = lk.open_trajectory(lk.fetch("mnist-fc-sgd-0.nc"))
    return lk.plot.peaks(ds, lca="lca_unit_class", backend="matplotlib")


def correlations():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.correlations(ds, "fc2", backend="matplotlib")


def correlation_by_layer():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.correlation_by_layer(ds, backend="matplotlib")


def specialized_fraction():
    runs = lk.open_runs([lk.fetch(f"mnist-fc-sgd-{seed}.nc") for seed in range(3)])
    return lk.plot.specialized_fraction(runs, backend="matplotlib")


def class_curves():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.class_curves(ds, 7, "fc2", backend="matplotlib")


def saliency():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.saliency(ds, [0, 3, 5, 7, 8, 10], "fc1", shape=(8, 8), backend="matplotlib")
