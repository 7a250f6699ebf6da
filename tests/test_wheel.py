"""The wheel holds what the commands, the notebooks and ``lk.fetch`` need, and works without the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with what the wheel puts into ``site-packages``."""
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    return folder


def run(installed: Path, where: Path, *arguments: str) -> str:
    """Run Python in a folder outside the repository, with the installed lcakit before any other."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=where, env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_the_wheel_holds_the_package_its_files_and_nothing_else(wheel):
    names = set(wheel.namelist())
    in_package = {f"lcakit/{path.relative_to(ROOT / 'lcakit')}" for path in (ROOT / "lcakit").rglob("*.py")}
    in_package |= {f"lcakit/notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    files = [path for path in (ROOT / "data").rglob("*") if path.is_file()]
    in_package |= {f"lcakit/data/{path.relative_to(ROOT / 'data')}" for path in files}
    in_package |= {"lcakit/py.typed", "lcakit/notebooks/README.md", "lcakit/notebooks/FIGURES.md"}
    assert {name for name in names if name.startswith("lcakit/")} == in_package
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"lcakit"}


def test_recorded_files_are_found_without_the_repository(installed, tmp_path):
    code = "import lcakit as lk; ds = lk.open_trajectory(lk.fetch('digits-fc.nc')); print(lk.__file__, ds.encoding)"
    assert run(installed, tmp_path, "-c", code).count(str(installed)) == 2


def test_lab_copies_the_notebooks_without_the_repository(installed, tmp_path):
    said = run(installed, tmp_path, "-m", "lcakit.cli", "lab", "work", "--no-start")
    originals = {path.name for path in (installed / "lcakit" / "notebooks").iterdir()} | {"contents.ipynb"}
    assert {path.name for path in (tmp_path / "work").iterdir()} == originals
    assert f"{len(originals)} files copied" in said


def test_files_are_analysed_where_torch_and_panel_cannot_be_imported(installed, tmp_path):
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "panel", "bokeh", "jupyterlab"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import lcakit as lk
ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))
print(lk.validate(ds, groups=["structure"]).ok, float(lk.layers.layer_lca(ds).sum()) < 0)
"""
    assert run(installed, tmp_path, "-c", code).split() == ["True", "True"]
