"""Pictures of layers show their sums of LCA, over the run and over time."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.testing import tiny_trajectory
from tests.support.pictures import DS, IMAGES, RUNS, columns, hv, marks, named, pixels, plot


def test_bars_are_the_lca_of_layers_in_the_colours_of_their_signs():
    ds = DS.assign(lca=xr.where(DS["layer_index"] == 2, -DS["lca"], DS["lca"]).transpose("iteration", "parameter"))
    bars = named(plot.layers(ds), hv.Rectangles)
    totals = lk.layers.layer_lca(ds).sum("iteration").compute()
    assert set(bars) == {"helping", "hurting"}
    for name, element in bars.items():
        expected = totals[totals < 0] if name == "helping" else totals[totals > 0]
        np.testing.assert_allclose(columns(element)[3], expected)
        style = hv.Store.lookup_options("bokeh", element, "style").kwargs
        assert style["color"] == plot.sign_colours()[name]


def test_error_bars_are_the_confidence_interval_over_runs():
    summary = lk.runs.summary(lk.layers.layer_lca(RUNS).sum("iteration")).compute()
    (bars,) = marks(plot.layers(RUNS), hv.ErrorBars)
    _, middle, below, above = columns(bars)
    np.testing.assert_allclose(middle - below, summary["low"])
    np.testing.assert_allclose(middle + above, summary["high"])


def test_layers_of_different_networks_are_refused():
    with pytest.raises(ValueError, match="the same layers"):
        plot.layers({"a": DS, "b": IMAGES})


def test_curves_and_stacks_end_at_the_sum_of_lca():
    totals = lk.layers.layer_lca(DS).sum("iteration").compute()
    for window in (1, 5):
        lines = named(plot.layers_over_time(DS, window=window), hv.Curve)
        np.testing.assert_allclose([columns(lines[str(name)])[1][-1] for name in totals["layer"].values], totals)
    edges = [columns(area) for area in marks(plot.layers_over_time(DS, stacked=True), hv.Area)]
    ends = [(upper[-1], lower[-1]) for _, lower, upper in edges]
    np.testing.assert_allclose(sum(a - b for a, b in ends), totals.sum())


def test_a_long_run_is_reduced_and_keeps_its_outlier():
    ds = tiny_trajectory(3000)
    lca = ds["lca"].copy()
    lca[1234] = 100.0
    shown = pixels(plot.layer_map(ds.assign(lca=lca)))
    assert shown.shape[1] <= 1000
    assert shown.max() == pytest.approx(float(lk.layers.layer_lca(ds.assign(lca=lca)).max()))


@pytest.mark.parametrize("blocks", [None, [0, 0, 0, 1, 1, 1, 1], "seed"])
def test_lines_against_a_delay_are_those_of_the_trend(blocks):
    """Seeds with different delays: what differs between the seeds is no trend."""
    runs = lk.runs.align({f"run {n}": tiny_trajectory(4, seed=n) for n in range(7)})
    delays, seeds = [0, 1, 2, 5, 6, 8, 9], [0, 0, 0, 1, 1, 1, 1]
    runs = runs.assign_coords(seed=("run", seeds)).assign(lca=runs["lca"] + 0.01 * xr.DataArray(seeds, dims="run"))
    trend = lk.layers.layer_trend(runs, delays, blocks=blocks).compute()
    lca = lk.layers.layer_lca(runs).sum("iteration")
    lines = [
        curve for name, curve in named(plot.delays(delays, lca, blocks=blocks), hv.Curve).items() if "slope" in name
    ]
    assert len(lines) == trend.sizes["layer"]
    for curve, slope, intercept in zip(lines, trend["slope"].values, trend["intercept"].values, strict=True):
        x, y = columns(curve)
        np.testing.assert_allclose(np.diff(y) / np.diff(x), slope)
        np.testing.assert_allclose(y, intercept + slope * x)
        assert float(curve.label.rpartition(" ")[2].replace("\N{MINUS SIGN}", "-")) == pytest.approx(slope, rel=0.06)
