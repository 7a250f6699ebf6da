"""Linked views of the explorer: a change of one control, or a tap, moves all that depend on it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("panel")

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.views.explorer import figures, tensors
from tests.support.explorers import IMAGES, QUIET, explorer, number, text

pytestmark = QUIET


@pytest.mark.slow
def test_controls_move_all_views_that_depend_on_them():
    ds = tiny_trajectory(40, layers=IMAGES)
    app, lca = explorer(ds), ds["lca"].values.astype(np.float64)
    app.controls.player.value = 7
    assert number(lca[7, :80].sum()) in text(app.map.caption)
    assert app.layers.marker.location == app.loss.markers[0].location == 7
    first_tile = app.map.heat.source.data["image"][0][::-1][:4, :4]
    np.testing.assert_allclose(first_tile.ravel(), lca[7, :16], rtol=1e-6)

    app.controls.choose_window(10.3, 21.9)
    assert app.controls.window.value == (10, 21)
    assert (app.focus.start, app.focus.end) == (10, 22)
    assert number(ds["lca_unit_class"].values.astype(np.float64)[10:22].sum()) in text(app.summary)
    assert len(app.layers.source.data["xs"][0]) == 4 * 12  # two corners an iteration, above and below
    app.controls.whole.value = True
    assert number(lca[10:22, :80].sum()) in text(app.map.caption)

    app.controls.classes.value = [1]
    by_class = ds["lca_unit_class"].values.astype(np.float64)
    assert number(by_class[10:22, :, 1].sum()) in text(app.summary)
    assert number(by_class[10, 0, 1]) in text(app.units.caption)  # the iteration went into the span
    app.controls.everything.param.trigger("clicks")
    assert "Iterations 0 to 39" in text(app.summary)


@pytest.mark.sampled
@pytest.mark.parametrize("labels", [10 * np.arange(13), np.arange(13) ** 2])
@pytest.mark.parametrize("window", [(3, 6), (5, 5), (0, 11)])
def test_the_last_iteration_of_a_span_is_seen(labels, window):
    ds = tiny_trajectory(12).assign_coords(iteration=labels[:-1], snapshot=labels)
    app = explorer(ds)
    first, after = labels[window[0]], labels[window[1] + 1]
    app.controls.choose_window(after - 0.5, first)  # from right to left
    assert app.controls.window.value == window
    for ends in (app.focus, app.layers.figure.x_range):
        assert (ends.start, ends.end) == (first, after)
    assert (app.loss.shades[0].left, app.loss.shades[0].right) == (first, after)
    for view in (app.layer_map, app.units):
        drawn = view.heat.source.data
        assert (drawn["x"], drawn["dw"]) == ([first], [after - first])


@pytest.mark.slow
def test_what_could_not_be_read_is_drawn_with_the_next_change(monkeypatch):
    app = explorer(tiny_trajectory(10, layers=IMAGES))

    def fails(*_):
        raise OSError("the disk is away")

    with monkeypatch.context() as broken:
        broken.setattr(tensors, "values", fails)
        app.controls.layer.value = 1
        assert "the disk is away" in text(app.map.caption)
        assert not app.map.figures[0].visible
    app.controls.choose_parameter(87)
    assert app.map.figures[0].visible
    assert "15 parameters of b.weight" in text(app.map.caption)
    assert app.map.heat.source.data["image"][0].shape == (3, 5)


@pytest.mark.slow
def test_numbers_say_of_which_classes_they_are():
    app = explorer(tiny_trajectory(10, layers=IMAGES))
    views = app.map, app.saliency, app.parameter
    assert not any("(all classes)" in text(view.caption) for view in views)
    app.controls.classes.value = [1]
    assert all("(all classes)" in text(view.caption) for view in views)
    assert "its LCA (classes b) is" in text(app.unit.caption)


@pytest.mark.slow
def test_taps_open_layers_units_and_parameters():
    ds = tiny_trajectory(40, layers=IMAGES)
    app = explorer(ds)
    app.layer_map._tap(12.5, 0.5)  # the lower row, in iteration 12
    assert "b.weight" in text(app.map.caption)
    assert app.controls.player.value == 12
    app.units._tap(3.2, 0.5)
    assert "unit 2 of b" in text(app.unit.caption)
    assert number(ds["lca_unit_class"].values[3, 7].astype(np.float64).sum()) in text(app.units.caption)
    app.map._tap(2.5, 2.5)  # first row, third column
    theta, lca = ds["theta"].values[:, 87].astype(np.float64), ds["lca"].values[:, 87].astype(np.float64)
    assert "b.weight[0, 2]" in text(app.parameter.caption)
    assert number(theta[4] - theta[3]) in text(app.parameter.caption)
    assert number(lca[3]) in text(app.parameter.caption)
    assert "unit 0 of b" in text(app.unit.caption)
    app.map._tap(99, 99)
    app.layer_map._tap(0, -5)
    app.controls.parameter.value = "b.weight[9, 9]"
    assert "is not an entry of 'b.weight', which has the shape (3, 5)" in text(app.controls.note)
    app.controls.parameter.value = "a.bias[4]"
    assert "a.bias[4]" in text(app.parameter.caption)
    assert text(app.controls.note) == ""


@pytest.mark.slow
def test_a_pixel_of_many_parameters_gives_the_strongest(monkeypatch):
    monkeypatch.setattr(figures, "MOST_ROWS", 2)
    monkeypatch.setattr(figures, "MOST_COLUMNS", 3)
    ds = tiny_trajectory(5, layers=IMAGES[2:])
    app = explorer(ds)
    app.map._tap(0.5, 2.5)
    block = [0, 1, 5, 6]
    strongest = block[int(np.argmax(np.abs(ds["lca"].values[0, block])))]
    assert app.controls.selection().parameter == strongest


@pytest.mark.slow
def test_colours_of_helping_and_hurting_change_and_zero_stays_white():
    app = explorer(tiny_trajectory(10))
    before = list(app.layer_map.heat.mapper.palette)
    app.controls.colours.value = "blue-orange"
    after = app.layer_map.heat.mapper.palette
    assert after != before
    assert after[127] == before[127] == "#ffffff"
    assert app.layer_map.heat.mapper.low == -app.layer_map.heat.mapper.high


@pytest.mark.slow
def test_runs_and_objectives_can_be_switched(tmp_path):
    runs = []
    for seed in (0, 1):
        ds = tiny_trajectory(10, seed=seed)
        runs.append(lk.save(ds.assign(lca_val=-ds["lca"], loss_val=ds["loss"] * 2), tmp_path / f"run{seed}.nc"))
    app = explorer(lk.open_runs(runs))
    second = tiny_trajectory(10, seed=1)
    assert app.controls.run.visible
    app.controls.run.value = 1
    assert number(second["lca_unit_class"].values.astype(np.float64).sum()) in text(app.summary)
    app.controls.objective.value = 1
    assert number(-second["lca"].values.astype(np.float64).sum()) in text(app.summary)
    assert app.controls.classes.disabled


@pytest.mark.slow
def test_views_need_no_accessor(monkeypatch):
    """A process that serves a page may never have used ``ds.lk``."""
    ds = tiny_trajectory(6, layers=IMAGES)
    app = explorer(ds)
    monkeypatch.delattr("xarray.Dataset.lk")
    app.controls.live.param.update(role="bias", unit=3)
    expected = ds["lca"].values[0, 80 + 3].astype(float)
    assert f"unit 3 at iteration 0 {number(expected)} nats" in text(app.units.caption)
