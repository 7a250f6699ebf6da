"""Datasets that must be the same."""

from __future__ import annotations

import numpy as np
import xarray as xr


def assert_same(got: xr.Dataset, expected: xr.Dataset) -> None:
    """Same numbers, types, labels and attributes (strings may come back as objects)."""
    assert set(got.data_vars) == set(expected.data_vars)
    assert set(expected.coords) <= set(got.coords)
    for name in expected.variables:
        assert got[name].dims == expected[name].dims
        assert np.array_equal(got[name].values, expected[name].values), name
        if expected[name].dtype.kind != "U":
            assert got[name].dtype == expected[name].dtype, name
        assert expected[name].attrs.items() <= got[name].attrs.items()
    assert got.attrs == expected.attrs
