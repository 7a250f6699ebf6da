"""Distributions of LCA and their tails count every value."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import lcakit as lk
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


@pytest.mark.parametrize("zoom", [0.5, 0.99, 1])
def test_the_zoomed_histogram_is_a_density_of_the_values_it_shows(zoom):
    values = DS["lca"].values
    values = values[values != 0]
    boxes = {name: columns(box) for name, box in named(plot.lca_histogram(DS, zoom=zoom), hv.Rectangles).items()}
    left, _, right, height = (np.concatenate(parts) for parts in zip(*boxes.values(), strict=True))
    shown = (values >= left.min()) & (values <= right.max())
    assert shown.mean() >= zoom
    np.testing.assert_allclose((height * (right - left)).sum(), shown.mean())
    helping = boxes["helping"]
    np.testing.assert_allclose((helping[3] * (helping[2] - helping[0])).sum(), (shown & (values < 0)).mean())


def test_the_line_over_it_is_the_fitted_distribution():
    fits = lk.tails.fit_tails(lk.tails.histogram(DS)).sel(model="weibull")
    lines = named(plot.lca_histogram(DS, zoom=0.9), hv.Curve)
    n = int((DS["lca"] != 0).sum())
    for name, side in (("helping", -1), ("hurting", 1)):
        k, scale, part = (float(fits[value].sel(outcome=name)) for value in ("shape", "scale", "n"))
        x, density = columns(lines[f"Weibull, k = {k:.3g}"])
        assert (side * x > 0).all()
        expected = part / n * stats.weibull_min(k, scale=scale).pdf(side * x)
        np.testing.assert_allclose(density, expected, rtol=1e-9)


@pytest.mark.parametrize("zoom", [0, -0.1, 1.01, 99])
def test_a_zoom_is_a_share(zoom):
    with pytest.raises(ValueError, match=r"above 0 and at most 1, got"):
        plot.lca_histogram(DS, zoom=zoom)


def test_a_few_values_next_to_nothing_leave_no_gap(rng):
    """One value in two thousand is tiny: it is left out, and the title says so."""
    values = rng.choice([-1.0, 1.0], (20, DS.sizes["parameter"] * 100)) * rng.uniform(1e-6, 1e-4)
    size = values.size
    values.reshape(-1)[: size // 2000] = 1e-30
    columns_of = ("iteration", "parameter")
    histogram = lk.tails.histogram(xr.Dataset({"lca": (columns_of, values)}))
    picture = plot.lca_histogram(histogram)
    left = np.concatenate([columns(named(picture, hv.Rectangles)[name])[0] for name in ("helping", "hurting")])
    assert np.abs(left).max() < 1  # within a factor of ten of the middle
    title = hv.render(picture, backend="bokeh").title.text
    assert "0 % are exactly zero, 0.05 % smaller than" in title
