"""What an explorer shows as files: pictures and numbers, from Python and from the page."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import xarray as xr

pytest.importorskip("panel")

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.views.explorer import drawn, exported, taken
from lcakit.views.explorer.model import Model
from tests.support.explorers import FILES, IMAGES, QUIET, at, explorer, text

pytestmark = QUIET


@pytest.fixture(scope="module")
def model():
    return Model(tiny_trajectory(20, layers=IMAGES, class_parameters=True).load())


SOME = {"classes": ("a", "c"), "window": (3, 12), "unit": 2, "parameter": 7, "iteration": 5}


@pytest.mark.parametrize("view", taken.VIEWS)
def test_files_hold_the_numbers_of_the_view(model, view):
    selection = at(model, **SOME)
    numbers = taken.data(model, selection, view)
    table = pd.read_csv(io.BytesIO(exported.content(model, selection, view, ".csv")))
    arrays = numbers.data_vars.values() if isinstance(numbers, xr.Dataset) else [numbers]
    for array in arrays:
        np.testing.assert_allclose(table[array.name].values, array.values.reshape(-1), rtol=1e-14)
    with xr.open_dataset(io.BytesIO(exported.content(model, selection, view, ".nc")), engine="h5netcdf") as ds:
        for array in arrays:
            np.testing.assert_array_equal(ds[array.name].values, array.values)
        assert ds.attrs["view"] == view
        assert '"classes": ["a", "c"]' in ds.attrs["selection"]


@pytest.mark.parametrize("view", taken.VIEWS)
@pytest.mark.parametrize("backend", ["bokeh", "matplotlib"])
def test_every_view_has_a_picture(model, view, backend):
    picture = drawn.draw(model, at(model, **SOME), view, backend)
    assert len(picture.traverse()) > 1 or picture.dimension_values(0).size
    title = drawn.title_of(model, at(model, **SOME), view)
    assert "a, c" in title or view == "parameter"


def test_layers_are_drawn_as_steps(model):
    edges = drawn.draw(model, at(model, layers=("a",), window=(0, 2)), "layers", "bokeh")
    (area,) = edges.traverse(lambda mark: mark, ["Area"])
    lca = model.layer_sums(model.classes, "all")[:3, 0]
    assert area.dimension_values(0).tolist() == [0, 1, 1, 2, 2, 3]
    tall = area.dimension_values(2) + area.dimension_values(1)  # of a single layer one edge is zero
    np.testing.assert_allclose(tall, np.repeat(lca, 2))


@pytest.mark.slow
def test_pictures_as_files(model, tmp_path):
    selection = at(model, **SOME)
    path = exported.save(model, selection, "units", tmp_path / "units.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    root = ElementTree.fromstring(exported.content(model, selection, "saliency", ".svg"))
    assert root.tag.endswith("svg")
    with pytest.raises(ValueError, match=r"unknown suffix of a picture or of numbers '\.jpeg'"):
        exported.save(model, selection, "units", tmp_path / "units.jpeg")
    assert [one.name for one in tmp_path.iterdir()] == ["units.png"]


def test_names_say_what_a_file_is_of(model):
    name = exported.file_name(model, at(model, **SOME), "unit", "run", ".svg")
    assert name == "run_unit_a_unit-2_classes-a-c_iterations-3-12.svg"
    whole = exported.file_name(model, at(model, whole=True, quantity="weight"), "parameters", "run", ".csv")
    assert whole == "run_parameters_a_weight_run.csv"
    by_unit = Model(tiny_trajectory(20, layers=IMAGES))  # whose parameters are of all classes
    assert "classes" not in exported.file_name(by_unit, at(by_unit, **SOME), "parameters", "run", ".csv")


@pytest.mark.slow
def test_odd_names_make_plain_files():
    ds = tiny_trajectory(4).assign_coords({"class": ["=1+1", "../../etc", "a\n<b>"]})
    app = explorer(ds)
    name = exported.file_name(app.model, at(app.model, classes=("../../etc",)), "layers", "../x/=é", ".csv")
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    assert ".." not in name
    table = exported.content(app.model, at(app.model), "unit", ".csv").decode()
    assert "'=1+1" in table
    assert not re.search(r"(^|,)=", table, re.MULTILINE)


@pytest.mark.slow
def test_buttons_send_files_and_say_what_is_missing(model, tmp_path):
    ex = lk.explore(lk.save(tiny_trajectory(9), tmp_path / "run one.nc"))
    app = ex._explorer
    rows = app.panel.select(lambda part: "lk-save" in getattr(part, "css_classes", []))
    assert [row.name for row in rows] == [f"Save {view.title}" for view in app.views]
    rows[1].value = [".csv"]
    (sent,) = app.courier._source.data["bytes"]
    assert app.courier._source.data["name"] == ["run-one_layers.csv"]
    assert sent.tobytes() == exported.content(app.model, app.controls.selection(), "layers", ".csv")
    assert rows[1].value == []
    rows[1].value = [".csv"]  # once more
    ex.selection.layers = []
    rows[1].value = [".png"]
    assert "Nothing to save: Choose at least one layer." in text(app.notice)
    ex.selection.layers = ["fc"]
    rows[0].value = [".csv"]
    assert text(app.notice) == ""


@pytest.mark.sampled
@pytest.mark.parametrize("name", FILES)
def test_what_cannot_be_drawn_is_told(name):
    ds = FILES[name](tiny_trajectory(12))
    app = explorer(ds)
    for view in taken.VIEWS:
        for suffix in (".csv", ".nc"):
            app.save(view, suffix)
            assert app.courier._source.data["name"] or "Nothing to save" in text(app.notice)
            app.courier.forget()
