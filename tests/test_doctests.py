"""The examples in docstrings run and say the truth."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import lcakit.analysis

ROOMS = [f"lcakit.analysis.{m.name}" for m in pkgutil.iter_modules(lcakit.analysis.__path__)]
ROOMS += ["lcakit.computing", "lcakit.summary"]
ROOMS += ["lcakit.reporting.writing", "lcakit.animation.making", "lcakit.explorer.app"]


@pytest.mark.parametrize("name", ROOMS)
def test_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0
