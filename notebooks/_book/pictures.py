"""The gallery: every picture of ``lk.plot``, drawn while the book is built, with the code that drew it.

Each function of a module in ``gallery/`` draws the picture of its name; its body is the code on the page. Pictures are
kept in ``generated/gallery`` and drawn again only when their code, or the library, has changed.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lcakit as lk
from _book.reference import write

FOLDER = "generated/gallery"
GROUPS = ("layers", "signs", "distributions", "parameters", "units", "comparisons", "nqm", "wedges")
INSIDE = ("nqm", "wedges")
"""Groups whose pictures are in a module of their own, such as ``lk.plot.nqm``."""

INTRODUCTION = """# Gallery

Every picture of `lk.plot`, with the code that drew it, as Matplotlib prints it. Leave out
`backend="matplotlib"` for one that can be zoomed and hovered in a notebook. The recorded files come with lcakit.
"""

EMPTY = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)
"""A white pixel, in place of pictures that are not drawn (``-D gallery_draw=0``)."""


def write_pages(source: Path, draw: bool = True) -> None:
    """Draw what is missing, and write the pages: an index with small pictures, and a page for each."""
    folder = source / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    state = _state()
    for group in GROUPS:
        for name, function in pictures(group):
            path = folder / f"{group}-{name}.png"
            if draw:
                _draw(path, function, state)
            elif not path.exists():
                path.write_bytes(EMPTY)
            write(folder / f"{group}-{name}.md", "\n".join(_page(group, name, function)))
    write(folder / "index.md", "\n".join(_index()))


def pictures(group: str) -> list[tuple[str, Callable[[], Any]]]:
    """Return the functions of a module of the gallery, in their order."""
    module = importlib.import_module(f"gallery.{group}")
    own = [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]
    return [(f.__name__, f) for f in own]


def drawn_by(group: str, name: str) -> str:
    """Return the function of ``lk`` that draws a picture."""
    return f"plot.{group}.{name}" if group in INSIDE else f"plot.{name}"


def code(function: Callable[[], Any]) -> str:
    """Return what is shown: the imports that the body needs, and the body with its last line as an expression."""
    source = inspect.getsource(function)
    body = textwrap.dedent(source.partition("\n")[2]).replace("return lk.plot", "lk.plot")
    module = inspect.getsource(inspect.getmodule(function))  # type: ignore[arg-type]
    lines = [line for line in module.splitlines() if line.startswith(("import ", "from "))]
    needed = [line for line in lines if any(f"{name}." in body or f"{name}(" in body for name in _names(line))]
    return "\n".join([*needed, "", body.rstrip()])


def _names(line: str) -> list[str]:
    return [part.split(" as ")[-1].strip() for part in line.rpartition("import ")[2].split(",")]


def _state() -> str:
    """Return a hash of the code that draws: pictures of another state are drawn again."""
    digest = hashlib.sha256()
    for path in sorted(Path(lk.__file__).parent.rglob("*.py")):
        if path.parts[-2] in ("plot", "analysis", "kernels"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _draw(path: Path, function: Callable[[], Any], state: str) -> None:
    mark = path.with_suffix(".txt")
    made = f"{state} {hashlib.sha256(code(function).encode()).hexdigest()}"
    if path.exists() and mark.exists() and mark.read_text() == made:
        return
    lk.plot.save(function(), path)
    mark.write_text(made)


def _index() -> Iterator[str]:
    yield INTRODUCTION
    for group in GROUPS:
        module = importlib.import_module(f"gallery.{group}")
        yield from (f"## {module.__doc__}", "", "::::{grid} 1 2 3 3", ":gutter: 3", "")
        for name, _ in pictures(group):
            yield from (f":::{{grid-item-card}} {name}", f":img-top: {group}-{name}.png", f":link: {group}-{name}")
            yield from (":link-type: doc", f":img-alt: {_first_line(group, name)}", "", _first_line(group, name), ":::")
        yield from ("::::", "", "```{toctree}", ":hidden:", "")
        yield from (f"{name} <{group}-{name}>" for name, _ in pictures(group))
        yield from ("```", "")


def _page(group: str, name: str, function: Callable[[], Any]) -> Iterator[str]:
    full = drawn_by(group, name)
    yield from (f"# {name}", "", f"{_first_line(group, name)}", "")
    yield from (f"```{{image}} {group}-{name}.png", f":alt: {_first_line(group, name)}", ":class: gallery-picture")
    yield from ("```", "", "```python", code(function), "```", "")
    yield from ("```{eval-rst}", f".. autofunction:: lcakit.{full}", "   :no-index:", "```")


def _first_line(group: str, name: str) -> str:
    module = getattr(lk.plot, group) if group in INSIDE else lk.plot
    return (inspect.getdoc(getattr(module, name)) or "").partition("\n")[0]


def setup(app: Any) -> dict[str, bool]:
    app.add_config_value("gallery_draw", True, "env", bool)
    app.connect(
        "builder-inited", lambda app: write_pages(Path(app.srcdir), app.config.gallery_draw not in (False, "0"))
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
