"""SECURITY.md promises nothing that no test holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", TEXT))))
def test_the_tests_that_are_named_exist(named):
    file, _, test = named.partition("::")
    assert (ROOT / file).is_file()
    assert not test or re.search(rf"^def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_commands_that_are_named_exist():
    modules = re.findall(r"^python -m ([\w.]+)", TEXT, re.MULTILINE)
    assert len(modules) == 4
    assert all((ROOT / (module.replace(".", "/") + ".py")).is_file() for module in modules)


def test_the_limits_that_are_named_are_those_of_the_code():
    from lcakit.storage import remote
    from tests.support import fuzz

    seconds = int(remote.TIMEOUT)
    assert f"{seconds} s without a byte, {seconds * remote.PATIENCE} s for a part" in TEXT
    assert f"at most {remote.MOST_UNANNOUNCED // 2**30} GiB where it is not" in TEXT
    assert f"{fuzz.MEMORY // 2**30} GiB beyond the size of the file, and {int(fuzz.DEADLINE)} s" in TEXT
