"""The core tests on the oldest versions that lcakit allows: ``python -m tests.support.oldest [FOLDER] [TESTS …]``.

It makes a virtual environment in the folder (``build/oldest`` if none is given; one that is there is used again), with
the versions of ``constraints-oldest.txt``, and runs a set of tests in which every dependency is used, or those that
are named. On Linux this downloads an old PyTorch with its CUDA libraries, so it is run now and then, and before a
release.
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
TOOLS = ("h5py", "pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "nbclient", "nbformat", "playwright")
CORE = """
trajectory plot/test_pictures.py plot/test_studies.py plot/test_saving.py views/test_explore.py views/test_report.py
storage/test_opening.py storage/test_saving.py storage/test_zarr.py storage/test_remote.py storage/test_segments.py
analysis/test_compute.py analysis/test_layers.py analysis/test_noise.py analysis/test_tables.py analysis/test_tails.py
record/test_recorder.py record/test_objective.py record/test_resume.py record/test_statistics.py record/callbacks
sharing/test_fetch.py sharing/test_interop_hdf5.py sharing/test_rounding.py sharing/test_share.py test_import.py
"""
"""Tests in which every dependency is used."""


def bounds() -> dict[str, str]:
    """Return the oldest allowed version of each dependency, as pyproject.toml states it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    stated = [*project["dependencies"], *(one for extra in EXTRAS for one in optional[extra])]
    found = (re.fullmatch(r"([\w.-]+)(?:\[[^]]*\])?>=([\w.]+)(?:;.*)?", one) for one in stated)
    return {match[1].lower(): match[2] for match in found if match}


def main(folder: Path, tests: list[str]) -> int:
    """Make the environment where it lacks, run the tests in it, and return the status of pytest."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    package = f"{ROOT}[{','.join(EXTRAS)}]"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", CONSTRAINTS, "-e", package, *TOOLS], check=True)
    chosen = tests or ["-m", "not slow", *(f"tests/{path}" for path in CORE.split())]
    quiet = ["-W", "ignore:numpy.ndarray size changed"]  # wheels that were made with numpy 2 say so under numpy 1.26
    return subprocess.run([python, "-m", "pytest", "-q", *quiet, *chosen], cwd=ROOT).returncode


if __name__ == "__main__":
    where, *named = sys.argv[1:] or ["build/oldest"]
    sys.exit(main((ROOT / where).resolve(), named))
