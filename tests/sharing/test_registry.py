"""The files in data/ are what the registry and the guide say, and small enough to lie in a repository."""

from __future__ import annotations

import hashlib
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

import lcakit as lk
from lcakit.experiments.declared import EXPERIMENTS
from lcakit.sharing.fetching import REGISTRY, read_registry

DATA = Path(__file__).parents[2] / "data"
FILES = sorted(path.name for path in DATA.glob("*.nc"))
TABLES = sorted(path.name for path in DATA.glob("*.csv"))


def test_the_registry_names_every_file():
    assert DATA / "registry.txt" == REGISTRY
    assert sorted(read_registry()) == sorted([*FILES, *TABLES])
    assert sum((DATA / name).stat().st_size for name in [*FILES, *TABLES]) < 60e6


def check_bytes(name: str) -> Path:
    """Check that a file is the one of the registry, and that the guide has it; return its path."""
    path = lk.fetch(name)
    assert path == DATA / name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == read_registry()[name].sha256
    told = re.findall(r"`([^`]*\.(?:nc|csv))`", (DATA / "README.md").read_text())
    assert any(fnmatch(name, pattern) for pattern in told)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_it_says(name):
    path = check_bytes(name)
    assert lk.validate(path, quiet=True).ok
    assert "lcakit" in lk.describe(path).facts["created_by"]  # the command that made it


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_of_the_experiment_that_the_guide_says(name):
    columns = check_bytes(name).read_text().splitlines()[0].split(",")
    experiment = EXPERIMENTS[re.sub(r"^digits-(fc-)?|(-effects)?\.csv$", "", name)]
    several = {"overfitting": "p_none", "patterns": "final_loss_sd", "pruning": "retrained_loss_p"}
    several |= {"networks": "never", "hyperparameters-resnet": "iterations_per_turn"}
    assert several[experiment.name] in columns or "effect_sd" in columns
