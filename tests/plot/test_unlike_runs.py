"""Runs of several configurations are not averaged as if they differed in chance only."""

from __future__ import annotations

import pytest

pytest.importorskip("holoviews")

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.join import join
from lcakit.trajectory.provenance import with_config
from tests.support.pictures import plot


def joined(*configs):
    return join({f"run-{n}": with_config(tiny_trajectory(8, seed=n), one) for n, one in enumerate(configs)})


UNLIKE = joined({"rate": 0.1, "seed": 0}, {"rate": 0.2, "seed": 1})


@pytest.mark.parametrize(
    "draw",
    [
        plot.layers,
        plot.layers_over_time,
        plot.loss,
        plot.help_hurt_zero,
        plot.fraction_helping,
        plot.turns,
        plot.phase_lag,
        plot.specialized_fraction,
        lambda ds: plot.class_curves(ds, 0),
        lambda ds: plot.layers({"all": ds}),
        lambda ds: ds.lk.plot.layers(),
    ],
)
def test_pictures_that_average_refuse_them(draw):
    with pytest.raises(lk.TrajectoryError, match=r"of 2 configurations.*run-0 \(1\), run-1 \(1\).*ds\.sel\(run="):
        draw(UNLIKE)


def test_runs_that_differ_in_chance_only_are_averaged():
    first = {"rate": 0.1, "seed": 0, "threads": 2}
    alike = joined(first, {"rate": 0.1, "seed": 7, "interventions": [], "validation_examples": None})
    assert plot.layers(alike)
    assert plot.loss(alike)


def test_one_configuration_of_several_is_drawn():
    assert plot.layers(UNLIKE.isel(run=[0]))
    assert plot.layers({"first": UNLIKE.isel(run=[0]), "second": UNLIKE.isel(run=[1])})


def test_runs_of_which_nothing_is_stored_are_taken_as_given():
    assert plot.layers(join({name: tiny_trajectory(8, seed=n) for n, name in enumerate(("plain", "frozen"))}))
