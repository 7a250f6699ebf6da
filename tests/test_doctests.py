"""The examples in docstrings run and say the truth, in every module of the package."""

from __future__ import annotations

import doctest
import re
from pkgutil import iter_modules

import pytest

import lcakit

ELSEWHERE = ("lcakit.sharing.importers.arrays", "lcakit.landscapes.wedges", "lcakit.plot")
"""Modules, and packages with all of theirs, whose examples are run by their own tests."""

NEEDS = {"lcakit.experiments.data": "sklearn", "lcakit.experiments.subsets": "sklearn"}
"""Optional packages that examples need, where importing their module does not."""

REPORTS = ("lcakit.views.report.writing",)
"""Modules whose examples write a report: without painting its thirty pictures, as other tests do."""


def with_examples(path, prefix="lcakit."):
    """Yield the names of the modules that have examples to run; none is imported."""
    for finder, name, is_package in iter_modules(path, prefix):
        spec = finder.find_spec(name)
        if re.search(r"^ *>>> (?!.*\+SKIP)", spec.loader.get_source(name), re.MULTILINE):
            yield name
        if is_package:
            yield from with_examples(spec.submodule_search_locations, f"{name}.")


def runs_elsewhere(name):
    return any(f"{name}.".startswith(f"{room}.") for room in ELSEWHERE)


ROOMS = [name for name in with_examples(lcakit.__path__) if not runs_elsewhere(name)]


@pytest.mark.parametrize("name", ROOMS)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    if name in REPORTS:
        pytest.importorskip("holoviews")
        from tests.support.pages import unpainted

        unpainted(monkeypatch)
    failed, tried = doctest.testmod(pytest.importorskip(name))
    assert tried
    assert failed == 0
