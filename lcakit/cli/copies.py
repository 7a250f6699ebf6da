"""Copies of the notebooks for the user to change: each says which version of lcakit it belongs to."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lcakit.errors import LcakitError
from lcakit.version import __version__

__all__ = ["FRONT", "GUIDES", "Copied", "copy_notebooks", "front", "stamped", "version_of"]


def __dir__() -> list[str]:
    return __all__


FRONT = "contents.ipynb"
"""The notebook that is opened first: a table of contents by question, made from the table of the guide."""

GUIDES = ("README.md", "FIGURES.md")

_QUESTION = re.compile(r"^\| \[[^]]*\]\(([^)]+\.ipynb)\) \| (.+?) \| *(\d+) \|$", re.MULTILINE)
_OURS = "lcakit"  # of a notebook's metadata


@dataclass
class Copied:
    """What became of a folder of copies."""

    new: int = 0
    """How many files were copied."""
    changed: list[str] = field(default_factory=list)
    """Copies with other text than the originals of the same version: somebody works in them."""
    other: dict[str, list[str]] = field(default_factory=dict)
    """Version -> copies that belong to that version of lcakit, not to the installed one."""


def copy_notebooks(source: Path, folder: Path, version: str = __version__) -> Copied:
    """Copy the notebooks and their guides to a folder; a file that is there already is never replaced.

    Raises
    ------
    LcakitError
        If the notebooks are not there to be copied, or the folder cannot be written.
    """
    originals = _originals(source, version)
    if not any(name.endswith(".ipynb") for name in originals):
        raise LcakitError(
            f"{source} holds no notebooks: this lcakit was installed without them. Install its wheel, or get the "
            "repository and run pip install -e '.[all]' in it; then lcakit lab again."
        )
    copied = Copied()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in originals.items():
            _copy(folder / name, text, version, copied)
    except OSError as error:
        raise LcakitError(f"{folder} cannot be written: {error}. Choose another folder.") from error
    return copied


def _copy(path: Path, text: str, version: str, copied: Copied) -> None:
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        copied.new += 1
        return
    there = path.read_text(encoding="utf-8", errors="replace")
    made_for = version_of(there) if path.suffix == ".ipynb" else None
    if made_for not in (None, version):
        copied.other.setdefault(str(made_for), []).append(path.name)
    elif _written(there) != _written(text):
        copied.changed.append(path.name)


def _originals(source: Path, version: str) -> dict[str, str]:
    """Return the files as they are copied: name -> text."""
    notebooks = {path.name: path.read_text(encoding="utf-8") for path in sorted(source.glob("*.ipynb"))}
    guides = {name: (source / name).read_text(encoding="utf-8") for name in GUIDES if (source / name).exists()}
    table = {FRONT: front(guides[GUIDES[0]])} if notebooks and GUIDES[0] in guides else {}
    return {name: stamped(text, version) for name, text in (table | notebooks).items()} | guides


# ---- versions --------------------------------------------------------------------------------------------------


def stamped(text: str, version: str = __version__) -> str:
    """Return a notebook that says which version of lcakit it belongs to: in its metadata, and in its first cell."""
    notebook = json.loads(text)
    notebook["metadata"][_OURS] = {"version": version}
    first = notebook["cells"][0]
    first["source"] = f"{''.join(first['source'])}\n\n*This copy belongs to lcakit {version}.*"
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def version_of(text: str) -> str | None:
    """Return the version of lcakit that a copied notebook belongs to; None where it does not say one."""
    notebook = _parsed(text)
    metadata = notebook.get("metadata") if notebook else None
    ours = metadata.get(_OURS) if isinstance(metadata, dict) else None
    version = ours.get("version") if isinstance(ours, dict) else None
    return version if isinstance(version, str) else None


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        notebook = json.loads(text)
    except ValueError:
        return None
    return notebook if isinstance(notebook, dict) else None


def _written(text: str) -> object:
    """Return what a person wrote in a file; of a notebook its cells without results: running it changes nothing."""
    notebook = _parsed(text)
    try:
        return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]] if notebook else text
    except (KeyError, TypeError):  # some other file of that name
        return text


# ---- the front -------------------------------------------------------------------------------------------------


def front(guide: str) -> str:
    """Return the front notebook, without a version: the questions of the guide's table, each with its notebook."""
    walks = _QUESTION.findall(guide)
    contents = [
        "# What would you like to know?",
        "",
        "Each notebook is a walk from one question to its answer. Run its cells from top to bottom.",
        "",
        "| question | notebook | seconds |",
        "|:---|---|--:|",
        *(f"| [{question}]({name}) | {name[:2]} | {seconds} |" for name, question, seconds in walks),
        "",
        "[README.md](README.md): what to do where pictures do not react. [FIGURES.md](FIGURES.md): where each",
        "figure of the paper is.",
    ]
    first_look = ["import lcakit as lk", "", 'ds = lk.open_trajectory(lk.fetch("digits-fc.nc"))', "ds.lk"]
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "contents", "metadata": {}, "source": "\n".join(contents)},
        {
            "cell_type": "code",
            "id": "first-look",
            "metadata": {},
            "source": "\n".join(first_look),
            "execution_count": None,
            "outputs": [],
        },
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
