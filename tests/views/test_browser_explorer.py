"""The served explorer in a browser: what is typed, links, going back, classes, narrow pages, names of controls."""

from __future__ import annotations

import itertools
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import netCDF4
import numpy as np
import pytest

import lcakit as lk
from lcakit.testing import tiny_trajectory
from tests.support import browser
from tests.support.explorers import IMAGES, number

pytest.importorskip("panel")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(300),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    ds = tiny_trajectory(40, layers=IMAGES, class_parameters=True)
    return lk.save(ds, tmp_path_factory.mktemp("browsed") / "run.nc")


@pytest.fixture(scope="module")
def address(path):
    with browser.view(str(path)) as found:
        yield found


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=browser.CHROMIUM, args=browser.FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(chromium, address):
    with browser.watched(chromium) as (found, trouble):
        found.goto(address)
        found.locator(".bk-Figure").nth(8).wait_for()
        yield found
        assert trouble == []


@pytest.fixture(scope="module")
def looked_at(chromium, address):
    """Pages of some width, each opened once, for tests that change nothing on them."""
    opened = {}
    with ExitStack() as pages:

        def at(width):
            if width not in opened:
                opened[width] = pages.enter_context(browser.watched(chromium, width, 900))
                opened[width][0].goto(address)
                opened[width][0].locator(".bk-Figure").nth(8).wait_for()
            return opened[width]

        yield at


def says(page, title, *parts):
    """Wait for the caption of a view to hold these texts."""
    caption = page.locator(".lk-view", has=page.get_by_text(title, exact=True))
    for part in parts:
        sync_api.expect(caption).to_contain_text(part, timeout=browser.WAIT)


def by_class(path):
    with netCDF4.Dataset(path) as file:
        return np.asarray(file["lca_class"][:], np.float64)


def test_a_typed_name_is_never_lost(page):
    box = page.get_by_label("Parameter", exact=True)
    for n in range(8):
        box.fill(f"b.weight[{n % 3}, {n % 5}]")
        box.press("Enter" if n % 4 else "Tab")
        says(page, "Parameter", f"b.weight[{n % 3}, {n % 5}] at")
    box.fill("b.weight[9, 9]")
    box.press("Enter")
    page.get_by_text("is not an entry of").wait_for()


def test_whole_run_while_the_player_runs(page):
    summary = page.locator(".lk-summary")
    page.locator("button.play").click()
    for _ in range(3):
        page.get_by_label("Role of tensors").focus()
        page.get_by_role("button", name="Whole run").click()
        page.wait_for_timeout(200)
    page.locator("button.pause").click()
    sync_api.expect(summary).to_contain_text("Iterations 0 to 39")
    at = re.search(r"iteration (\d+)", page.locator(".lk-view").nth(1).inner_text())
    assert int(at[1]) > 0


def test_classes_reach_the_pictures_of_parameters(page, path):
    lca = by_class(path)[:, [0, 2]].sum(1)
    page.get_by_label("Classes").select_option(["a", "c"])
    says(page, "Parameters of the layer", f"{number(lca[0, :80].sum())} nats", "Classes a, c")
    says(page, "Saliency", f"{number(-lca[:, :16].sum())} nats")
    moving = lca.astype(np.float32)
    share = np.mean((moving < 0).sum(1) / (moving != 0).sum(1))
    sync_api.expect(page.locator(".lk-summary")).to_contain_text(f"{100 * share:.2f} %")


def test_a_view_is_saved_from_the_page(page, path):
    page.get_by_label("Classes").select_option(["a", "c"])
    says(page, "Parameters of the layer", "Classes a, c")
    with page.expect_download() as waiting:
        page.get_by_label("Save Parameters of the layer as CSV").click()
    assert waiting.value.suggested_filename == "run_parameters_a_classes-a-c_iteration-0.csv"
    table = np.genfromtxt(waiting.value.path(), delimiter=",", names=True)
    np.testing.assert_allclose(table["lca"], by_class(path)[0, [0, 2], :80].sum(0), rtol=1e-12)
    for kind, begin in (("PNG", b"\x89PNG"), ("SVG", b"<?xml"), ("netCDF", b"\x89HDF")):
        with page.expect_download() as waiting:
            page.get_by_label(f"Save Unit as {kind}").click()
        assert Path(waiting.value.path()).read_bytes().startswith(begin)


def test_links_and_going_back(page, address, path):
    lca = by_class(path)
    page.get_by_label("Layer opened").select_option(label="b")
    page.wait_for_url("**/?*layer=b*")
    page.get_by_label("Classes").select_option(["b"])
    page.wait_for_url("**/?*classes=b*")
    says(page, "Parameters of the layer", f"{number(lca[0, 1, 85:].sum())} nats")
    page.go_back()
    says(page, "Parameters of the layer", f"{number(lca[0, :, 85:].sum())} nats")
    page.go_forward()
    says(page, "Parameters of the layer", f"{number(lca[0, 1, 85:].sum())} nats")
    link = page.url
    page.goto(address)
    says(page, "Parameters of the layer", "a.weight")
    page.goto(link)
    says(page, "Parameters of the layer", "of b.weight", f"{number(lca[0, 1, 85:].sum())} nats")
    assert page.url == link
    page.goto(f"{address}?layer=gone&iteration=3")
    page.get_by_text("The link asks for layer 'gone', which this file does not have.").wait_for()
    says(page, "Parameters of the layer", "iteration 3", "a.weight")


@pytest.mark.parametrize("width", [1400, 800, 400])
def test_nothing_is_cut_on_narrow_pages(looked_at, width):
    page, trouble = looked_at(width)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [one.bounding_box() for one in page.locator(".bk-Figure").all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width + 1 for box in boxes)
    assert min(box["width"] for box in boxes) >= 200
    assert trouble == []


_TABBED = """() => {
  const path = [];
  let one = document.activeElement;
  while (one && one.shadowRoot && one.shadowRoot.activeElement) one = one.shadowRoot.activeElement;
  if (!one || one === document.body) return null;
  const box = one.getBoundingClientRect();
  const labels = one.labels ? [...one.labels].map(label => label.textContent).join("") : "";
  const name = one.getAttribute("aria-label") || labels || one.title || one.textContent;
  return {name: name.trim(), x: box.x + window.scrollX, y: box.y + window.scrollY, high: box.height, wide: box.width};
}"""
"""What has the focus: its name, and where it is on the page."""


@pytest.mark.parametrize("width", [1400, 400])
def test_tab_goes_through_the_page_in_its_order(looked_at, width):
    page, trouble = looked_at(width)
    page.get_by_label("Save Parameter as CSV").wait_for()
    found = []
    for _ in range(150):
        page.keyboard.press("Tab")
        one = page.evaluate(_TABBED)
        if one is None:
            break
        found.append(one)
    names = [one["name"] for one in found]
    assert len(names) < 150  # the focus leaves the page: it is nowhere caught
    assert all(one["wide"] and one["high"] for one in found)  # seen where it is
    wanted = ["Iteration", "Play", "First iteration of the span", "Last iteration of the span", "Whole run"]
    wanted += ["over the span", "Quantity", "blue-orange", "Layers shown", "Classes", "Role of tensors"]
    wanted += ["Layer opened", "Unit", "Parameter", "Save Loss as PNG", "Save Layers as PNG"]
    wanted += ["Save Saliency as netCDF", "Save Parameter as PNG", "Save Parameter as netCDF"]
    assert [name for name in names if name in wanted] == wanted
    for before, after in itertools.pairwise(found):  # never back up within a column
        if after["y"] + after["high"] < before["y"]:
            assert after["x"] > before["x"], (before["name"], after["name"])
    assert trouble == []


def test_every_control_has_a_name(looked_at):
    page, trouble = looked_at(1400)
    page.wait_for_timeout(1500)
    unnamed = page.evaluate(
        """() => {
          const found = [], roots = [document];
          while (roots.length) {
            for (const one of roots.pop().querySelectorAll("*")) {
              if (one.shadowRoot) roots.push(one.shadowRoot);
              if (!one.matches("button, input, select, textarea, [role=slider], [tabindex='0']")) continue;
              if (one.offsetParent === null) continue;
              const labels = one.labels ? [...one.labels].map(label => label.textContent).join("") : "";
              const name = one.getAttribute("aria-label") || one.title || labels || one.textContent;
              if (!name.trim()) found.push(one.outerHTML.slice(0, 120));
            }
          }
          return found;
        }"""
    )
    assert unnamed == []
    assert page.evaluate(browser.FAINT) == []
    sentence = page.locator(".lk-view").first.text_content()
    assert page.get_by_role("img", name="Picture").first.get_attribute("aria-description") == sentence
    assert trouble == []


def test_letters_stand_out_on_dark_pages(chromium, path):
    with browser.view(str(path), "--dark") as address, browser.watched(chromium) as (page, trouble):
        page.goto(address)
        page.locator(".bk-Figure").nth(8).wait_for()
        assert page.evaluate(browser.FAINT) == []
        chosen = page.get_by_role("button", name="at the iteration"), page.get_by_role("button", name="over the span")
        weights = [one.evaluate("one => getComputedStyle(one).fontWeight") for one in chosen]
        assert int(weights[0]) > int(weights[1])  # a shadow is not seen there
        colours = page.get_by_label("Layer opened").evaluate("one => getComputedStyle(one).colorScheme")
        assert colours == "dark"
        assert trouble == []


def test_another_file_of_the_folder_is_opened(chromium, path, tmp_path):
    shutil.copy(path, tmp_path / "run.nc")
    lk.save(tiny_trajectory(9), tmp_path / "other.nc")
    with browser.view("run.nc", folder=tmp_path) as address, browser.watched(chromium) as (page, trouble):
        page.goto(address)
        says(page, "Unit", "unit 0 of a")
        page.get_by_label("File", exact=True).select_option("other.nc")
        page.wait_for_url("**/?file=other.nc")
        says(page, "Unit", "unit 0 of conv1")
        page.get_by_label("Layer opened").select_option(label="fc")
        page.wait_for_url("**/?file=other.nc&layer=fc&parameter=fc.*")
        page.go_back()
        says(page, "Unit", "unit 0 of conv1")
        page.go_back()
        says(page, "Unit", "unit 0 of a")
        page.goto(f"{address}?file=../other.nc")
        page.get_by_text("unknown file of this folder '../other.nc'").wait_for()
        page.get_by_role("button", name="Several files together").click()
        page.get_by_label("Files of the folder").select_option(["other.nc", "run.nc"])
        page.get_by_role("button", name="Open them together").click()
        page.wait_for_url("**/?file=other.nc&file=run.nc")
        says(page, "The layer in every run", "1 run without this layer, class or unit left out")  # of another network
        page.get_by_label("Run", exact=True).select_option("run")
        says(page, "Unit", "unit 0 of a")
        assert trouble == []


def test_a_file_that_goes_is_told(chromium, path, tmp_path):
    copy = shutil.copy(path, tmp_path / "run.nc")
    with browser.view(str(copy)) as address, browser.watched(chromium) as (page, trouble):
        page.goto(address)
        page.locator(".bk-Figure").nth(8).wait_for()
        (tmp_path / "run.nc").unlink()
        page.get_by_text("run.nc has been deleted or moved").wait_for()
        assert trouble == []
