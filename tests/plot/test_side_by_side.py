"""Two pictures on one page: each keeps its own axes, added or in a row of Panel."""

from __future__ import annotations

import holoviews as hv
import panel as pn
import pytest
from bokeh.models import Plot

from lcakit import plot
from lcakit.testing import tiny_trajectory

DS = tiny_trajectory(40)
LONG = tiny_trajectory(90, seed=1)
LONG = LONG.assign(loss=1000 * LONG["loss"])

PAIRS = {
    "heat maps": lambda: (plot.layer_map(DS), plot.unit_map(DS, "fc")),
    "lines of one quantity": lambda: (plot.loss(DS), plot.loss(LONG)),
    "lines and areas": lambda: (plot.layers_over_time(DS, stacked=True), plot.layers_over_time(LONG)),
    "parameters": lambda: (plot.parameter_map(DS, "fc"), plot.parameter_map(DS, "conv1")),
    "bars": lambda: (plot.layers(DS), plot.layers(LONG)),
    "histograms": lambda: (plot.lca_histogram(DS), plot.lca_histogram(LONG)),
    "a layout and a picture": lambda: (plot.residual(DS), plot.loss(LONG)),
}


def ranges(model):
    """Return the ends of the axes of all figures, in an order of their own."""
    figures = list(model.select({"type": Plot}))
    own = {one.id for figure in figures for one in (figure.x_range, figure.y_range)}
    assert len(own) == 2 * len(figures)
    ends = [[float(end) for axis in (f.x_range, f.y_range) for end in (axis.start, axis.end)] for f in figures]
    return sorted(ends)


@pytest.fixture(autouse=True)
def bokeh(monkeypatch):
    """Panel draws with the current backend, which another test may have chosen."""
    monkeypatch.setattr(hv.Store, "current_backend", "bokeh")


@pytest.mark.sampled
@pytest.mark.parametrize("kind", PAIRS)
def test_each_keeps_its_axes(kind):
    pair = PAIRS[kind]()
    alone = sorted(end for one in pair for end in ranges(hv.render(one, backend="bokeh")))
    assert ranges(hv.render(pair[0] + pair[1], backend="bokeh")) == alone
    assert ranges(pn.Row(*pair).get_root()) == alone
