"""A file whose classes are domains: pictures, the explorer, the report and films say domains."""

from __future__ import annotations

import html
import re

import pytest

pytest.importorskip("panel")

import lcakit as lk
from lcakit.cli.main import main
from lcakit.testing import tiny_trajectory
from lcakit.views.animation.animation import animate
from lcakit.views.report import page, writing
from lcakit.views.report.context import Subject
from lcakit.views.report.drawing import Drawn
from tests.support.explorers import IMAGES, QUIET, explorer, text
from tests.support.pictures import hv, named, plot

pytestmark = QUIET
KIND = "domain"


@pytest.fixture(scope="module")
def ds():
    return tiny_trajectory(12, layers=IMAGES, class_parameters=True).assign_attrs(class_kind=KIND)


def says_classes(words):
    return re.search(r"\bclass(es)?\b(?!=)", words, re.IGNORECASE)


def words_of(picture, backend):
    """Return what is written on a picture: its title, axes and legend."""
    options = hv.Store.lookup_options(backend, picture, "plot").kwargs
    return [options["title"], options["xlabel"], options["ylabel"], *named(picture, hv.Element)]


PICTURES = {
    "specialized_fraction": ({}, ["give 80 % of their help to few domains", "1 domain", "2 domains"]),
    "class_curves": ({"unit": 1, "layer": "b"}, ["Domains that unit 1 of b helps", "domain a", "domain c"]),
    "signs_per_class": ({}, ["In how many domains at once", "domains helped", "fraction of units by domains helped"]),
    "loss": ({"classes": True}, ["domain a", "domain b"]),
    "peaks": ({"k": 2, "classes": True}, ["in the mean domain", "domain (rows: a, b)"]),
    "layers_over_time": ({"classes": ["a", "c"]}, [", domains a, c"]),
    "layers": ({"classes": "b"}, [", domain b"]),
}


@pytest.mark.parametrize("backend", ["bokeh", "matplotlib"])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures(ds, name, backend):
    arguments, said = PICTURES[name]
    written = words_of(getattr(plot, name)(ds, **arguments, backend=backend), backend)
    assert all(any(part in words for words in written) for part in said), written
    assert not any(map(says_classes, written))


def test_a_word_from_a_file_is_drawn_literally(ds):
    odd = ds.assign_attrs(class_kind="{x} $y$")
    assert "{{x}} \\$y\\$ b" in words_of(plot.layers(odd, classes="b", backend="matplotlib"), "matplotlib")[0]
    app = explorer(ds.assign_attrs(class_kind="<i>part of speech"))
    app.controls.live.classes = ["a", "c"]
    assert "<i>" not in app.summary.html
    assert "change of these <i>parts of speech's part of the loss" in html.unescape(app.summary.html)
    assert "<i>" not in app.controls.classes.name


def test_a_film_of_domains(ds):
    assert animate(ds, "b", classes=["a"], quiet=True).frames.title.endswith(", domain a")


def test_the_explorer(ds):
    app = explorer(ds)
    assert app.controls.classes.name == "Domains"
    assert app.unit.hover.tooltips == [("domain", "@name")]
    captions = [app.summary, app.loss.caption, app.units.caption, app.map.caption, app.unit.caption]
    assert "all 3 domains" in text(app.summary)
    app.controls.live.param.update(classes=["a", "c"], layer="b", unit=1)
    said = [text(one) for one in captions]
    for words, part in zip(
        said,
        [
            "change of these domains' part of the loss",
            "on the full set, part of domains a, c",
            "domains a, c",
            "Domains a, c.",
            "cumulative LCA by domain",
        ],
        strict=True,
    ):
        assert part in words
    assert not any(map(says_classes, said))
    app.controls.live.classes = []
    assert "Choose at least one domain." in text(app.loss.caption)


@pytest.mark.slow
def test_the_explorer_of_a_file_that_does_not_hold_all_by_domain(ds):
    app = explorer(ds.drop_vars(["lca_class", "loss_class"]))
    app.controls.live.classes = ["a"]
    assert "all domains (the file has no loss by domain: record with domains)" in text(app.loss.caption)
    assert 'For single domains, record with classes="parameter".' in text(app.map.caption)
    assert "(all domains)" in text(app.summary)


def test_the_report(ds):
    ds = ds.assign(lca_val=ds["lca"], loss_val=ds["loss"])
    subject = Subject(ds, lk.account(ds), ["b"], ["a", "c"])
    sections = writing._sections(subject)
    figures = [figure for section in sections for group in section.groups for figure in group.figures]
    told = [figure.caption() for figure in figures]
    told += [words for one in sections for words in (one.title, one.question, *(group.title for group in one.groups))]
    assert not any(map(says_classes, told))
    everything = " | ".join(told)
    questions = "Do units serve one domain", "Domains helped at once", "Domains of the strongest unit", "Its domains"
    for part in (
        "the loss of domain a",
        "to a single domain: ",
        "of 3 domains, and",
        "(mean over domains)",
        *questions,
    ):
        assert part in everything


def test_the_page_of_a_report():
    controls = page.controls([], ["a"], KIND)
    assert "<label>Domain <select" in controls
    assert 'data-kind="domain"' in controls
    assert "layer b, domain a: " in page._figure("Units", Drawn(b"png", (1, 1), "it", "b", "a"), KIND, hidden=False)


def test_the_command_makes_a_film_of_domains(ds, tmp_path, capsys):
    path, film = tmp_path / "run.nc", tmp_path / "film.html"
    lk.save(ds, path)
    main(["animate", str(path), "--layer", "b", "-o", str(film), "--classes", "a", "c"])
    assert "domains a, c" in film.read_text(encoding="utf-8")
    assert str(film) in capsys.readouterr().out
