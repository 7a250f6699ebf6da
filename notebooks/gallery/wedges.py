"""Toy landscapes: the wedges"""

import lcakit as lk
from lcakit.landscapes import named


def paths():
    _, connected = named.run("wedges", "paths")
    return lk.plot.wedges.paths(connected, backend="matplotlib")


def reachable():
    _, loss = named.run("wedges", "planes")
    return lk.plot.wedges.reachable({"wedges": loss}, {"wedges": 30}, backend="matplotlib")


def cut():
    _, loss = named.run("wedges", "cut")
    return lk.plot.wedges.cut(loss, backend="matplotlib")


def spectrum():
    _, eigenvalues = named.run("wedges", "spectrum")
    return lk.plot.wedges.spectrum(eigenvalues, {"wedges": 30}, backend="matplotlib")


def radius():
    _, effect = named.run("wedges", "radius", repeats=2)
    return lk.plot.wedges.radius(effect, backend="matplotlib")


def short_directions():
    _, short = named.run("wedges", "short")
    expected = short["expected"].groupby("size").mean()
    return lk.plot.wedges.short_directions(short["short_directions"], expected, backend="matplotlib")


def averages():
    _, averaged = named.run("wedges", "averages")
    return lk.plot.wedges.averages(averaged, backend="matplotlib")


def label_changes():
    _, changes = named.run("wedges", "labels", examples=100)
    return lk.plot.wedges.label_changes(changes, backend="matplotlib")
