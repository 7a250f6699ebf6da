"""Every notebook runs from top to bottom, shows what it promises, and is committed without outputs."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

from lcakit.packages import EXTRAS
from lcakit.sharing.fetching import REGISTRY

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SETUP = [  # both load their scripts from a CDN without inline=True, and show nothing offline
    "import holoviews as hv",
    "import panel as pn",
    "pn.extension(inline=True)",
    'hv.extension("bokeh", inline=True)',
]
SECONDS = 240
"""For one notebook on a busy machine; on a quiet core most take less than half a minute (notebooks/README.md)."""
PICTURE = "application/vnd.holoviews_exec.v0+json"

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def quick_kernels(monkeypatch):
    """Let kernels start with slow imports done, where processes can be forked safely."""
    if sys.platform == "linux":
        from tests.support.kernels import launch

        monkeypatch.setattr("jupyter_client.provisioning.local_provisioner.launch_kernel", launch)


def read(path):
    return pytest.importorskip("nbformat").read(path, as_version=4)  # takes seconds to import, where it is not used too


def code(path):
    """Return the text of the code cells of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def draws(source):
    return any(word in source for word in ("pn.pane.HoloViews(", "pn.Column(", "lk.explore("))


def names_a_missing_file(path):
    """Say whether a notebook fetches files of the project's registry and this copy of lcakit comes without it."""
    return not REGISTRY.exists() and any("lk.fetch(" in source for source in code(path))


def test_the_notebooks_are_numbered_and_in_the_guide():
    numbers = [int(path.stem[:2]) for path in NOTEBOOKS]
    assert numbers == [*range(18)]
    guide = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if f"({path.name})" not in guide] == []


@pytest.mark.slow  # for the import of nbformat, which takes seconds
@each
def test_is_committed_without_outputs(path):
    notebook = read(path)
    pytest.importorskip("nbformat").validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")


@each
def test_the_first_cell_makes_pictures_work_offline(path):
    lines = [line.split("  #")[0] for line in code(path)[0].splitlines() if line]
    assert lines == SETUP


def test_import_only_what_the_extra_all_brings():
    core = {"lcakit", "numpy", "xarray", "dask", "netCDF4", "scipy", "IPython"}  # IPython comes with JupyterLab
    brought = core.union(*(EXTRAS[extra] for extra in ("record", "lab", "share")))
    trees = [ast.parse(source) for path in NOTEBOOKS for source in code(path)]
    used = {
        name.partition(".")[0]
        for node in (node for tree in trees for node in ast.walk(tree))
        for name in imported(node)
    }
    assert used - brought - sys.stdlib_module_names == set()


def imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="kernels import everything themselves here")
def test_what_kernels_have_imported_says_nothing():
    from tests.support.forked import run

    run(all_imported_quietly)


def all_imported_quietly():
    from tests.support import imported

    assert imported.WRITTEN == ""
    assert [name for name in imported.MODULES if name not in sys.modules] == []


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS)
@each
def test_runs_to_the_end_and_shows_pictures(path, tmp_path, quick_kernels):
    if names_a_missing_file(path):
        pytest.skip("needs the recorded files of the repository (data/registry.txt)")
    pytest.importorskip("panel")
    notebook = read(path)
    pytest.importorskip("nbclient").NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    drawing = [cell for cell in notebook.cells if cell.cell_type == "code" and draws(cell.source)]
    assert drawing
    assert [cell.source for cell in drawing if not any(PICTURE in out.get("data", {}) for out in cell.outputs)] == []
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert [out.text for out in shown if out.get("name") == "stderr"] == []
    assert list(tmp_path.iterdir()) == []
