"""One run with every series and its statistics, and the same run with statistics alone."""

from __future__ import annotations

import pytest

from tests.support.running import record


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Everything of one run: the series, and the statistics beside them."""
    return record(tmp_path_factory.mktemp("whole") / "run.nc", ("theta", "gradient", "lca"), statistics=True).load()


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    return record(tmp_path_factory.mktemp("small") / "run.nc").load()
