"""Pictures of the loss: rebuilt from LCA, with the residual of every iteration."""

from __future__ import annotations

import numpy as np

from tests.support.pictures import DS, columns, hv, named, plot


def test_the_loss_is_rebuilt_from_lca():
    lines = named(plot.residual(DS), hv.Curve)
    rebuilt = float(DS["loss"][0]) + np.append(0, np.cumsum(DS["lca"].sum("parameter", dtype=np.float64)))
    np.testing.assert_allclose(columns(lines["sum of LCA"])[1], rebuilt, rtol=1e-5)
    np.testing.assert_allclose(columns(lines["loss"])[1], DS["loss"])


def test_iterations_over_tolerance_are_marked():
    picture = plot.residual(DS.assign(residual=DS["residual"] + (DS["iteration"] == 7)))
    dots = named(picture, hv.Scatter)
    np.testing.assert_array_equal(columns(dots["over tolerance"])[0], [7])


def test_residuals_of_another_objective_are_held_against_its_own_tolerance():
    both = DS.assign(loss_val=DS["loss"], residual_val=DS["residual"] + (DS["iteration"] == 7))
    assert "over tolerance" in named(plot.residual(both, "val"), hv.Scatter)
    assert "over tolerance" not in named(plot.residual(both.assign_attrs(tolerance_val=2.0), "val"), hv.Scatter)
