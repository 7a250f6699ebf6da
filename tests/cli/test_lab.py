"""lcakit lab: copies that are the user's to change, and a JupyterLab with the settings that widgets need."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lcakit.cli import lab
from lcakit.cli.main import main


def test_copies_the_notebooks_and_their_guide_once(tmp_path, capsys):
    assert main(["lab", str(tmp_path / "mine"), "--no-start"]) == 0
    copied = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    originals = {path.name: path.read_bytes() for path in (*lab.NOTEBOOKS.glob("*.ipynb"), lab.NOTEBOOKS / "README.md")}
    assert copied == originals
    assert lab.FIRST in copied
    capsys.readouterr()
    assert main(["lab", str(tmp_path / "mine"), "--no-start"]) == 0
    out = capsys.readouterr().out
    assert "nothing new" in out
    assert ".ipynb" not in out


def test_keeps_what_the_user_changed_and_says_so(tmp_path, capsys):
    (tmp_path / lab.FIRST).write_text("mine")
    assert main(["lab", str(tmp_path), "--no-start"]) == 0
    assert (tmp_path / lab.FIRST).read_text() == "mine"
    assert lab.FIRST in capsys.readouterr().out


def test_the_default_folder_is_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["lab", "--no-start"]) == 0
    assert (tmp_path / lab.FOLDER / lab.FIRST).exists()


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


def interrupted(process) -> int | None:
    """Press Ctrl-C until it ends: the server has no terminal to ask, but one that comes while it starts may be lost."""
    for _ in range(12):
        os.killpg(process.pid, signal.SIGINT)
        try:
            return process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue
    return None


@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.platform == "win32", reason="signals to a group of processes")
def test_starts_jupyterlab_with_its_settings_and_stops_as_the_user_stops_it(server, tmp_path):
    process, where = server
    base, token = where["url"].replace("localhost", "127.0.0.1"), where["token"]
    name = "@jupyterlab/apputils-extension:kernels-settings"
    assert list(tmp_path.glob("*/overrides.json"))
    setting = fetched(f"{base}lab/api/settings/{name}?token={token}")
    assert setting["schema"]["properties"]["commsOverSubshells"]["default"] == "disabled"
    files = fetched(f"{base}api/contents/?token={token}")["content"]
    assert lab.FIRST in {file["name"] for file in files}
    assert interrupted(process) == 0
    assert not list(tmp_path.glob("*/overrides.json"))
