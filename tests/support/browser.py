"""Chromium, `lcakit view` and JupyterLab as test helpers: started, watched and stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LAB_SETTINGS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/apputils-extension:kernels-settings": {"commsOverSubshells": "disabled"},
}
TOKEN = "lcakit-test"
HARMLESS = ("favicon", "ResizeObserver loop")
WAIT = 20_000  # milliseconds


@contextmanager
def watched(browser, width=1400, height=1200):
    """Give a page and the list of what must not happen: requests that leave the machine, errors on the console."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(WAIT)
    trouble: list[str] = []

    def request(sent):
        if not re.match(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:", sent.url):
            trouble.append(f"request {sent.url}")

    def console(message):
        if message.type == "error" and not any(word in message.text for word in HARMLESS):
            trouble.append(f"console {message.text}")

    page.on("request", request)
    page.on("console", console)
    page.on("pageerror", lambda error: trouble.append(f"error {error}"))
    page.on("dialog", lambda dialog: (trouble.append(f"dialog {dialog.message}"), dialog.dismiss()))
    try:
        yield page, trouble
    finally:
        page.close()


@contextmanager
def stopped(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Stop a server at the end, also if it does not want to."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def view(*arguments: str) -> Iterator[str]:
    """Run `lcakit view`; give its address."""
    command = [sys.executable, "-m", "lcakit.cli", "view", *arguments, "--port", "0", "--no-browser"]
    with stopped(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as server:
        line = server.stdout.readline()
        yield re.search(r"http://\S+", line)[0]


@contextmanager
def lab(folder: Path) -> Iterator[str]:
    """Run JupyterLab in a folder, with all its own files under it; give its address."""
    settings = folder / "settings"
    settings.mkdir()
    (settings / "overrides.json").write_text(json.dumps(LAB_SETTINGS))
    home = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTERLAB_SETTINGS_DIR": "user-settings",
    }
    environment = os.environ | {name: str(folder / place) for name, place in home.items()}
    options = [
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        "--port=0",
        f"--IdentityProvider.token={TOKEN}",
        f"--LabApp.app_settings_dir={settings}",
        "--expose-app-in-browser",
        "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
        f"--ServerApp.root_dir={folder}",
    ]
    command = [sys.executable, "-m", "jupyterlab", *options]
    log = (folder / "lab.log").open("w")
    with stopped(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)) as server:
        yield _answering(server, folder)


def _answering(server: subprocess.Popen, folder: Path) -> str:
    """Wait until the server has written where it listens, and answers there."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        found = list((folder / "runtime").glob("jpserver-*.json"))
        try:
            address = json.loads(found[0].read_text())["url"]
            urllib.request.urlopen(f"{address}api?token={TOKEN}", timeout=1).close()
            return address
        except (IndexError, ValueError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab does not answer: {(folder / 'lab.log').read_text()[-2000:]}")


def run_all(page) -> None:
    """Run all cells of the open notebook, once its kernel is there, and wait until it is idle again."""
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel")
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.info.then(() => null)")
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_function(
        """() => {
          const done = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')];
          const status = jupyterapp.shell.currentWidget.sessionContext.session.kernel.status;
          return status === 'idle' && done.length && done.every(e => /\\[\\d+\\]/.test(e.textContent));
        }""",
        timeout=60_000,
    )
