"""Classes reach every view: numbers are those of NumPy on the file; where the file has none, the view says so."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("panel")

from lcakit.testing import tiny_trajectory
from lcakit.views.explorer.model import Model
from tests.support.explorers import IMAGES, QUIET, at, explorer, number, text

pytestmark = QUIET

PLACES = [0, 2]
SPAN = slice(5, 20)


@pytest.fixture(scope="module")
def ds():
    return tiny_trajectory(30, layers=IMAGES, class_parameters=True)


@pytest.fixture
def app(ds):
    found = explorer(ds)
    found.controls.live.param.update(classes=["a", "c"], window=(5, 19), iteration=7, layer="b", unit=1)
    return found


def of_classes(ds):
    """Return LCA (iteration, parameter) of the chosen classes."""
    return ds["lca_class"].values[:, PLACES].astype(np.float64).sum(1)


B = slice(85, 100)  # the kernel of b, of 3 × 5


@pytest.mark.slow
def test_the_map_is_of_the_classes(app, ds):
    lca = of_classes(ds)
    np.testing.assert_allclose(app.map.heat.source.data["image"][0][::-1].ravel(), lca[7, B], rtol=1e-6)
    assert number(lca[7, B].sum()) in text(app.map.caption)
    assert "Classes a, c." in text(app.map.caption)
    app.controls.live.whole = True
    assert number(lca[SPAN, B].sum()) in text(app.map.caption)
    app.controls.live.quantity = "cumulative"
    assert number(lca[:20, B].sum()) in text(app.map.caption)


def test_the_saliency_is_of_the_classes(app, ds):
    found = -of_classes(ds)[SPAN, B].sum(0).reshape(3, 5)[1]
    assert number(found.sum()) in text(app.saliency.caption)
    shown = app.saliency.heat.source.data["image"][0]
    np.testing.assert_allclose(shown[np.isfinite(shown)].sum(), found.sum(), rtol=1e-5)


def test_the_parameter_is_of_the_classes(app, ds):
    app.controls.live.parameter = "b.weight[1, 2]"
    lca = of_classes(ds)[:, 85 + 7]
    np.testing.assert_allclose(app.parameter.sources[2].data["y"], lca[SPAN], rtol=1e-6)
    for value in (lca[7], lca[SPAN].sum()):
        assert number(value) in text(app.parameter.caption)
    assert number(ds["gradient"].values[7, 92].astype(np.float64)) in text(app.parameter.caption)


@pytest.mark.slow
def test_the_share_that_helps_is_of_the_classes(app, ds):
    lca = of_classes(ds)[SPAN].astype(np.float32)
    share = np.mean((lca < 0).sum(1) / (lca != 0).sum(1))
    assert f"{100 * share:.2f} %" in text(app.summary)


@pytest.mark.slow
def test_the_loss_is_of_the_classes(app, ds):
    loss = ds["loss_class"].values[:, PLACES].sum(1)
    np.testing.assert_allclose(app.loss.curve.data["y"], loss)
    assert number(loss[8] - loss[7]) in text(app.loss.caption)
    assert "part of classes a, c" in text(app.loss.caption)
    app.controls.live.classes = ["a", "b", "c"]
    np.testing.assert_allclose(app.loss.curve.data["y"], ds["loss"].values)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["kernel", "bias"])
def test_a_role_and_classes_go_together(app, ds, role):
    app.controls.live.param.update(role=role, layer="a", unit=3)
    lca, tensor = of_classes(ds), ds["tensor_index"].values
    chosen = ds["tensor_role"].values[tensor] == role
    assert number(lca[SPAN][:, chosen].sum()) in text(app.summary)
    unit = chosen & (ds["unit_index"].values == ds["unit"].values[3])
    assert number(lca[7][unit].sum()) in text(app.units.caption)
    assert number(lca[SPAN][:, unit].sum()) in text(app.unit.caption)
    assert f"role {role}" in text(app.unit.caption)


def test_a_file_without_them_says_what_records_them(ds):
    app = explorer(ds.drop_vars(["lca_class", "loss_class"]))
    app.controls.live.classes = ["b"]
    for view in (app.map, app.saliency, app.parameter):
        assert "(all classes)" in text(view.caption)
        assert 'record with classes="parameter"' in text(view.caption)
    assert "(all classes)" in text(app.summary)
    assert "no loss by class" in text(app.loss.caption)
    app.controls.live.role = "kernel"
    assert "role kernel in all classes" in text(app.units.caption)


@pytest.mark.slow
def test_no_class_is_asked_for_in_every_view(app):
    app.controls.live.classes = []
    for view in (app.loss, app.layers, app.layer_map, app.units, app.map, app.saliency, app.unit, app.parameter):
        assert "Choose at least one class" in text(view.caption)


@pytest.mark.slow
def test_a_class_keeps_its_colour(app):
    every = dict(zip(app.unit.source.data["name"], app.unit.source.data["color"], strict=True))
    app.controls.live.classes = ["c"]
    assert app.unit.source.data["color"] == [every["c"]]


def test_classes_alone_are_enough(ds):
    model = Model(ds.drop_vars("lca"))
    lca = ds["lca_class"].values.astype(np.float64).sum(1)
    assert model.summary(at(model)).lca == pytest.approx(lca.sum(), rel=1e-5)
    assert model.layer_sums(model.classes, "bias")[:, 0] == pytest.approx(lca[:, 80:85].sum(1), rel=1e-4)
