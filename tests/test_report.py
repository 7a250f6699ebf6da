from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import lcakit as lk
from lcakit.cli import main
from lcakit.labels import TensorSpec
from lcakit.reporting import drawing
from lcakit.testing import tiny_trajectory

from . import browser

EVIL = '<script>alert("x")</script>$_{&'
LAYERS = (
    TensorSpec("fc1.weight", (5, 16), "kernel", "fc1", "linear"),
    TensorSpec("fc1.bias", (5,), "bias", "fc1", "linear"),
    TensorSpec(f"{EVIL}.weight", (3, 5), "kernel", EVIL, "linear"),
)
CLASSES = ("a", "<b>", "c & d")
DOT = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")


class Page(HTMLParser):
    """What a page shows: its figures with their attributes, resources, scripts, and text outside of scripts."""

    def __init__(self, path):
        super().__init__()
        self.images, self.figures, self.resources, self.scripts, self.text = [], [], [], 0, ""
        self._silent = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.resources += [given[name] for name in ("src", "srcset", "data", "action") if name in given]
        self.resources += [given["href"]] if "href" in given else []
        self._silent = tag in ("script", "style")
        self.scripts += tag == "script"
        if tag == "img":
            self.images.append(given)
        if tag == "figure":
            self.figures.append(given)

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        self.text += "" if self._silent else data


@pytest.fixture
def quick(monkeypatch):
    """Pictures are computed and drawn as HoloViews elements, but not painted."""
    monkeypatch.setattr(drawing, "picture", lambda element: (DOT, (60, 38)))


def both_objectives(**options):
    ds = tiny_trajectory(30, layers=LAYERS, classes=CLASSES, **options)
    return ds.assign({f"{name}_val": ds[name] * 1.1 for name in ("lca", "loss")})


def write(ds, folder, **options):
    return Page(lk.report(ds, folder / "report.html", quiet=True, **options))


def test_every_study_has_its_figures(quick, tmp_path):
    page = write(both_objectives(), tmp_path)
    layers, classes = ["fc1", EVIL], ["", *CLASSES]
    single = 18  # groups of one figure
    switched = 2 * len(classes) + len(["", *layers]) + len(layers) * len(classes) + 2 * len(layers)
    assert len(page.images) == len(page.figures) == single + switched
    assert "Not in this report" not in page.text
    assert {(one["data-layer"], one["data-cls"]) for one in page.figures} >= {
        (EVIL, "<b>"),
        ("fc1", "c & d"),
        ("", "a"),
    }
    assert all(one["alt"] and one["alt"].count(": ") for one in page.images)


def test_nothing_is_fetched_and_nothing_of_the_file_is_markup(quick, tmp_path):
    ds = both_objectives().assign_attrs(title="<img src=x onerror=alert(1)>", url="https://example.org/run.nc")
    page = write(ds, tmp_path)
    assert all(re.match(r"data:image/png;base64,|#", one) for one in page.resources)
    assert page.scripts == 1
    assert EVIL in page.text
    assert "<img src=x onerror=alert(1)>" in page.text


def test_numbers_are_those_of_the_account(quick, tmp_path):
    ds = both_objectives()
    page = write(ds, tmp_path)
    for suffix in (None, "val"):
        for label, value, meaning in lk.account(ds, suffix).rows():
            assert all(part in page.text for part in (label.strip(), value, meaning)), label
    helping = 100 * float(lk.noise.fraction_helping(ds))
    assert f"{helping:.2f} % help" in page.text
    top = int(np.argmin(ds.lk.by("unit").sum("iteration")[:5].values))
    assert f"the strongest is unit {top} with" in page.text
    assert f"This file is {'sound' if lk.validate(ds, quiet=True).ok else 'not sound'}" in page.text
    assert lk.cite(ds).split("\n")[0] in page.text


def test_a_file_is_read_in_one_pass(quick, tmp_path, monkeypatch):
    ds = both_objectives(chunks={"iteration": 10, "snapshot": 10})
    reads = []
    lca = ds["lca"].data.map_blocks(
        lambda block: (reads.append(block.shape), block)[1], dtype=np.float32, meta=np.empty((0, 0), np.float32)
    )
    write(ds.assign(lca=ds["lca"].copy(data=lca)), tmp_path, classes=[])
    passes = len(reads) / ds["lca"].data.npartitions
    assert passes <= 7  # checks, account, all figures, and what depends on results of those; alone, each of 30 figures


@pytest.mark.parametrize(
    ("drop", "said", "left"),
    [
        (("lca_unit_class", "loss_class"), "no 'lca_unit_class'", 20),
        (("lca", "theta", "gradient"), "no 'lca' (loss change allocation)", 10),
        (("loss", "residual", "first_order", "splits", "accuracy"), "no 'loss'", 20),
    ],
)
def test_what_a_file_does_not_hold_is_said(quick, tmp_path, drop, said, left):
    page = write(tiny_trajectory(30).drop_vars(drop), tmp_path, classes=[])
    assert said in page.text
    assert page.text.count("Not in this report") >= 2
    assert len(page.images) >= left


def test_choice_of_layers_and_classes(quick, tmp_path):
    page = write(both_objectives(), tmp_path, layers=["fc1"], classes=[])
    assert {(one["data-layer"], one["data-cls"]) for one in page.figures} == {("", ""), ("fc1", "")}
    with pytest.raises(ValueError, match="'fc1'"):
        write(both_objectives(), tmp_path, layers=["fc2"])
    with pytest.raises(ValueError, match="'<b>'"):
        write(both_objectives(), tmp_path, classes=["b"])
    with pytest.raises(ValueError, match=r"\.html"):
        lk.report(both_objectives(), tmp_path / "run.nc", quiet=True)


def test_several_runs_are_reported_together(quick, tmp_path):
    paths = [lk.save(tiny_trajectory(30, seed=seed), tmp_path / f"run-{seed}.nc") for seed in (0, 1)]
    page = Page(lk.report(paths, tmp_path / "runs.html", layers=["fc"], classes=[], quiet=True))
    assert "means over runs" in page.text
    assert "(run run-0)" in page.text
    for seed in (0, 1):
        assert f"{lk.account(tiny_trajectory(30, seed=seed)).lca_sum:.6g}" in page.text
    assert len(page.images) > 15


def test_damaged_and_unfinished_files(quick, tmp_path):
    ds = tiny_trajectory(30)
    wrong = ds.assign_coords(tensor_index=ds["tensor_index"] * 0 + 7)
    page = write(wrong, tmp_path)
    assert "not sound" in page.text
    assert not page.images
    assert "not finished" in write(ds.assign_attrs(partial=1), tmp_path, layers=[], classes=[]).text
    with pytest.raises(lk.TrajectoryError, match="no iteration"):
        write(ds.isel(iteration=slice(0), snapshot=slice(1)), tmp_path)


def test_command_writes_beside_the_file(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lk.save(tiny_trajectory(30), "run.nc")
    assert main(["report", "run.nc", "--layers", "--classes"]) == 0
    assert "report" in (tmp_path / "run.html").read_text()
    assert main(["animate", "run.nc", "--layer", "fc", "-o", "fc.gif", "--iterations", "0:9", "--step", "2"]) == 0
    assert (tmp_path / "fc.gif").stat().st_size > 1000
    assert capsys.readouterr().out.split() == ["run.html", "fc.gif"]
    assert main(["report", "run.nc", "-o", "run.nc"]) == 2


def test_page_works_in_a_browser_from_disk(tmp_path):
    chromium = browser.CHROMIUM or pytest.skip("needs chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    ds = tiny_trajectory(30, layers=LAYERS, classes=CLASSES)
    path = lk.report(ds, tmp_path / "report.html", classes=["<b>"], quiet=True)
    with (
        playwright.sync_playwright() as start,
        start.chromium.launch(executable_path=chromium, args=browser.FLAGS) as it,
    ):
        with browser.watched(it) as (page, trouble):
            page.goto(path.as_uri())
            assert page.evaluate("[...document.images].filter(one => one.naturalWidth < 100).length") == 0
            assert page.evaluate("document.images.length") > 25
            units = page.locator(".group", has_text="Units over time")
            seen = units.locator("figure:visible")
            first = seen.locator("img").get_attribute("src")
            page.get_by_label("Layer").select_option(EVIL)
            assert seen.count() == 1
            assert seen.get_attribute("data-layer") == EVIL
            second = seen.locator("img").get_attribute("src")
            page.get_by_label("Class").select_option("<b>")
            assert (seen.get_attribute("data-layer"), seen.get_attribute("data-cls")) == (EVIL, "<b>")
            assert len({first, second, seen.locator("img").get_attribute("src")}) == 3
            assert "of class <b>" in seen.text_content()
            assert page.locator(".group:has(> h3:text-is('Over the run')) figure:visible").count() == 1
        assert [one for one in trouble if not one.startswith("request file:")] == []
