"""The trajectories in data/ are what the registry and the guide say, and small enough to lie in a repository."""

from __future__ import annotations

import hashlib
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

import lcakit as lk
from lcakit.sharing.fetching import REGISTRY, read_registry

DATA = Path(__file__).parents[2] / "data"
FILES = sorted(path.name for path in DATA.glob("*.nc"))


def test_the_registry_names_every_file():
    assert DATA / "registry.txt" == REGISTRY
    assert sorted(read_registry()) == FILES
    assert sum((DATA / name).stat().st_size for name in FILES) < 60e6


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_it_says(name):
    path = lk.fetch(name)
    assert path == DATA / name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == read_registry()[name].sha256
    assert lk.validate(path, quiet=True).ok
    assert "lcakit" in lk.describe(path).facts["created_by"]  # the command that made it
    told = re.findall(r"`([^`]*\.nc)`", (DATA / "README.md").read_text())
    assert any(fnmatch(name, pattern) for pattern in told)
