"""Pages of the reference, one for each public module: what its ``__all__`` lists, with docstrings.

The list of modules is ``lcakit``'s own table of public names, so that nothing can be forgotten.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import lcakit
from lcakit.errors import MissingPackageError

FOLDER = "generated/reference"
TOP = {
    "Record": ("Objective", "Recorder", "allocate", "ObjectiveSpec", "estimate"),
    "Open and save": ("open_trajectory", "open_runs", "save", "finish", "compute", "to_table", "account"),
    "Send and check": ("validate", "describe", "cite", "share", "fetch", "from_arrays", "from_checkpoints"),
    "Look": ("explore", "report", "animate"),
    "Errors": (
        "LcakitError",
        "TrajectoryError",
        "RecordingError",
        "DivergedError",
        "BudgetError",
        "ObjectiveError",
    ),
}
"""Functions and classes of ``lk`` itself, in the order of a first use; those of later versions follow at the end."""


def write_pages(source: Path) -> None:
    """Write the pages of the reference."""
    folder = source / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"lk": _top()} | {name: "\n".join(_module(name)) for name in modules()}
    for name, text in wanted.items():
        write(folder / f"{name}.rst", text)
    for stale in {*folder.glob("*.rst")} - {folder / f"{name}.rst" for name in wanted}:
        stale.unlink()


def modules() -> list[str]:
    """Return the public modules of ``lk``, and those inside its packages."""
    found = [name for name in lcakit.__all__ if inspect.ismodule(getattr(lcakit, name, None))]
    inside = [
        f"{name}.{member}"
        for name in found
        for member, value in _members(getattr(lcakit, name)).items()
        if inspect.ismodule(value)
    ]
    return sorted([*found, *inside])


def _top() -> str:
    listed = {name for names in TOP.values() for name in names}
    rest = [name for name in lcakit.__all__ if name not in listed and callable(getattr(lcakit, name))]
    groups = TOP | ({"More": tuple(rest)} if rest else {})
    lines = ["lk", "==", "", "``import lcakit as lk``: what is directly in the package.", ""]
    for title, names in groups.items():
        lines += [title, "-" * len(title), ""]
        for name in names:
            lines += _entry("lcakit", name, getattr(lcakit, name))
    return "\n".join(lines)


def _module(name: str) -> Iterator[str]:
    module = _get(name)
    title = f"lk.{name}"
    yield from (title, "=" * len(title), "", f".. currentmodule:: lcakit.{name}", "")
    yield from (inspect.getdoc(module) or "").splitlines()
    yield ""
    members = _members(module)
    for member, value in members.items():
        if callable(value):
            yield from _entry(f"lcakit.{name}", member, value)
        elif isinstance(value, MissingPackageError):
            yield from (f".. rubric:: {member}", "", f"Not shown here: {value}.", "")
    other = (MissingPackageError, ModuleType)
    constants = [member for member, value in members.items() if not callable(value) and not isinstance(value, other)]
    if constants:
        yield from (".. rubric:: Constants", "", ", ".join(f"``{member}``" for member in constants), "")


def _entry(owner: str, name: str, value: Any) -> Iterator[str]:
    kind = "autoclass" if inspect.isclass(value) else "autofunction"
    if inspect.isclass(value) and issubclass(value, BaseException):
        kind = "autoexception"
    yield from (f".. {kind}:: {owner}.{name}", "   :members:" if kind == "autoclass" else "", "")


def _members(module: Any) -> dict[str, Any]:
    """Return what a module lists; where that needs a package that is not installed, the error that says so."""
    found: dict[str, Any] = {}
    for name in getattr(module, "__all__", dir(module)):
        if not name.startswith("_"):
            try:
                found[name] = getattr(module, name)
            except MissingPackageError as error:
                found[name] = error
    return found


def _get(name: str) -> Any:
    value: Any = importlib.import_module("lcakit")
    for part in name.split("."):
        value = getattr(value, part)
    return value


def write(path: Path, text: str) -> None:
    """Write a page unless it is what is there, so that Sphinx reads only what has changed."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir)))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
