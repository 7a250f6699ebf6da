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

from tests.support import forked

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
def view(*arguments: str, folder: Path | None = None, log: Path | None = None) -> Iterator[str]:
    """Run `lcakit view`, in a folder; give its address."""
    with forked.command("view", *arguments, "--port", "0", "--no-browser", folder=folder, log=log) as printed:
        yield re.search(r"http://\S+", printed.readline())[0]


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


FAINT = """() => {
  const parts = colour => (colour.match(/[0-9.]+/g) || []).map(Number);
  const linear = c => c <= 10.31475 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4;
  const light = rgb => rgb.slice(0, 3).reduce((sum, c, n) => sum + linear(c) * [0.2126, 0.7152, 0.0722][n], 0);
  const above = one => one.parentElement || (one.getRootNode().host ?? null);
  const behind = one => {
    for (let at = one; at; at = above(at)) {
      const [r, g, b, a = 1] = parts(getComputedStyle(at).backgroundColor);
      if (r !== undefined && a > 0.5) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [], roots = [document];
  while (roots.length) {
    for (const one of roots.pop().querySelectorAll("*")) {
      if (one.shadowRoot) roots.push(one.shadowRoot);
      const texts = [...one.childNodes].filter(node => node.nodeType === 3 && node.textContent.trim());
      if (!texts.length || one.matches("style, script, [disabled]") || !one.getClientRects().length) continue;
      if (one.closest("[disabled]") || getComputedStyle(one).opacity < 1) continue;
      const [high, low] = [light(parts(getComputedStyle(one).color)), light(behind(one))].sort((a, b) => b - a);
      const contrast = (high + 0.05) / (low + 0.05);
      if (contrast < 4.5) found.push([contrast.toFixed(2), texts[0].textContent.trim().slice(0, 40)]);
    }
  }
  return found;
}"""
"""Texts of a page, also in shadow roots, whose contrast is below 4.5 (WCAG 2, AA), but for disabled controls."""
