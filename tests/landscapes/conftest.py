"""Wedges and some of their optima, found once for all tests that look at them."""

from __future__ import annotations

import pytest
import xarray as xr

from lcakit.landscapes.wedges import Wedges, optima


@pytest.fixture(scope="session")
def surface() -> Wedges:
    return Wedges(60, 30)


@pytest.fixture(scope="session")
def found(surface) -> xr.DataArray:
    return optima(surface, 4)
