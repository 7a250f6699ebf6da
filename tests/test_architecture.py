"""The package keeps its layout: which packages there are, who may import whom, how long files and functions are."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "lcakit"

FILES = {"__init__", "errors", "packages", "progress", "testing", "text", "version"}
GROUND = ("version", "errors", "text", "packages", "progress")
"""Modules that every package may import."""

ORDER = (
    *("trajectory", "storage", "analysis", "record", "plot", "sharing"),
    *("experiments", "landscapes", "views", "bench", "cli"),
)
"""Packages from the bottom up: each imports only what stands before it."""

LAZY = {("analysis", "plot")}
"""Arrows that point up, inside a function: ``ds.lk.plot``."""

MOST_LINES = 350
MOST_CODE = 40


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = modules(LIBRARY)
KNOWN = {name_of(path) for path in SOURCES}


def imported(path: Path) -> set[str]:
    """Return the parts of lcakit that a module imports, at its top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names]
    return {part[1] if len(part) > 1 else "__init__" for part in parts if part[0] == "lcakit"}


def of_module(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def test_the_packages_are_those_of_the_layout():
    assert {path.stem for path in LIBRARY.glob("*.py")} == FILES
    assert {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()} == set(ORDER)


def test_imports_point_downwards():
    rank = {name: row for row, name in enumerate((*GROUND, *ORDER, "testing", "__init__"))}
    wrong = [
        f"{path.relative_to(ROOT)} imports lcakit.{target}"
        for path in SOURCES
        for target in imported(path)
        if rank.get(target, rank["__init__"]) > rank[own := of_module(path)] and (own, target) not in LAZY
    ]
    assert not wrong


def test_arrows_that_point_up_are_lazy():
    eager = [
        f"{path.relative_to(ROOT)} imports {target}"
        for path in SOURCES
        for target in top_imports(path)
        if target.count(".") and (of_module(path), target.split(".")[1]) in LAZY
    ]
    assert not eager


def test_no_module_imports_itself_in_a_circle():
    """Between modules, by the imports at the top of each; those inside functions may go back."""
    arrows = {name_of(path): top_imports(path) for path in SOURCES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*itertools.dropwhile(lambda step: step != name, trail), name])
        if name not in done:
            for target in arrows.get(name, ()):
                visit(target, (*trail, name))
            done.add(name)

    for name in arrows:
        visit(name, ())


def top_imports(path: Path) -> set[str]:
    """Return the modules of lcakit that are imported when this one is."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in KNOWN else node.module)
    return found & KNOWN - {name_of(path)}


@pytest.mark.parametrize("path", [*SOURCES, *modules(ROOT / "tests")], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    text = path.read_text("utf-8")
    lines = text.splitlines()
    assert len(lines) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert code_lines(node, lines) <= MOST_CODE, node.name


def test_no_module_relies_on_the_accessor():
    """``ds.lk`` is registered once a name of the package is used, so not in a command: modules call functions."""
    trees = {path: ast.parse(path.read_text("utf-8")) for path in SOURCES}
    users = [path for path, tree in trees.items() for node in ast.walk(tree) if getattr(node, "attr", "") == "lk"]
    assert users == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_modules_list_their_own_names(path):
    """What completion shows is what a module is for: not what it imports, nor its helpers."""
    body = ast.parse(path.read_text("utf-8")).body
    if len(body) == 1 or (path.stem.startswith("_") and path.stem != "__init__"):  # only a docstring; private
        return
    targets = [node.targets[0] for node in body if isinstance(node, ast.Assign)]
    bound = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    bound |= {node.name for node in body if isinstance(node, ast.FunctionDef)}
    assert {"__all__", "__dir__"} <= bound


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Count the lines of a function's body without its docstring, comments and blank lines."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    if not body:
        return 0
    own = lines[body[0].lineno - 1 : function.end_lineno]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in own)
