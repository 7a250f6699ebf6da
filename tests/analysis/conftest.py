"""The tests of studies compute in the thread of the test: their data is tiny, and threads cost more than they save."""

from __future__ import annotations

from collections.abc import Iterator

import dask
import pytest

ON_OTHER_SCHEDULERS = ("test_compute",)
"""Files about how things are computed, with threads and on a cluster."""


@pytest.fixture(autouse=True, scope="module")
def _synchronous(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.module.__name__.rpartition(".")[2] in ON_OTHER_SCHEDULERS:
        yield
        return
    with dask.config.set(scheduler="synchronous"):
        yield
