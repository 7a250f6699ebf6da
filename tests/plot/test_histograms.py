"""Distributions of LCA and their tails count every value."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.pictures import DS, columns, hv, named, plot


@pytest.mark.parametrize(("by", "outcome"), [(None, "both"), (None, "hurting")])
def test_the_tail_counts_values_beyond_each_magnitude(by, outcome):
    x, share = columns(named(plot.tail_fits(DS, outcome), hv.Scatter)["recorded"])
    values = DS["lca"].values
    values = np.abs(values[values != 0] if outcome == "both" else values[values > 0])
    np.testing.assert_allclose(share, [(values >= edge).mean() for edge in x])


def test_the_histogram_counts_every_value_that_is_not_zero():
    picture = plot.lca_histogram(DS)
    for name, sign in (("helping", -1), ("hurting", 1)):
        left, _, right, height = columns(named(picture, hv.Rectangles)[name])
        assert (sign * left >= 0).all()
        count = (height * (right - left) / np.log10(2)).sum()
        assert round(count) == int((np.sign(DS["lca"]) == sign).sum())
