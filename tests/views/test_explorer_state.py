"""The selection of an explorer as an object, in the address of the page, and taken along as numbers and code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("panel")

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.views.explorer import address, taken, tensors
from lcakit.views.explorer.live import FIELDS
from lcakit.views.explorer.model import Model
from tests.support.explorers import IMAGES, QUIET, at, explorer, text

pytestmark = QUIET


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    ds = tiny_trajectory(30, layers=IMAGES, class_parameters=True)
    labels = 10 * np.arange(31)
    ds = ds.assign_coords(iteration=labels[:-1], snapshot=labels)
    return lk.save(ds, tmp_path_factory.mktemp("state") / "run.nc")


@pytest.fixture(scope="module")
def untouched(path):
    """An explorer for the tests after which its selection is what it was."""
    return lk.explore(path)


@pytest.mark.slow
def test_the_selection_is_read_and_set_from_python(path):
    ex = lk.explore(path)
    assert (ex.selection.layer, ex.selection.iteration, ex.selection.window) == ("a", 0, (0, 290))
    seen = []
    ex.selection.param.watch(lambda event: seen.append(event.new), "iteration")
    ex.selection.param.update(layer="b", unit=2, iteration=70, classes=["c"])
    app = ex._explorer
    assert seen == [70]
    assert "unit 2 of b" in text(app.unit.caption)
    assert app.controls.layer.value == 1
    assert app.controls.player.value == 7
    app.controls.player.value = 8
    assert ex.selection.iteration == 80
    app.controls.classes.value = [0]
    assert ex.selection.classes == ["a"]
    assert "layer='b'" in repr(ex)


@pytest.mark.parametrize(
    "wrong",
    [
        {"layer": "c"},
        {"layers": ["a", "x"]},
        {"classes": ["z"]},
        {"role": "none"},
        {"quantity": "loss"},
        {"iteration": 300},
        {"window": (0, 1000)},
        {"unit": 9},
        {"parameter": "a.weight[99, 0]"},
        {"parameter": "nothing"},
        {"run": "other"},
        {"colours": "rainbow"},
    ],
)
def test_what_the_file_does_not_have_is_refused(untouched, wrong):
    ex = untouched
    before = {field: getattr(ex.selection, field) for field in FIELDS}
    with pytest.raises((ValueError, lk.LcakitError)):
        ex.selection.param.update(**wrong)
    assert {field: getattr(ex.selection, field) for field in FIELDS} == before


# ---- the address -----------------------------------------------------------------------------------------------

CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "layers": st.lists(st.sampled_from(["a", "b"]), unique=True).map(sorted),
        "classes": st.lists(st.sampled_from(["a", "b", "c"]), unique=True).map(sorted),
        "role": st.sampled_from(["all", "bias"]),
        "quantity": st.sampled_from(["weight", "lca"]),
        "iteration": st.integers(0, 290),
        "window": st.sampled_from([(0, 0), (30, 200)]),
        "whole": st.booleans(),
        "layer": st.sampled_from(["a", "b"]),
        "unit": st.integers(0, 2),
        "parameter": st.sampled_from(["a.bias[1]", "b.weight[2, 4]"]),
    },
)


@pytest.fixture(scope="module")
def pair(path):
    return lk.explore(path), lk.explore(path)


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(fields=CHOICES)
def test_a_link_opens_the_same_view(pair, fields):
    ours, theirs = pair
    ours.selection.param.update(**USUAL)
    ours.selection.param.update(**fields)
    link = address.query(ours.selection, USUAL)
    theirs._explorer.go(USUAL | address.asked(link))
    for field in FIELDS:
        assert getattr(theirs.selection, field) == getattr(ours.selection, field), field
    assert text(theirs._explorer.notice) == ""


USUAL = {
    "run": "",
    "objective": "",
    "layers": ["a", "b"],
    "classes": ["a", "b", "c"],
    "role": "all",
    "quantity": "lca",
    "iteration": 0,
    "window": (0, 290),
    "whole": False,
    "layer": "a",
    "unit": 0,
    "parameter": "a.weight[0, 0]",
    "colours": "green-red",
    "configurations": [],
    "overlay": "each run",
    "other": "",
}


@pytest.mark.sampled
@pytest.mark.parametrize(
    "link",
    ["?layer=gone", "?unit=77", "?classes=z", "?iteration=999", "?window=0-9999", "?parameter=x[0]", "?run=b&role=x"],
)
def test_a_link_that_no_longer_fits_is_told(path, link):
    app = lk.explore(path)._explorer
    app.go(address.asked(link))
    assert "which this file does not have" in text(app.notice)
    assert app.controls.live.layer == "a"
    app.go(address.asked("?layer=b"))
    assert text(app.notice) == ""


@pytest.mark.parametrize(
    "link", ["", "?", "?x=1", "?unit=-1&iteration=1e9&window=3", "?" + "a=1&" * 5000, "?layer=%ff"]
)
def test_what_is_no_selection_changes_nothing(untouched, link):
    app = untouched._explorer
    assert address.query(app.controls.live, app.address.usual) == ""
    app.go(address.asked(link))
    assert address.query(app.controls.live, app.address.usual) == ""


# ---- numbers and code ------------------------------------------------------------------------------------------

SELECTIONS = {
    "everything": {},
    "classes": {"classes": ("a", "c"), "layer": "b", "unit": 1, "window": (5, 19), "iteration": 7, "parameter": 90},
    "role": {"role": "bias", "classes": ("b",), "window": (0, 10), "unit": 3, "whole": True},
    "cumulative": {"quantity": "cumulative", "layers": ("b",), "iteration": 4, "window": (4, 9)},
    "gradient": {"quantity": "gradient", "whole": True, "window": (4, 9)},
    "movement": {"quantity": "movement", "iteration": 29},
    "weight": {"quantity": "weight", "layer": "b"},
}


@pytest.fixture(scope="module")
def model(path):
    return Model(lk.open_trajectory(path).load())


@pytest.mark.parametrize("kind", SELECTIONS)
@pytest.mark.parametrize("view", taken.VIEWS)
def test_the_code_of_a_view_computes_its_numbers(model, view, kind):
    selection = at(model, **SELECTIONS[kind])
    found = taken.data(model, selection, view)
    names: dict = {"ds": model.ds}
    exec(taken.code(model, selection, view, ""), names)
    expected = found["lca"] if view == "parameter" else found
    np.testing.assert_allclose(np.squeeze(names["numbers"].values), np.squeeze(expected.values), rtol=2e-5, atol=1e-8)


def test_code_begins_with_the_file(path, pair):
    ex = pair[0]
    ex.selection.param.update(**USUAL)
    names: dict = {}
    exec(ex.code("layers"), names)
    np.testing.assert_allclose(names["numbers"], ex.data("layers"), rtol=2e-5)
    assert f"lk.open_trajectory({str(path)!r})" in ex.code()


@pytest.mark.slow
def test_numbers_of_a_file_without_classes_by_parameter():
    ds = tiny_trajectory(20, layers=IMAGES)
    app = explorer(ds)
    app.controls.live.param.update(classes=["b"], layer="b", iteration=4)
    ex = app.panel
    np.testing.assert_allclose(ex.data("parameters"), ds["lca"].values[4, 85:].astype(float))
    np.testing.assert_allclose(ex.data("units"), ds["lca_unit_class"].values[:, 5:, 1])
    assert ex.data("layers").attrs["units"] == "nats"
    with pytest.raises(ValueError, match="unknown view 'layrs'"):
        ex.data("layrs")


def test_after_a_drag_the_iteration_lies_in_the_span():
    ex = lk.explore(tiny_trajectory(30))
    controls = ex._explorer.controls
    controls.choose_window(10.5, 20.5)
    assert (ex.selection.window, ex.selection.iteration) == ((10, 20), 10)
    controls.window.value = (2, 5)
    assert (ex.selection.window, ex.selection.iteration) == ((2, 5), 5)
    ex.selection.param.update(iteration=9)  # what is asked for by itself is taken as it is
    assert ex.selection.iteration == 9
    ex.selection.window = (0, 3)
    assert ex.selection.iteration == 9


def test_the_parameter_follows_the_layer_that_is_opened():
    ds = tiny_trajectory(12)
    ex = lk.explore(ds)
    first = ex.selection.parameter
    assert first.startswith("conv1.")
    ex._explorer.controls.choose_layer("fc", 3)
    kernel = np.flatnonzero(ds["tensor_index"].values == ds["tensor"].values.tolist().index("fc.weight"))
    strongest = kernel[np.abs(ds["lca"].values[0, kernel]).argmax()]
    assert ex.selection.parameter == tensors.name_of(ds, strongest)
    ex.selection.parameter = first  # that of another layer is shown if it is asked for
    assert ex.selection.parameter == first
    ex.selection.param.update(layer="conv1", parameter="fc.weight[1, 2]")
    assert ex.selection.parameter == "fc.weight[1, 2]"
    ex.selection.layer = "fc"
    assert ex.selection.parameter == "fc.weight[1, 2]"


def test_units_are_chosen_by_their_numbers():
    """The label of the list says what they are: "Unit" beside "unit 0" would say it twice."""
    controls = explorer(tiny_trajectory(5)).controls
    assert controls.unit.name == "Unit"
    assert controls.unit.options == {str(n): n for n in range(len(controls.unit.options))}
