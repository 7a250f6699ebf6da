"""How LCA is distributed"""

import lcakit as lk


def lca_histogram():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.lca_histogram(ds, backend="matplotlib")


def tail_fits():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.tail_fits(ds, outcome="helping", backend="matplotlib")


def kurtosis():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.kurtosis(ds, backend="matplotlib")
