"""The explorer without a browser: its numbers are those of the file, and it says what a file cannot show."""

from __future__ import annotations

import html
import re
import socket

import numpy as np
import pytest

import lcakit as lk
from lcakit import bench
from lcakit.analysis.resolution import aggregated
from lcakit.bench import explore as bench_explore
from lcakit.cli.main import main
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore:Widget.name is deprecated:PendingDeprecationWarning")
pn = pytest.importorskip("panel")

from lcakit.views.explorer import figures, tensors  # noqa: E402
from lcakit.views.explorer.app import Explorer, Models  # noqa: E402
from lcakit.views.explorer.model import Model  # noqa: E402
from lcakit.views.explorer.reading import Reader  # noqa: E402
from lcakit.views.explorer.selection import ALL, QUANTITIES, Selection  # noqa: E402

ODD = "x</script><script>alert(1)</script>$$"
IMAGES = (
    TensorSpec("a.weight", (5, 16), "kernel", "a", "linear"),
    TensorSpec("a.bias", (5,), "bias", "a", "linear"),
    TensorSpec("b.weight", (3, 5), "kernel", "b", "linear"),
)


def explorer(ds, **sources):
    return Explorer(Models(ds), **sources)


def text(pane):
    return html.unescape(re.sub(r"<[^>]*>", "", pane.html))


def number(value):
    return f"{value:+.4g}".replace("-", "−")


def at(model, **changes):
    """Return a selection of everything, with changes."""
    everything = {
        "layers": model.layers,
        "classes": model.classes,
        "role": ALL,
        "quantity": "lca",
        "window": (0, model.iterations.size - 1),
        "iteration": 0,
        "whole": False,
        "layer": model.layers[0],
        "unit": 0,
        "parameter": 0,
        "colours": "green-red",
    }
    return Selection(**(everything | changes))


# ---- what is read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2**20])
def test_reads_are_those_of_the_file_whatever_is_kept(limit):
    ds = tiny_trajectory(200, chunks={"iteration": 50, "parameter": 7})
    lca, reader = ds["lca"].values.astype(np.float64), Reader(ds, limit)
    columns = slice(3, 20)
    for _ in range(2):
        for first, last in ((0, 199), (0, 63), (63, 64), (70, 70), (5, 130)):
            np.testing.assert_allclose(reader.total("lca", columns, first, last), lca[first : last + 1, columns].sum(0))
        np.testing.assert_array_equal(reader.row("theta", columns, 200), ds["theta"].values[200, columns])
        np.testing.assert_array_equal(reader.series("gradient", 8), ds["gradient"].values[:, 8])
    assert reader._held <= max(limit, max(block.nbytes for block in reader._kept.values()))


def test_a_step_of_the_player_reads_its_tensor_only_and_the_next_step_nothing():
    ds = tiny_trajectory(100)
    read = []

    class Watched:
        def __getitem__(self, name):
            outer = name

            class Array:
                def __getitem__(self, key):
                    read.append((outer, key))
                    return ds[outer][key]

            return Array()

    reader = Reader(Watched())
    reader.row("lca", slice(0, 24), 10)
    reader.row("lca", slice(0, 24), 11)
    assert read == [("lca", (slice(0, 64), slice(0, 24)))]


def test_sums_follow_layers_classes_and_roles():
    ds = tiny_trajectory(30)
    model, lca = Model(ds), ds["lca"].values.astype(np.float64)
    by_class = ds["lca_unit_class"].values.astype(np.float64)
    layer = ds["layer"].values[ds["kernel_layer"].values[ds["unit_layer"].values]]
    assert model.layers == ("conv1", "fc")  # the norm layer serves the kernel of conv1
    found = model.summary(at(model, layers=("conv1",), classes=("a", "c"), window=(3, 9)))
    assert found.lca == pytest.approx(by_class[3:10][:, layer == "conv1"][..., [0, 2]].sum())
    assert found.loss_change == pytest.approx(np.diff(ds["loss_class"].values[[3, 10]][:, [0, 2]].sum(1))[0])
    assert found.loss_change_all == pytest.approx(ds["loss"].values[10] - ds["loss"].values[3])
    bias = np.isin(ds["tensor_index"].values, np.flatnonzero(ds["tensor_role"].values == "bias"))
    assert model.summary(at(model, role="bias")).lca == pytest.approx(lca[:, bias].sum())


def test_the_share_that_helps_is_that_of_the_study():
    ds = tiny_trajectory(30, chunks=7)
    model = Model(ds)
    part = ds.lk.sel(kernel_layer="fc", iteration=slice(4, 20))
    found = model.summary(at(model, layers=("fc",), window=(4, 20)))
    assert found.helping == pytest.approx(float(lk.noise.fraction_helping(part)))


def test_signs_of_a_large_file_are_counted_for_short_spans_only(monkeypatch):
    ds = tiny_trajectory(30)
    expected = Model(ds).summary(at(Model(ds), window=(0, 9))).helping
    monkeypatch.setattr("lcakit.views.explorer.model.SMALL_BYTES", 0)
    monkeypatch.setattr("lcakit.views.explorer.model.WINDOW_BYTES", 4 * 10 * ds.sizes["parameter"])
    model = Model(ds)
    assert model.summary(at(model, window=(0, 9))).helping == pytest.approx(expected)
    found = model.summary(at(model))
    assert found.helping is None
    assert "up to 10 iterations" in found.no_helping


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_maps_show_what_they_say(quantity, whole):
    ds = tiny_trajectory(90, layers=IMAGES)
    model = Model(ds)
    tensor = tensors.tensor_of(model, "b", ALL)
    assert tensor == tensors.Tensor(2, "b.weight", slice(85, 100))
    lca, gradient, theta = (ds[n].values.astype(np.float64)[:, 85:100] for n in ("lca", "gradient", "theta"))
    t, a, b = 70, 20, 80
    expected = {
        "lca": (lca[t], lca[a : b + 1].sum(0)),
        "cumulative": (lca[: t + 1].sum(0), lca[: b + 1].sum(0)),
        "gradient": (gradient[t], gradient[a : b + 2].mean(0)),
        "movement": (theta[t + 1] - theta[t], theta[b + 1] - theta[a]),
        "weight": (theta[t], theta[b + 1]),
    }[quantity][whole]
    found = tensors.values(model, tensor, at(model, quantity=quantity, iteration=t, window=(a, b), whole=whole))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_names_of_parameters_are_found_again():
    ds = tiny_trajectory(3)
    for place in (0, 23, 24, 40):
        assert tensors.find(ds, tensors.name_of(ds, place)) == place
    part = ds.lk.sel(layer="fc")
    assert tensors.name_of(part, 7) == "fc.weight[1, 1]"
    assert tensors.find(part, "fc.weight[1, 1]") == 7
    with pytest.raises(ValueError, match="not in this selection"):
        tensors.find(part, "conv1.weight[0, 0, 0, 0]")


def test_stacks_add_up_on_both_sides_of_zero():
    columns = np.array([[1.0, -2.0, 3.0], [-1.0, -1.0, 0.0]])
    lower, upper = figures.stacked(columns)
    np.testing.assert_allclose(upper - lower, np.abs(columns))
    assert upper[0].max() == 4
    assert lower[0].min() == -2
    assert lower[1].min() == -2


def test_many_lines_become_the_strongest_and_the_rest():
    columns = np.random.default_rng(0).normal(size=(20, 30)) * np.arange(1, 31)
    names, shown, colours = figures.few([f"layer{n}" for n in range(30)], columns)
    assert len(names) == len(colours) == shown.shape[1] == len(figures.LINES)
    assert names[-1] == "21 others, summed"
    np.testing.assert_allclose(shown.sum(1), columns.sum(1))


# ---- linked views ----------------------------------------------------------------------------------------------


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
    assert len(app.layers.source.data["xs"][0]) == 24
    app.controls.whole.value = True
    assert number(lca[10:22, :80].sum()) in text(app.map.caption)

    app.controls.classes.value = [1]
    by_class = ds["lca_unit_class"].values.astype(np.float64)
    assert number(by_class[10:22, :, 1].sum()) in text(app.summary)
    assert number(by_class[7, 0, 1]) in text(app.units.caption)
    app.controls.everything.param.trigger("clicks")
    assert "Iterations 0 to 39" in text(app.summary)


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


def test_numbers_say_of_which_classes_they_are():
    app = explorer(tiny_trajectory(10, layers=IMAGES))
    views = app.map, app.saliency, app.parameter
    assert not any("(all classes)" in text(view.caption) for view in views)
    app.controls.classes.value = [1]
    assert all("(all classes)" in text(view.caption) for view in views)
    assert "its LCA (classes b) is" in text(app.unit.caption)


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
    assert "no entry of 'b.weight'" in text(app.controls.note)
    app.controls.parameter.value = "a.bias[4]"
    assert "a.bias[4]" in text(app.parameter.caption)
    assert text(app.controls.note) == ""


def test_a_pixel_of_many_parameters_gives_the_strongest(monkeypatch):
    monkeypatch.setattr(figures, "MOST_ROWS", 2)
    monkeypatch.setattr(figures, "MOST_COLUMNS", 3)
    ds = tiny_trajectory(5, layers=IMAGES[2:])
    app = explorer(ds)
    app.map._tap(0.5, 2.5)
    block = [0, 1, 5, 6]
    strongest = block[int(np.argmax(np.abs(ds["lca"].values[0, block])))]
    assert app.controls.selection().parameter == strongest


def test_colours_of_helping_and_hurting_change_and_zero_stays_white():
    app = explorer(tiny_trajectory(10))
    before = list(app.layer_map.heat.mapper.palette)
    app.controls.colours.value = "blue-orange"
    after = app.layer_map.heat.mapper.palette
    assert after != before
    assert after[127] == before[127] == "#ffffff"
    assert app.layer_map.heat.mapper.low == -app.layer_map.heat.mapper.high


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


def test_few_models_are_kept_at_once():
    ds = tiny_trajectory(5)
    names = ["", "a", "b", "c", "d"]
    models = Models(ds.assign({f"lca_{name}": ds["lca"] for name in names[1:]}))
    assert models.objectives == names
    made = [models.get("", name) for name in names]
    assert models.get("", "d") is made[4]
    assert models.get("", "c") is made[3]
    assert models.get("", "") is not made[0]
    assert len(models._made) == 3


# ---- what a file cannot show -----------------------------------------------------------------------------------


def without(ds, *names):
    return ds.drop_vars([name for name in ds.variables if name in names])


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


FILES = {
    "whole": lambda ds: ds,
    "no classes": lambda ds: without(ds, "lca_unit_class", "loss_class").drop_dims("class"),
    "by unit": lambda ds: aggregated(ds, "unit"),
    "by layer": lambda ds: aggregated(ds, "layer"),
    "lca alone": lambda ds: without(ds, "theta", "gradient", "loss", "loss_class", "residual"),
    "no lca": lambda ds: without(ds, "lca", "lca_unit_class"),
    "classes by parameter": lambda ds: without(ds, "lca_unit_class"),
    "one layer": lambda ds: ds.lk.sel(layer="fc"),
    "some units": lambda ds: ds.lk.sel(layer="fc", unit=[1, 3]),
    "one iteration": lambda ds: ds.lk.sel(iteration=0),
    "gaps": lambda ds: ds.assign(
        lca=ds["lca"].where(ds["iteration"] > 5), lca_unit_class=ds["lca_unit_class"] * np.nan
    ),
    "all zero": lambda ds: ds.assign(lca=ds["lca"] * 0, lca_unit_class=ds["lca_unit_class"] * 0),
    "uneven": lambda ds: ds.assign_coords(iteration=np.arange(12) ** 2, snapshot=np.arange(13) ** 2),
    "partial": lambda ds: ds.assign_attrs(partial=1),
}


@pytest.mark.parametrize("kind", FILES)
def test_whatever_a_file_holds_every_control_works_or_says_why_not(kind):
    app = explorer(FILES[kind](tiny_trajectory(12, class_parameters=True)))
    said = use_all(app)
    assert "Traceback" not in said
    assert app.controls.selection().layer


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


# ---- the command -----------------------------------------------------------------------------------------------


def test_view_says_what_is_wrong_before_it_serves(tmp_path, capsys):
    assert main(["view", str(tmp_path / "none.nc"), "--no-browser"]) == 2
    assert "no such file" in capsys.readouterr().err
    path = lk.save(tiny_trajectory(3), tmp_path / "run.nc")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["view", str(path), "--no-browser", "--port", str(port)]) == 2
    assert f"port {port} is in use" in capsys.readouterr().err


def test_explore_gives_a_panel_object(tmp_path):
    path = lk.save(tiny_trajectory(3), tmp_path / "run.nc")
    assert isinstance(lk.explore(path), pn.viewable.Viewable)
    assert "run.nc" in str(lk.explore(path)[1][0].object.text)


def test_the_benchmark_measures_answers(tmp_path, monkeypatch):
    used = "step of the player", "parameter"
    monkeypatch.setattr(bench_explore, "ACTIONS", {name: bench_explore.ACTIONS[name] for name in used})
    path = lk.save(tiny_trajectory(5), tmp_path / "run.nc")
    result, said = bench.run("explore", file=path, repeats=1)
    assert set(result["actions"]) == set(used)
    assert all(found["median"] > 0 for found in result["actions"].values())
    assert "step of the player" in said
    with pytest.raises(lk.LcakitError, match="5 iterations; 3 repeats move through at least 7"):
        bench.run("explore", file=path, repeats=3)
    compact = lk.save(aggregated(tiny_trajectory(5), "unit"), tmp_path / "compact.nc")
    with pytest.raises(lk.LcakitError, match="no LCA of single parameters"):
        bench.run("explore", file=compact)


def test_the_benchmark_uses_every_control_of_a_short_file_without_classes():
    app = explorer(FILES["no classes"](tiny_trajectory(5)))
    for action in bench_explore.ACTIONS.values():
        action(app, 1)
        action(app, 2)
    assert app.controls.selection().iteration == 97 * 2 % 5
    assert app.controls.selection().classes == ()


def test_one_class_is_explored_like_several():
    ds = tiny_trajectory(12)
    one, listed = (Explorer(Models(ds.lk.sel(cls=cls))) for cls in ("b", ["b"]))
    assert Model(ds.lk.sel(cls="b")).classes == ("b",)
    assert text(one.summary) == text(listed.summary)
