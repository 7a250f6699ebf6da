from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

import lcakit as lk
from lcakit.analysis.layerwise import layer_lca
from lcakit.cli.main import main
from lcakit.plot import _colours
from lcakit.progress import progress
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from lcakit.views.report import context, drawing, noise, over_time, writing
from lcakit.views.report.context import Subject, number, percent
from tests.support import browser

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


def test_maps_of_a_class_are_of_that_class(quick, tmp_path):
    ds = both_objectives()
    page = write(ds, tmp_path)
    maps = {one["alt"] for one in page.images if one["alt"].startswith("Iteration by iteration")}
    by_class = layer_lca(ds, classes=True).values
    for n, cls in enumerate(CLASSES):
        (said,) = (alt for alt in maps if alt.startswith(f"Iteration by iteration, class {cls}: "))
        values = by_class[..., n]
        place = np.unravel_index(np.abs(values).argmax(), values.shape)
        assert f"in iteration {place[0]}, {number(values[place], 'nats', True)}." in said
        assert f"{percent((values > 0).mean())} of these cells" in said
    assert len({alt.partition(": ")[2] for alt in maps}) == 1 + len(CLASSES)


def test_sentences_say_what_the_pictures_show(monkeypatch):
    ds = tiny_trajectory(30)
    known = Subject(ds, lk.account(ds))
    monkeypatch.setattr(context, "MOST_PIXELS", 10)
    monkeypatch.setitem(_colours._SETTING, "signs", "blue-orange")
    sums = layer_lca(ds).values.reshape(10, 3, 2).sum(1)
    start = 3 * int(np.abs(sums).argmax() // 2)
    said = over_time._layer_map(known, "")
    assert said.startswith(f"Blue lowers the loss, orange raises it: {percent((sums > 0).mean())} of these cells are")
    assert f"in iterations {start} to {start + 2}, {number(sums.flat[np.abs(sums).argmax()], 'nats', True)}." in said
    worse = ds.assign(lca=np.abs(ds["lca"]))
    assert over_time._layers(Subject(worse, lk.account(worse))).startswith("No layer lowered the loss: all together")
    still = ds["theta"].where(ds["tensor_index"] == ds["tensor_index"][-1], 0.0)
    for theta, words in ((still, "Movement follows"), (ds["theta"] * 0, "No layer moves")):
        assert noise._lag(Subject(ds.assign(theta=theta), known.account)).startswith(words)
    counts = lk.noise.helped_histogram(ds)
    often = counts.values[counts["left"].values >= 0.5].sum() / counts.values.sum()
    assert noise._helped(known).endswith(f"{percent(often)} help at least half of the time.")


def test_of_many_classes_those_with_the_largest_lca_are_taken():
    ds = tiny_trajectory(5, classes=[f"c{n}" for n in range(14)])
    large = xr.where(ds["class"].isin(["c3", "c13"]), 100.0, 1.0) * ds["lca_unit_class"]
    small = xr.where(ds["class"].isin(["c0", "c7"]), 0.0, large)
    chosen = writing._subject(ds.assign(lca_unit_class=small), lk.account(ds), [], None).classes
    assert chosen == [f"c{n}" for n in range(14) if n not in (0, 7)]


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
    with pytest.raises(lk.LcakitError, match="cannot write"):
        lk.report(tiny_trajectory(5), tmp_path / "report.html" / "a.html", [], [], quiet=True)


def test_several_runs_are_reported_together(quick, tmp_path):
    paths = [lk.save(tiny_trajectory(30, seed=seed), tmp_path / f"run-{seed}.nc") for seed in (0, 1)]
    page = Page(lk.report(paths, tmp_path / "runs.html", layers=["fc"], classes=[], quiet=True))
    assert "means over runs" in page.text
    assert "(run run-0)" in page.text
    for seed in (0, 1):
        assert f"{lk.account(tiny_trajectory(30, seed=seed)).lca_sum:.6g}" in page.text
    assert len(page.images) > 15


def test_runs_of_one_name_keep_their_accounts(monkeypatch):
    runs = [tiny_trajectory(5, seed=seed) for seed in range(3)]
    ds = xr.concat(runs, xr.Variable("run", ["a (2)", "a", "a"]), data_vars="all", coords="minimal", compat="override")
    accounts = writing._accounts(ds)
    assert [one.lca_sum for one in accounts.values()] == [lk.account(one).lca_sum for one in runs]
    assert "are listed" not in writing._account(accounts, 3)
    monkeypatch.setattr(writing, "MOST_RUNS", 2)
    assert "The first 2 of 3 runs are listed" in writing._account(writing._accounts(ds), 3)


def test_damaged_and_unfinished_files(quick, tmp_path):
    ds = tiny_trajectory(30)
    wrong = ds.assign_coords(tensor_index=ds["tensor_index"] * 0 + 7)
    page = write(wrong, tmp_path)
    assert "not sound" in page.text
    assert not page.images
    assert "not finished" in write(ds.assign_attrs(partial=1), tmp_path, layers=[], classes=[]).text
    with pytest.raises(lk.TrajectoryError, match="no iteration"):
        write(ds.isel(iteration=slice(0), snapshot=slice(1)), tmp_path)


def test_what_cannot_be_written_is_said_before_anything_is_read(quick, tmp_path, monkeypatch):
    def read(*_, **__):
        raise AssertionError("read")

    monkeypatch.setattr(writing, "validate", read)
    (tmp_path / "file").write_text("")
    with pytest.raises(lk.LcakitError, match=r"cannot write .*a\.html"):
        lk.report(tiny_trajectory(5), tmp_path / "file" / "a.html", quiet=True)


def test_a_file_without_lca_does_not_look_complete(quick, tmp_path):
    ds = tiny_trajectory(30)
    page = write(ds.drop_vars([name for name in ds.data_vars if name not in ("theta", "loss")]), tmp_path, layers=[])
    assert "There is no LCA here" in page.text
    assert "most of this one is missing" in page.text
    assert "There is no LCA" not in write(ds, tmp_path, layers=[], classes=[]).text


@pytest.mark.parametrize("drop", [(), ("lca", "theta", "gradient")])
def test_the_bar_ends_at_its_total(quick, tmp_path, monkeypatch, drop):
    bars = []

    def kept(*args, **options):
        bars.append(progress(*args, **options))
        return bars[-1]

    monkeypatch.setattr(drawing, "progress", kept)
    lk.report(tiny_trajectory(30).drop_vars(drop), tmp_path / "a.html", [], [])
    assert [bar.n for bar in bars] == [bar.total for bar in bars]
    assert bars[0].total > 10


def test_no_turn_is_said_in_words():
    def turns(ds):
        return noise._turns(Subject(ds, lk.account(ds, quiet=True)))

    ds = tiny_trajectory(30)
    still = ds.assign({name: ds[name] * 0 for name in ("theta", "gradient")})
    assert turns(ds).startswith("In the mean a weight turns around once in ")
    assert turns(still) == "No weight turns around; no gradient crosses zero."
    assert turns(ds.assign(theta=still["theta"])).startswith("In the mean a gradient crosses zero once in ")
    assert turns(tiny_trajectory(1)).endswith("o weight turns around.")
    runs = xr.concat([ds, still], xr.Variable("run", ["a", "b"]), data_vars="all", coords="minimal", compat="override")
    assert noise._turns(Subject(runs, lk.account(ds))) == turns(ds)


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


@pytest.mark.parametrize("part", [{"cls": "b"}, {"cls": ["a", "b"]}, {"layer": "fc"}, {"layer": "fc", "cls": "a"}])
def test_a_selection_has_a_report(tmp_path, part):
    ds = tiny_trajectory(30).lk.sel(**part)
    page = lk.report(ds, tmp_path / "part.html", quiet=True).read_text()
    assert "only a part" in page
    assert "None" not in page
