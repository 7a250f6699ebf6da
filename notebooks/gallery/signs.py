"""Who helps and who hurts"""

import lcakit as lk


def help_hurt_zero():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.help_hurt_zero(ds, window=5, backend="matplotlib")


def fractions():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.fractions(ds, backend="matplotlib")


def fraction_helping():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.fraction_helping(ds, backend="matplotlib")


def helping_by_window():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.helping_by_window(ds, backend="matplotlib")


def helped_histogram():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.helped_histogram(ds, backend="matplotlib")


def signs_per_class():
    ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
    return lk.plot.signs_per_class(ds, backend="matplotlib")
