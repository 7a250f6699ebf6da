"""What is open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def descriptors(path: Path) -> int:
    """Return how often a file is open in this process; skip the test where the system does not say."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("the system does not list what is open")
    return sum(os.path.realpath(link) == str(path) for link in folder.iterdir())
