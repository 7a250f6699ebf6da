"""Images: their axes and the ends of their colours are those given, and zero is white."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("holoviews")

from lcakit.plot._images import image
from lcakit.plot._marks import load
from tests.support.pictures import BACKENDS, DS, hv, plot


@pytest.mark.parametrize("backend", BACKENDS)
def test_axes_of_an_image_are_its_rows_and_columns(backend):
    figure = hv.render(plot.parameter_map(DS, "fc", backend=backend), backend=backend)
    if backend == "bokeh":
        x, y = ((axis.start, axis.end) for axis in (figure.x_range, figure.y_range))
    else:
        x, y = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert (x, y) == ((-0.5, 5.5), (3.5, -0.5))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_ends_of_a_colour_scale_can_be_given(backend):
    drawn = hv.renderer(backend).get_plot(plot.parameter_map(DS, "fc", limits=(-2.0, 3.0), backend=backend))
    if backend == "bokeh":
        mapper = drawn.handles["color_mapper"]
        ends = mapper.low, mapper.high
    else:
        ends = drawn.handles["artist"].get_clim()
    assert ends == (-2.0, 3.0)


@pytest.mark.slow
def test_zero_is_white_and_an_all_zero_layer_is_drawn():
    load("matplotlib")
    values = np.array([[-3.0, 0.0], [1.0, np.nan]])
    for shown in (values, np.zeros((2, 2))):
        picture = image("matplotlib", [shown], (0, 0, 2, 2), ("x", "y"), ["value"])
        artist = hv.render(picture, backend="matplotlib").axes[0].images[0]
        colours = artist.cmap(artist.norm(np.asarray(artist.get_array())))
        np.testing.assert_array_equal(colours[np.asarray(artist.get_array()) == 0], [[1, 1, 1, 1]] * (shown == 0).sum())
    mapper = hv.renderer("bokeh").get_plot(plot.layer_map(DS * 0)).handles["color_mapper"]
    assert (mapper.low, mapper.high, mapper.palette[127]) == (-1, 1, "#ffffff")
