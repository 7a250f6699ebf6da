"""The command that opens the notebooks in JupyterLab: copy them to a folder of the user's, start the server there."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from lcakit.cli.options import port
from lcakit.errors import LcakitError
from lcakit.packages import bundled

__all__ = [
    "FIRST",
    "FOLDER",
    "GUIDE",
    "NOTEBOOKS",
    "OFFLINE",
    "SETTINGS",
    "Command",
    "add",
    "copy_notebooks",
    "start",
]


def __dir__() -> list[str]:
    return __all__


Command = Callable[..., argparse.ArgumentParser]
NOTEBOOKS = bundled("notebooks")
"""The notebooks that come with lcakit; so do the recorded files they use (``lk.fetch``)."""

FOLDER = "lcakit-notebooks"
FIRST = "00_quickstart.ipynb"
GUIDE = "README.md"

# With messages of widgets in subshells of the kernel, the first move of a slider was lost in 6 of 10 trials.
SETTINGS = {"@jupyterlab/apputils-extension:kernels-settings": {"commsOverSubshells": "disabled"}}
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
    new, kept = copy_notebooks(NOTEBOOKS, folder)
    print(f"{folder}: {new} files copied" if new else f"{folder}: nothing new to copy")
    if kept:
        print(f"Different from the originals, so left as they are (delete one to get its original): {', '.join(kept)}")
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


def copy_notebooks(source: Path, folder: Path) -> tuple[int, list[str]]:
    """Copy the notebooks and their guide to a folder; a file that is there already is never replaced.

    Returns
    -------
    tuple of (int, list of str)
        How many files were copied, and the names of those that are there with another content.

    Raises
    ------
    LcakitError
        If the notebooks are not there to be copied, or the folder cannot be written.
    """
    originals = sorted([*source.glob("*.ipynb"), *source.glob(GUIDE)])
    if not any(path.suffix == ".ipynb" for path in originals):
        raise LcakitError(
            f"{source} holds no notebooks: this lcakit was installed without them. Install its wheel, or get the "
            "repository and run pip install -e '.[all]' in it; then lcakit lab again."
        )
    new, kept = 0, []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for original in originals:
            copy = folder / original.name
            if not copy.exists():
                shutil.copyfile(original, copy)
                new += 1
            elif copy.read_bytes() != original.read_bytes():
                kept.append(copy.name)
    except OSError as error:
        raise LcakitError(f"{folder} cannot be written: {error}. Choose another folder.") from error
    return new, kept


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
        first = [f"--LabApp.default_url=/lab/tree/{FIRST}"] if (folder / FIRST).exists() else []
        command = [sys.executable, "-m", "jupyterlab", f"--LabApp.app_settings_dir={settings}", *first, *options]
        with subprocess.Popen(command, cwd=folder, env=os.environ | OFFLINE) as server:
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
