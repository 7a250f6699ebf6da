"""Explorer, report and film in a real browser: served, in JupyterLab, from disk. Skipped where there is no Chromium."""

from __future__ import annotations

import re
import shutil

import netCDF4
import numpy as np
import pytest
from PIL import Image

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from lcakit.views.animation.scale import palette
from tests.support import browser, pages

pytest.importorskip("panel")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(180),
    pytest.mark.slow,
]

ODD = "out<script>alert(1)</script>"
LAYERS = (
    TensorSpec("fc1.weight", (6, 64), "kernel", "fc1", "linear"),
    TensorSpec("fc1.bias", (6,), "bias", "fc1", "linear"),
    TensorSpec(f"{ODD}.weight", (3, 6), "kernel", ODD, "linear"),
    TensorSpec(f"{ODD}.bias", (3,), "bias", ODD, "linear"),
)
FIGURES = ".bk-Figure"
LOSS, UNITS, MAP = 0, 4, 5  # places among the figures of the page


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    ds = tiny_trajectory(60, layers=LAYERS)
    return lk.save(ds, tmp_path_factory.mktemp("explored") / "run.nc")


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=browser.CHROMIUM, args=browser.FLAGS)
        yield found
        found.close()


def from_file(path, name):
    """Read a variable with the netCDF library alone."""
    with netCDF4.Dataset(path) as file:
        return np.asarray(file[name][:], np.float64)


def sentence(page, title, *parts):
    """Wait for a caption of this view that holds these texts."""
    caption = page.locator(".lk-view", has=page.get_by_text(title, exact=True))
    for part in parts:
        sync_api.expect(caption).to_contain_text(part, timeout=browser.WAIT)


def number(value):
    return f"{value:+.4g}".replace("-", "−")


def place(page, n, right, down):
    """Return where the mouse has to go for a place in a figure, in shares of its size."""
    found = page.locator(FIGURES).nth(n)
    found.scroll_into_view_if_needed()
    box = found.bounding_box()
    return box["x"] + right * box["width"], box["y"] + down * box["height"]


def figure(page, n):
    return page.locator(FIGURES).nth(n).screenshot()


def drive(page, path):
    """Step through iterations, choose a layer and a class, select a span: numbers and pictures follow the file."""
    lca, by_class = from_file(path, "lca"), from_file(path, "lca_unit_class")
    first = slice(0, 384)
    sentence(page, "Parameters of the layer", f"{number(lca[0, first].sum())} nats")
    before = figure(page, MAP)

    page.locator("input[type=range]").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    sentence(page, "Parameters of the layer", "iteration 3", f"{number(lca[3, first].sum())} nats")
    sentence(page, "Layer × iteration", f"fc1 at iteration 3 {number(by_class[3, :6].sum())} nats")
    assert figure(page, MAP) != before

    before = figure(page, UNITS)
    page.get_by_label("Classes").select_option(["b"])
    summary = page.locator(".lk-summary")
    sync_api.expect(summary).to_contain_text(f"{number(by_class[:, :, 1].sum())} nats", timeout=browser.WAIT)
    sync_api.expect(summary).to_contain_text("classes b")
    page.get_by_label("Layer opened").select_option(label=ODD.replace("<", "‹"))
    sentence(page, "Unit × iteration", "3 units of out<script>", f"{number(by_class[3, 6, 1])} nats")
    assert figure(page, UNITS) != before
    page.mouse.click(*place(page, UNITS, 0.5, 0.45))  # the second of three rows
    sentence(page, "Unit", "unit 1 of out<script>")

    before = figure(page, UNITS)
    page.mouse.move(*place(page, LOSS, 0.4, 0.5))
    page.mouse.down()
    page.mouse.move(*place(page, LOSS, 0.7, 0.5), steps=5)
    page.mouse.up()
    sync_api.expect(summary).not_to_contain_text("Iterations 0 to 59", timeout=browser.WAIT)
    a, b = map(int, re.search(r"Iterations (\d+) to (\d+)", summary.inner_text()).groups())
    assert 0 < a < b < 59
    sync_api.expect(summary).to_contain_text(f"{number(by_class[a : b + 1, :, 1].sum())} nats")
    moving = lca[a : b + 1]
    helping = np.mean((moving < 0).sum(1) / (moving != 0).sum(1))
    sync_api.expect(summary).to_contain_text(f"{100 * helping:.2f} %")
    assert figure(page, UNITS) != before


def test_served(chromium, path):
    with browser.view(str(path)) as address, browser.watched(chromium) as (page, trouble):
        page.goto(address)
        page.locator(FIGURES).nth(8).wait_for()
        drive(page, path)
        assert trouble == []


def test_in_jupyterlab(chromium, path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("jupyterlab")
    cells = [nbformat.v4.new_code_cell(text) for text in ("import lcakit as lk", f"lk.explore({str(path)!r})")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "explore.ipynb")
    with browser.lab(tmp_path) as address, browser.watched(chromium, 1600) as (page, trouble):
        page.goto(f"{address}lab/tree/explore.ipynb?token={browser.TOKEN}")
        browser.run_all(page)
        page.locator(FIGURES).nth(8).wait_for()
        drive(page, path)
        assert trouble == []


# ---- pages from disk -------------------------------------------------------------------------------------------


def test_a_report_works_from_disk(chromium, tmp_path):
    ds = tiny_trajectory(30, layers=pages.LAYERS, classes=pages.CLASSES)
    path = lk.report(ds, tmp_path / "report.html", classes=["<b>"], quiet=True)
    with browser.watched(chromium) as (page, trouble):
        page.goto(path.as_uri())
        assert page.evaluate("[...document.images].filter(one => one.naturalWidth < 100).length") == 0
        assert page.evaluate("document.images.length") > 25
        units = page.locator(".group", has_text="Units over time")
        seen = units.locator("figure:visible")
        first = seen.locator("img").get_attribute("src")
        page.get_by_label("Layer").select_option(pages.EVIL)
        assert seen.count() == 1
        assert seen.get_attribute("data-layer") == pages.EVIL
        second = seen.locator("img").get_attribute("src")
        page.get_by_label("Class").select_option("<b>")
        assert (seen.get_attribute("data-layer"), seen.get_attribute("data-cls")) == (pages.EVIL, "<b>")
        assert len({first, second, seen.locator("img").get_attribute("src")}) == 3
        assert "of class <b>" in seen.text_content()
        assert page.locator(".group:has(> h3:text-is('Over the run')) figure:visible").count() == 1
    assert [one for one in trouble if not one.startswith("request file:")] == []


PIXELS = """canvas => Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""


def colours_of(codes):
    table = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] + [255] for colour in palette(True)])
    return table[codes.ravel()].ravel().tolist()


def test_a_film_steps_without_a_kernel(chromium, tmp_path):
    shown = lk.animate(tiny_trajectory(), "fc", quiet=True)
    (tmp_path / "notebook.html").write_text(f"<body>{shown._repr_html_()}</body>", encoding="utf-8")
    with browser.watched(chromium) as (page, trouble):
        page.goto((tmp_path / "notebook.html").as_uri())
        inside = page.frame_locator("iframe")
        text, canvas = inside.locator("#text"), inside.locator("#cells")
        assert text.text_content() == shown.frames.texts[0]
        before = canvas.screenshot()
        canvas.press("ArrowRight")
        canvas.press("ArrowRight")
        assert text.text_content() == shown.frames.texts[2]
        assert canvas.screenshot() != before
        assert canvas.evaluate(PIXELS) == colours_of(shown.frames.codes[2])
        canvas.press("End")
        assert text.text_content() == shown.frames.texts[-1]
        canvas.press("Space")
        sync_api.expect(text).not_to_have_text(shown.frames.texts[-1])
        assert inside.locator("#play").text_content() == "Pause"
        inside.locator("#play").click()
        canvas.press("Home")
        canvas.press("ArrowRight")
        with page.expect_download() as waiting:
            inside.get_by_label("Save the numbers of this frame as CSV").click()
        assert waiting.value.suggested_filename == "LCA-of-fc.weight-iteration-1.csv"
        table = np.genfromtxt(waiting.value.path(), delimiter=",", skip_header=1)
        np.testing.assert_allclose(table[:, 2], shown.frames.scale.decode(shown.frames.codes[1]).ravel(), rtol=1e-3)
        assert table[:, :2].tolist() == np.argwhere(np.ones(shown.frames.codes[1].shape)).tolist()
        with page.expect_download() as waiting:
            inside.get_by_label("Save this frame as PNG").click()
        shutil.copy(waiting.value.path(), tmp_path / "frame.png")
        picture = np.asarray(Image.open(tmp_path / "frame.png").convert("RGB"))
        wanted = np.array([tuple(bytes.fromhex(palette(True)[code][1:])) for code in shown.frames.codes[1].ravel()])
        assert {tuple(one) for one in wanted.tolist()} <= {tuple(one) for one in picture.reshape(-1, 3).tolist()}
    assert [one for one in trouble if not one.startswith("request file:")] == []
