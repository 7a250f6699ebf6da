"""The command that opens the notebooks in JupyterLab: copy them to a folder of the user's, start the server there."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from lcakit.cli.copies import FRONT, copy_notebooks
from lcakit.cli.options import port
from lcakit.errors import LcakitError
from lcakit.packages import bundled
from lcakit.text import printable
from lcakit.version import __version__

__all__ = [
    "FOLDER",
    "NOTEBOOKS",
    "OFFLINE",
    "SETTINGS",
    "Command",
    "add",
    "start",
]


def __dir__() -> list[str]:
    return __all__


Command = Callable[..., argparse.ArgumentParser]
NOTEBOOKS = bundled("notebooks")
"""The notebooks that come with lcakit; so do the recorded files they use (``lk.fetch``)."""

FOLDER = "lcakit-notebooks"
SETTINGS = {
    # With messages of widgets in subshells of the kernel, the first move of a slider was lost in 6 of 10 trials.
    "@jupyterlab/apputils-extension:kernels-settings": {"commsOverSubshells": "disabled"},
    # Nothing is asked of a network, and no question about it stands before the notebook.
    "@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"},
}
OFFLINE = {"PANEL_INLINE": "true", "BOKEH_RESOURCES": "inline"}


def add(command: Command) -> None:
    """Add the command; ``command(name, function, help)`` makes its parser."""
    lab = command("lab", _lab, "copy the notebooks to a folder and open them in JupyterLab")
    lab.add_argument("folder", metavar="DIR", nargs="?", default=FOLDER, help=f"to work in (default: ./{FOLDER})")
    lab.add_argument("--no-start", action="store_true", help="copy only")
    lab.add_argument("--no-browser", action="store_true", help="print the address only")
    lab.add_argument("--allow-root", action="store_true", help="let JupyterLab run as root, as in a container")
    lab.add_argument("--port", type=port, help="default: 8888, or the next that is free")


def _lab(args: argparse.Namespace) -> int:
    folder = Path(args.folder).absolute()
    copied = copy_notebooks(NOTEBOOKS, folder)
    print(f"{folder}: {copied.new} files copied" if copied.new else f"{folder}: nothing new to copy")
    if copied.changed:
        changed = ", ".join(copied.changed)
        print(f"Different from the originals, so left as they are (delete one to get its original): {changed}")
    for version, names in copied.other.items():
        print(f"These belong to lcakit {printable(version)}, and {__version__} is installed: {', '.join(names)}")
    if copied.other:
        print(f"They are left as they are. Copy those of {__version__} to another folder: lcakit lab DIR")
    if args.no_start:
        return 0
    return start(folder, _options(args))


def _options(args: argparse.Namespace) -> list[str]:
    """Return the options that are passed on to JupyterLab."""
    chosen = {
        "--no-browser": args.no_browser,
        "--allow-root": args.allow_root,
        f"--port={args.port}": args.port is not None,
    }
    return [option for option, wanted in chosen.items() if wanted]


def start(folder: Path, options: list[str]) -> int:
    """Run JupyterLab in a folder until it ends; return its exit status.

    Raises
    ------
    LcakitError
        If JupyterLab is not installed.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise LcakitError("lcakit lab needs the package jupyterlab: pip install 'lcakit[lab]'")
    with _settings() as settings:
        first = [f"--LabApp.default_url=/lab/tree/{FRONT}"] if (folder / FRONT).exists() else []
        command = [sys.executable, "-m", "jupyterlab", f"--LabApp.app_settings_dir={settings}", *first, *options]
        with subprocess.Popen(command, cwd=folder, env=os.environ | OFFLINE) as server:
            signal.signal(signal.SIGTERM, lambda *_: server.terminate())  # whoever ends the command ends the server
            while True:
                try:
                    return server.wait()
                except KeyboardInterrupt:
                    continue  # the server got it too: it asks whether to stop, and a second one stops it


@contextlib.contextmanager
def _settings() -> Iterator[Path]:
    """Make a folder of JupyterLab's settings that lasts as long as the server."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "overrides.json").write_text(json.dumps(SETTINGS))
        yield Path(folder)
