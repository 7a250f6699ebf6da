"""Files that hold less than a whole recording: every control works, or says why it cannot."""

from __future__ import annotations

import pytest

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.explorers import FILES, QUIET, explorer, text

pytestmark = QUIET


ODD = "x</script><script>alert(1)</script>$$"


def everything_said(app):
    return " ".join(text(pane) for pane in (app.summary, *(view.caption for view in app.views)))


def use_all(app):
    """Use every control once; nothing may raise."""
    controls = app.controls
    for quantity in controls.quantity.values:
        controls.quantity.value = quantity
        controls.whole.value = not controls.whole.value
    controls.player.value = controls.player.end if not controls.player.disabled else 0
    for widget in (controls.role, controls.layer, controls.unit):
        for value in widget.values:
            widget.value = value
    controls.window.value = (0, 0)
    for widget in (controls.layers, controls.classes):
        kept, widget.value = widget.value, []
        widget.value = kept
    return everything_said(app)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_whatever_a_file_holds_every_control_works_or_says_why_not(kind):
    app = explorer(FILES[kind](tiny_trajectory(12, class_parameters=True)))
    said = use_all(app)
    assert "Traceback" not in said
    assert app.controls.selection().layer


@pytest.mark.slow
def test_what_is_missing_is_said():
    ds = tiny_trajectory(12)
    app = explorer(FILES["no classes"](ds))
    assert app.controls.classes.disabled
    assert "this file has none" in app.controls.classes.name
    compact = explorer(FILES["by unit"](ds))
    assert compact.controls.parameter.disabled
    assert compact.controls.role.disabled
    assert "weight" in compact.controls.quantity.name
    assert not compact.map.figures[0].visible
    assert "compact copy" in text(compact.map.caption)
    assert compact.units.figures[0].visible
    bare = explorer(FILES["no lca"](ds))
    assert "holds no LCA" in text(bare.layers.caption)
    assert "gradient" in bare.controls.quantity.values
    app.controls.layers.value = []
    assert "Choose at least one layer" in text(app.layers.caption)
    assert "Choose at least one layer" in text(app.summary)
    app.controls.layers.value = [0]
    assert app.layers.figures[0].visible
    partial = explorer(FILES["partial"](ds))
    assert "not finished" in str(partial.panel[1][0].object.text)
    with pytest.raises(lk.TrajectoryError, match="no iteration"):
        lk.explore(ds.isel(iteration=slice(0, 0), snapshot=slice(0, 1)))
    with pytest.raises(lk.TrajectoryError, match="kernel_layer='conv1'"):
        lk.explore(ds.lk.sel(layer="norm1"))


@pytest.mark.slow
def test_names_from_a_file_reach_no_page_as_they_are():
    layers = (TensorSpec(f"{ODD}.weight", (3, 4), "kernel", ODD, "linear"),)
    ds = tiny_trajectory(6, layers=layers, classes=(ODD, "b"))
    ds = ds.assign_attrs(loss_unit=ODD, loss_name=ODD)
    app = explorer(ds, title=ODD)
    app.controls.classes.value = [0]
    app.controls.parameter.value = app.controls.parameter.value
    page = str(app.panel.server_doc().to_json())
    assert "alert(1)" in page
    assert "<script" not in page
    assert "</script" not in page
    assert app.controls.selection().layers == (ODD,)
    typed = app.controls.parameter.value.rpartition("[")[0]
    app.controls.parameter.value = f"{typed}[2, 3]"
    assert app.controls.selection().parameter == 11
