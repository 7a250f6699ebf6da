"""One look for all pictures: colours, labels, and what they refuse."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("holoviews")

from lcakit.plot import _colours, _style
from tests.support.pictures import curves, plot


@pytest.mark.parametrize("scheme", [*_colours.SIGNS])
def test_zero_is_exactly_white_between_helping_and_hurting(scheme):
    cmap, colours = plot.sign_cmap(scheme), plot.sign_colours(scheme)
    assert len(cmap) == 255
    assert (cmap[0], cmap[127], cmap[-1]) == (colours["helping"], "#ffffff", colours["hurting"])


def test_the_colour_scheme_can_be_chosen_for_all():
    before = plot.sign_colours()
    try:
        plot.use_colours("blue-orange")
        assert plot.sign_colours() == plot.sign_colours("blue-orange") != before
    finally:
        plot.use_colours("green-red")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.use_colours("green-rad"), "Did you mean 'green-red'"),
        (lambda: plot.sign_cmap(n=256), "odd"),
        (lambda: plot.nqm.steps_to_target(curves(), backend="plotly"), "unknown backend 'plotly'"),
        (lambda: plot.save(None, "picture.gif"), "unknown suffix of a picture '.gif'"),
        (lambda: _style.rows(xr.DataArray(np.zeros((2, 3, 4)), dims=("a", "b", "x")), "x"), "at most one more"),
        (
            lambda: _style.rows(xr.DataArray(np.zeros((99, 4)), dims=("a", "x"), coords={"a": range(99)}), "x"),
            "too many",
        ),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"long_name": "loss", "units": "nats"}, "loss (nats)"),
        ({"long_name": "steps to the target", "units": "steps"}, "steps to the target"),
        ({"units": "1"}, "some name"),
    ],
)
def test_labels_come_from_the_attributes(attrs, text):
    assert _style.label(xr.DataArray(0, name="some_name", attrs=attrs)) == text
