"""lcakit lab: copies that are the user's to change, and a JupyterLab with the settings that widgets need."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lcakit.cli import copies, lab
from lcakit.cli.main import main

FIRST = "00_quickstart.ipynb"


def cells(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]


def test_copies_the_notebooks_and_their_guides_once(tmp_path, capsys):
    assert main(["lab", str(tmp_path / "mine"), "--no-start"]) == 0
    copied = {path.name for path in (tmp_path / "mine").iterdir()}
    guides = {"README.md", "FIGURES.md"}
    assert copied == {path.name for path in lab.NOTEBOOKS.glob("*.ipynb")} | guides | {copies.FRONT}
    assert all((tmp_path / "mine" / name).read_bytes() == (lab.NOTEBOOKS / name).read_bytes() for name in guides)
    capsys.readouterr()
    assert main(["lab", str(tmp_path / "mine"), "--no-start"]) == 0
    out = capsys.readouterr().out
    assert "nothing new" in out
    assert ".ipynb" not in out


def test_a_copy_says_which_version_it_belongs_to_and_is_the_original_otherwise(tmp_path):
    copies.copy_notebooks(lab.NOTEBOOKS, tmp_path, "7.8")
    for original in lab.NOTEBOOKS.glob("*.ipynb"):
        copy = tmp_path / original.name
        assert copies.version_of(copy.read_text(encoding="utf-8")) == "7.8"
        head, *rest = cells(copy)
        first, *others = cells(original)
        assert head == f"{first}\n\n*This copy belongs to lcakit 7.8.*"
        assert rest == others


@pytest.mark.slow
def test_the_front_notebook_asks_the_question_of_every_notebook(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    copies.copy_notebooks(lab.NOTEBOOKS, tmp_path)
    nbformat.validate(nbformat.read(tmp_path / copies.FRONT, as_version=4))
    text = cells(tmp_path / copies.FRONT)[0]
    asked = re.findall(r"\[([^]]+\?[^]]*)\]\(([^)]+\.ipynb)\)", text)
    assert [name for _, name in asked] == sorted(path.name for path in lab.NOTEBOOKS.glob("*.ipynb"))
    assert all((tmp_path / link).exists() for link in re.findall(r"\]\(([^)]+)\)", text))


def test_the_first_look_of_the_front_notebook_runs(tmp_path):
    names: dict[str, object] = {}
    copies.copy_notebooks(lab.NOTEBOOKS, tmp_path)
    exec(cells(tmp_path / copies.FRONT)[1], names)
    assert names["ds"].sizes["iteration"] > 0


def test_a_newer_version_names_the_copies_of_an_older_one_and_keeps_them(tmp_path, capsys):
    copies.copy_notebooks(lab.NOTEBOOKS, tmp_path, "0.0.1")
    (tmp_path / FIRST).unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["lab", str(tmp_path), "--no-start"]) == 0
    out = capsys.readouterr().out
    assert "1 files copied" in out
    assert "These belong to lcakit 0.0.1" in out
    assert all(name in out for name in before if name.endswith(".ipynb"))
    assert FIRST not in out
    assert "Different" not in out
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_running_a_notebook_does_not_make_it_different_writing_in_it_does(tmp_path):
    copies.copy_notebooks(lab.NOTEBOOKS, tmp_path)
    notebook = json.loads((tmp_path / FIRST).read_text(encoding="utf-8"))
    code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    code["execution_count"], code["outputs"] = 1, [{"output_type": "stream", "name": "stdout", "text": ["7"]}]
    code["source"] = "".join(code["source"]).splitlines(keepends=True)
    (tmp_path / FIRST).write_text(json.dumps(notebook))
    assert copies.copy_notebooks(lab.NOTEBOOKS, tmp_path).changed == []
    code["source"] = "1 + 1"
    (tmp_path / FIRST).write_text(json.dumps(notebook))
    assert copies.copy_notebooks(lab.NOTEBOOKS, tmp_path).changed == [FIRST]


NOT_OURS = ["mine", "[]", "3", '{"cells": 3}', '{"cells": [], "metadata": {"lcakit": 3}}', "\xff"]


@pytest.mark.parametrize("text", NOT_OURS, ids=range(len(NOT_OURS)))
def test_keeps_what_the_user_changed_and_says_so(tmp_path, capsys, text):
    (tmp_path / FIRST).write_text(text, encoding="latin-1")
    assert main(["lab", str(tmp_path), "--no-start"]) == 0
    assert (tmp_path / FIRST).read_text(encoding="latin-1") == text
    assert f"original): {FIRST}" in capsys.readouterr().out


def test_the_default_folder_is_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["lab", "--no-start"]) == 0
    assert (tmp_path / lab.FOLDER / copies.FRONT).exists()


def test_says_how_to_get_notebooks_that_are_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lab, "NOTEBOOKS", tmp_path / "site-packages" / "notebooks")
    assert main(["lab", str(tmp_path / "mine"), "--no-start"]) == 2
    assert "pip install -e" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


def test_a_folder_that_cannot_be_is_an_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["lab", str(tmp_path / "file"), "--no-start"]) == 2
    assert "Choose another folder" in capsys.readouterr().err


def test_says_what_to_install_where_jupyterlab_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None)
    assert main(["lab", str(tmp_path)]) == 2
    assert "lcakit[lab]" in capsys.readouterr().err


@pytest.fixture
def server(tmp_path):
    """A started ``lcakit lab``: (process, where the server says it is), with Jupyter's folders in a temporary place."""
    pytest.importorskip("jupyterlab")
    places = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "RUNTIME", "DATA")}
    command = [
        sys.executable,
        "-m",
        "lcakit.cli",
        "lab",
        str(tmp_path / "work"),
        "--no-browser",
        "--port=0",
        "--allow-root",
    ]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            command,
            env=os.environ | places | {"IPYTHONDIR": str(tmp_path / "ipython"), "TMPDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that signals reach the server as from a terminal,
            preexec_fn=_hear_interrupts,  # also where the tests run in the background
        ) as process,
    ):
        try:
            yield process, running(process, tmp_path / "runtime", tmp_path / "log")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def running(process, runtime: Path, log: Path) -> dict:
    """Wait until the server has said where it is."""
    for _ in range(900):
        for path in runtime.glob("jpserver-*.json"):
            if path.stat().st_size:  # it is written in two steps
                return json.loads(path.read_text())
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def fetched(address: str):
    for _ in range(100):
        try:
            with urllib.request.urlopen(address) as answer:
                return json.load(answer)
        except urllib.error.URLError:  # it has said where it is, and does not listen yet
            time.sleep(0.1)
    raise AssertionError(f"no answer from {address}")


def landing(address: str) -> str:
    """Where a browser that opens the address ends."""
    with urllib.request.urlopen(address) as answer:
        return answer.geturl()


def interrupted(process) -> int | None:
    """Press Ctrl-C until it ends: the server has no terminal to ask, but one that comes while it starts may be lost."""
    for _ in range(12):
        os.killpg(process.pid, signal.SIGINT)
        try:
            return process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue
    return None


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.platform == "win32", reason="signals to a group of processes")
def test_starts_jupyterlab_with_its_settings_and_stops_as_the_user_stops_it(server, tmp_path):
    process, where = server
    base, token = where["url"].replace("localhost", "127.0.0.1"), where["token"]
    name = "@jupyterlab/apputils-extension:kernels-settings"
    assert list(tmp_path.glob("*/overrides.json"))
    setting = fetched(f"{base}lab/api/settings/{name}?token={token}")
    assert setting["schema"]["properties"]["commsOverSubshells"]["default"] == "disabled"
    assert f"/lab/tree/{copies.FRONT}" in landing(f"{base}?token={token}")
    files = fetched(f"{base}api/contents/?token={token}")["content"]
    assert copies.FRONT in {file["name"] for file in files}
    assert interrupted(process) == 0
    assert not list(tmp_path.glob("*/overrides.json"))


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.platform == "win32", reason="signals to a group of processes")
def test_ends_the_server_when_it_is_ended(server, tmp_path):
    process, where = server
    process.terminate()
    process.wait(timeout=60)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(where["url"])
    assert not list(tmp_path.glob("*/overrides.json"))
