from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr

from lcakit.landscapes.wedges import (
    connect_all,
    geometry,
    short_directions,
)
from tests.support.points import support


@pytest.fixture(scope="module")
def connector(surface, found) -> xr.Dataset:
    return connect_all(surface, found)


def test_connector_of_four_optima_is_free_of_loss(surface, found, connector):
    assert connector["flat"].mean() > 0.1
    assert connector["connector"].max() < 1e-8
    assert connector.sizes["subset"] == 2**4 - 1
    assert connector["subset"].values[[0, 4, -1]].tolist() == ["0", "0-1", "0-1-2-3"]
    assert connector["size"].values[[0, 4, -1]].tolist() == [1, 2, 4]
    np.testing.assert_array_equal(connector["theta"][:4], found)
    np.testing.assert_allclose(connector["loss"], 0, atol=1e-10)


def test_every_piece_of_the_connector_is_low(connector):
    vertex = dict(zip(connector["subset"].values.tolist(), connector["theta"].values, strict=True))
    rng = np.random.default_rng(5)
    for order in itertools.permutations(range(4)):
        corners = [vertex["-".join(map(str, sorted(order[:k])))] for k in range(1, 5)]
        points = rng.dirichlet(np.ones(4), size=20) @ np.array(corners)
        assert geometry.loss(points, 30).max() < 1e-8


def test_short_directions_are_those_where_wedges_meet(surface, found, connector):
    counts = short_directions(surface, connector)
    wedges_ = support(found)
    expected = [60 - wedges_[[int(k) for k in name.split("-")]].all(0).sum() for name in counts["subset"].values]
    assert np.abs(counts.values - expected).max() <= 2  # a centre may have a coordinate that happens to be zero
    by_size = counts.groupby("size").mean().values
    assert by_size[0] == 30
    assert (np.diff(by_size) > 0).all()
    theory = [geometry.expected_short_directions(60, 30, n) for n in range(1, 5)]
    np.testing.assert_allclose(by_size, theory, rtol=0.1)


def test_connector_errors(surface, found):
    with pytest.raises(ValueError, match=r"2 to 6 optima .* got 1"):
        connect_all(surface, found[:1])
    with pytest.raises(ValueError, match="got 7"):
        connect_all(surface, np.zeros((7, 60)))
    with pytest.raises(ValueError, match=r"several points \(N, D\)"):
        connect_all(surface, found[0])
    with pytest.raises(ValueError, match="rays must be at least 1"):
        connect_all(surface, found[:2], rays=0)
