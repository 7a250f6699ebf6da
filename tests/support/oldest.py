"""The core tests on the oldest versions that lcakit allows: ``python -m tests.support.oldest [FOLDER] [TESTS …]``.

It makes a virtual environment in the folder (``build/oldest`` if none is given; one that is there is used again), with
the versions of ``constraints-oldest.txt``, and runs the tests that are not marked slow, or those that are named. On
Linux this downloads an old PyTorch with its CUDA libraries, so it is run now and then, and before a release.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints-oldest.txt"
EXTRAS = ("record", "lab", "share", "transformers", "lightning")
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "nbclient", "nbformat", "playwright")
NEWEST = ("tests/test_architecture.py", "tests/test_book.py", "tests/test_wheel.py")
"""Tests of the repository itself: they need the tools that build and check it, of whatever version."""


def bounds() -> dict[str, str]:
    """Return the oldest allowed version of each dependency, as pyproject.toml states it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    stated = [*project["dependencies"], *(one for extra in EXTRAS for one in optional[extra])]
    found = (re.fullmatch(r"([\w.-]+)(?:\[[^]]*\])?>=([\w.]+)", one) for one in stated)
    return {match[1].lower(): match[2] for match in found if match}


def main(folder: Path, tests: list[str]) -> int:
    """Make the environment where it lacks, run the tests in it, and return the status of pytest."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    package = f"{ROOT}[{','.join(EXTRAS)}]"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", CONSTRAINTS, "-e", package, *TOOLS], check=True)
    chosen = tests or ["-m", "not slow", *(f"--ignore={path}" for path in NEWEST)]
    return subprocess.run([python, "-m", "pytest", "-q", *chosen], cwd=ROOT).returncode


if __name__ == "__main__":
    where, *named = sys.argv[1:] or ["build/oldest"]
    sys.exit(main((ROOT / where).resolve(), named))
