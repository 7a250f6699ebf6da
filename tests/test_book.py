"""The book: nothing public is left out, it builds without warnings, and its pages open from disk without a network."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

import lcakit as lk
from tests.support import forked
from tests.support.browser import CHROMIUM, FLAGS, watched

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "notebooks"
README = ROOT / "README.md"


@pytest.fixture
def book(monkeypatch):
    """The extensions of the book, importable as they are while it is built."""
    monkeypatch.syspath_prepend(str(BOOK))
    pytest.importorskip("holoviews")
    from _book import pictures, reference

    return pictures, reference


def test_the_gallery_has_every_picture(book):
    pictures, _ = book
    shown = [pictures.drawn_by(group, name) for group in pictures.GROUPS for name, _ in pictures.pictures(group)]
    inside = {f"plot.{module}.{name}" for module in pictures.INSIDE for name in dir(getattr(lk.plot, module))}
    others = ("OfDataset", "SUFFIXES", "backend_of", "save", "sign_cmap", "sign_colours", "use_colours")
    top = {f"plot.{name}" for name in dir(lk.plot) if name not in (*pictures.INSIDE, *others)}
    assert sorted(shown) == sorted(top | inside)


def test_the_code_of_a_picture_runs_as_it_is_shown(book):
    pictures, _ = book
    functions = dict(pictures.pictures("layers"))
    names: dict[str, object] = {}
    *lines, last = pictures.code(functions["layers_over_time"]).splitlines()
    exec("\n".join(lines), names)
    assert eval(last, names) is not None
    assert "import numpy" not in "\n".join(lines)  # only what it needs


def test_the_reference_has_every_public_name(book):
    _, reference = book
    modules = reference.modules()
    listed = reference._top()
    for name in lk.__all__:
        value = getattr(lk, name)
        assert name in modules or f":: lcakit.{name}\n" in listed or not callable(value), name
    page = "\n".join(reference._module("noise"))
    assert all(
        f":: lcakit.noise.{name}\n" in page for name in dir(lk.noise) if inspect.isfunction(getattr(lk.noise, name))
    )


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= 8 * 1024
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
    pictures = [ROOT / link for link in links if link.endswith(".png")]
    assert pictures
    assert all(picture.stat().st_size < 200_000 for picture in pictures)


def test_the_front_page_asks_the_question_of_every_walk():
    page = (BOOK / "index.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(BOOK.glob("*.ipynb")) if f"]({path.name})" not in page] == []


def test_names_in_tables_break_between_their_parts_and_nowhere_else(book):
    from _book.names import breakable

    name = '<span class="pre">lk.plot.unit_map</span>'
    parts = name.replace("lk.plot.unit_map", "lk.<wbr>plot.<wbr>unit_<wbr>map")
    assert breakable(f"{name}<table>{name}<a href='a_b.html'>c_d</a></table>{name}") == (
        f"{name}<table>{parts}<a href='a_b.html'>c_d</a></table>{name}"
    )


def test_guides_name_only_commands_that_exist():
    from lcakit.cli.main import _parser

    (commands,) = (action.choices for action in _parser()._actions if action.choices)
    texts = [README, *BOOK.glob("*.md"), *(BOOK / "guides").glob("*.md")]
    named = {word for path in texts for word in re.findall(r"(?:`|^|/)lcakit ([a-z]+)", path.read_text("utf-8"), re.M)}
    assert named
    assert named <= set(commands)


def test_commands_of_the_guides_can_be_typed():
    from lcakit.cli.main import _parser

    lines = [line for path in (README, *BOOK.glob("*.md"), *(BOOK / "guides").glob("*.md")) for line in commands(path)]
    assert len(lines) > 30
    for line in lines:
        arguments = shlex.split(line, comments=True)[1:]
        if "--help" not in arguments:
            assert _parser().parse_args(arguments), line  # exits where an argument is wrong or missing


def commands(path: Path) -> list[str]:
    """The commands of lcakit in blocks of shell code, and in the table of commands."""
    text = path.read_text("utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S))
    first = re.findall(r"^\| (`lcakit [^|]*) \|", text, re.M) if path.name == "command_line.md" else []
    table = "\n".join(re.findall(r"`(lcakit [^`]*)`", "\n".join(first)))
    return [line for line in f"{blocks}\n{table}".splitlines() if line.startswith("lcakit ") and "…" not in line]


# ---- built -----------------------------------------------------------------------------------------------------


def build(arguments: list[str], said: Path) -> None:
    from sphinx.cmd.build import main

    kept = os.dup(2)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
    status = main(arguments)
    os.write(kept, said.read_bytes())
    sys.exit(status)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The pages of the book; its walks are not run, and its pictures not drawn: both take minutes."""
    for needed in ("sphinx", "myst_nb", "pydata_sphinx_theme", "sphinx_design"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("book")
    quick = ["-W", "-q", "-D", "nb_execution_mode=off", "-D", "gallery_draw=0", "-d", str(folder / "trees")]
    forked.run(build, [*quick, str(BOOK), str(folder / "pages")], folder / "said")
    assert (folder / "said").read_text() == ""
    return folder / "pages"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_links_inside_the_book_lead_somewhere(built):
    missing = []
    for page in (path for path in built.rglob("*.html") if "_static" not in path.parts):
        for link in re.findall(r'(?:href|src)="([^"]+)"', page.read_text("utf-8")):
            target = link.partition("#")[0].partition("?")[0]
            if target and ":" not in target and not (page.parent / target).resolve().exists():
                missing.append(f"{page.relative_to(built)}: {link}")
    assert missing == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_pages_open_from_disk_without_a_network(built):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in ("index.html", "generated/gallery/index.html", "generated/reference/noise.html"):
            with watched(browser) as (page, trouble):
                page.goto((built / name).as_uri())
                assert page.locator("h1").first.inner_text()
                page.wait_for_timeout(300)
                outside = [text for text in trouble if not text.startswith("request file:")]
            assert outside == []
        browser.close()
