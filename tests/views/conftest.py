from __future__ import annotations

import pytest


@pytest.fixture
def quick(monkeypatch):
    """Reports whose pictures are drawn, but not painted."""
    from tests.support import pages  # skips the test where there is no HoloViews

    pages.unpainted(monkeypatch)
