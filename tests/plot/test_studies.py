"""Pictures of the studies show the numbers of the analysis, on both backends, and say what they cannot show."""

from __future__ import annotations

import doctest
import importlib
import json
import re

import numpy as np
import pytest
import xarray as xr

hv = pytest.importorskip("holoviews")

from bokeh.document import Document  # noqa: E402

import lcakit as lk  # noqa: E402
from lcakit import plot  # noqa: E402
from lcakit.plot._images import image  # noqa: E402
from lcakit.plot._marks import load  # noqa: E402
from lcakit.plot._raster import even_blocks, label_blocks, strongest  # noqa: E402
from lcakit.testing import tiny_trajectory  # noqa: E402
from lcakit.trajectory.join import join  # noqa: E402
from lcakit.trajectory.labels import TensorSpec  # noqa: E402

BACKENDS = ("bokeh", "matplotlib")
IMAGE_LAYERS = (
    TensorSpec("fc1.weight", (5, 16), "kernel", "fc1", "linear"),
    TensorSpec("fc1.bias", (5,), "bias", "fc1", "linear"),
    TensorSpec("fc2.weight", (3, 5), "kernel", "fc2", "linear"),
)


def with_validation(ds):
    return ds.assign(lca_val=-0.5 * ds["lca"], loss_val=ds["loss"] / 2)


DS = with_validation(tiny_trajectory(24))
RUNS = join({"a": DS, "b": with_validation(tiny_trajectory(24, seed=1)), "c": DS.isel(iteration=slice(None))})
IMAGES = tiny_trajectory(6, layers=IMAGE_LAYERS)
CALLS = {
    "loss": [(DS,), (RUNS,)],
    "residual": [(DS,)],
    "layers": [(DS,), (RUNS,), ({"plain": RUNS, "other": DS},)],
    "layers_over_time": [(DS,), (RUNS,)],
    "layer_map": [(DS,)],
    "delays": [([0, 1, 5], RUNS["loss"].isel(snapshot=-1)), ([0, 1, 5], lk.layers.layer_lca(RUNS).sum("iteration"))],
    "help_hurt_zero": [(DS,), (RUNS, 5)],
    "fractions": [(DS,), ({"a": DS, "b": RUNS},), (RUNS, None)],
    "fraction_helping": [(DS,), (RUNS, 5)],
    "lca_histogram": [(DS,), (RUNS,), (lk.tails.histogram(DS),)],
    "helping_by_window": [(DS,), (RUNS,)],
    "helped_histogram": [(DS,), (RUNS,)],
    "signs_per_class": [(DS,), (RUNS,)],
    "tail_fits": [(DS,), (RUNS, "hurting")],
    "kurtosis": [(DS,), (RUNS, 5)],
    "parameter_map": [(DS,), (DS, "fc", 3, "gradient"), (DS, "norm1", slice(2, 4), "theta"), (IMAGES,)],
    "unit_map": [(DS, "conv1")],
    "cumulative": [(DS,), (DS, [3, "fc.bias[1]"]), (DS, None, None, "fc")],
    "turns": [(DS,), (RUNS,), (DS.drop_vars("gradient"), "unit")],
    "detail": [(DS, "fc.weight[1, 2]")],
    "phase_lag": [(DS,), (RUNS,)],
    "peaks": [(DS, 5), (lk.synchronization.peak_iterations(DS, 5, classes=False),)],
    "correlations": [(DS, "fc")],
    "specialized_fraction": [(DS,), (RUNS,)],
    "class_curves": [(DS, 2, "fc"), (RUNS, 2, "fc")],
    "saliency": [(DS, 0), (IMAGES, [0, 1, 4])],
    "overfitting_map": [(DS,)],
    "train_validation": [(DS,), (RUNS,)],
    "sweep": [({0.01: RUNS, 1.0: DS},), ({"sgd": {1: DS, 2: DS}, "adam": {1: RUNS}},)],
    "path_allocation": [()],
}


def marks(picture, kind):
    return picture.traverse(lambda element: element, [kind])


def named(picture, kind):
    return {element.label: element for element in marks(picture, kind) if element.label}


def columns(element):
    return [element.dimension_values(n) for n in range(len(element.dimensions()))]


def pixels(picture):
    """Return the numbers of an image, its first row on top (at the lowest place of an axis that points down)."""
    (element,) = marks(picture, hv.Image)
    order = np.argsort(element.dimension_values(1, expanded=False))
    return element.dimension_values(2, flat=False)[order]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CALLS)
def test_every_picture_renders(name, backend):
    for arguments in CALLS[name]:
        options = {"max_lag": 3} if name == "phase_lag" else {}
        picture = getattr(plot, name)(*arguments, **options, backend=backend)
        assert hv.render(picture, backend=backend) is not None


def test_every_function_is_tested():
    assert set(CALLS) == set(plot._PUBLIC)


# ---- numbers ------------------------------------------------------------------------------------------------------


def test_bars_are_the_lca_of_layers_in_the_colours_of_their_signs():
    ds = DS.assign(lca=xr.where(DS["layer_index"] == 2, -DS["lca"], DS["lca"]).transpose("iteration", "parameter"))
    bars = named(plot.layers(ds), hv.Rectangles)
    totals = lk.layers.layer_lca(ds).sum("iteration").compute()
    assert set(bars) == {"helping", "hurting"}
    for name, element in bars.items():
        expected = totals[totals < 0] if name == "helping" else totals[totals > 0]
        np.testing.assert_allclose(columns(element)[3], expected)
        style = hv.Store.lookup_options("bokeh", element, "style").kwargs
        assert style["color"] == plot.sign_colours()[name]


def test_error_bars_are_the_confidence_interval_over_runs():
    summary = lk.runs.summary(lk.layers.layer_lca(RUNS).sum("iteration")).compute()
    (bars,) = marks(plot.layers(RUNS), hv.ErrorBars)
    _, middle, below, above = columns(bars)
    np.testing.assert_allclose(middle - below, summary["low"])
    np.testing.assert_allclose(middle + above, summary["high"])


def test_layers_of_different_networks_are_refused():
    with pytest.raises(ValueError, match="the same layers"):
        plot.layers({"a": DS, "b": IMAGES})


def test_curves_and_stacks_end_at_the_sum_of_lca():
    totals = lk.layers.layer_lca(DS).sum("iteration").compute()
    for window in (1, 5):
        lines = named(plot.layers_over_time(DS, window=window), hv.Curve)
        np.testing.assert_allclose([columns(lines[str(name)])[1][-1] for name in totals["layer"].values], totals)
    edges = [columns(area) for area in marks(plot.layers_over_time(DS, stacked=True), hv.Area)]
    ends = [(upper[-1], lower[-1]) for _, lower, upper in edges]
    np.testing.assert_allclose(sum(a - b for a, b in ends), totals.sum())


def test_the_loss_is_rebuilt_from_lca():
    lines = named(plot.residual(DS), hv.Curve)
    rebuilt = float(DS["loss"][0]) + np.append(0, np.cumsum(DS["lca"].sum("parameter", dtype=np.float64)))
    np.testing.assert_allclose(columns(lines["sum of LCA"])[1], rebuilt, rtol=1e-5)
    np.testing.assert_allclose(columns(lines["loss"])[1], DS["loss"])


def test_iterations_over_tolerance_are_marked():
    picture = plot.residual(DS.assign(residual=DS["residual"] + (DS["iteration"] == 7)))
    dots = named(picture, hv.Scatter)
    np.testing.assert_array_equal(columns(dots["over tolerance"])[0], [7])


def test_residuals_of_another_objective_are_held_against_its_own_tolerance():
    both = DS.assign(loss_val=DS["loss"], residual_val=DS["residual"] + (DS["iteration"] == 7))
    assert "over tolerance" in named(plot.residual(both, "val"), hv.Scatter)
    assert "over tolerance" not in named(plot.residual(both.assign_attrs(tolerance_val=2.0), "val"), hv.Scatter)


@pytest.mark.parametrize(("by", "outcome"), [(None, "both"), (None, "hurting")])
def test_the_tail_counts_values_beyond_each_magnitude(by, outcome):
    x, share = columns(named(plot.tail_fits(DS, outcome), hv.Scatter)["recorded"])
    values = DS["lca"].values
    values = np.abs(values[values != 0] if outcome == "both" else values[values > 0])
    np.testing.assert_allclose(share, [(values >= edge).mean() for edge in x])


def test_the_histogram_counts_every_value_that_is_not_zero():
    picture = plot.lca_histogram(DS)
    for name, sign in (("helping", -1), ("hurting", 1)):
        left, _, right, height = columns(named(picture, hv.Rectangles)[name])
        assert (sign * left >= 0).all()
        count = (height * (right - left) / np.log10(2)).sum()
        assert round(count) == int((np.sign(DS["lca"]) == sign).sum())


def test_fraction_bars_reach_from_zero_to_one():
    parts = named(plot.fractions(DS, by="layer"), hv.Rectangles)
    expected = lk.noise.help_hurt_zero(DS, by="layer").mean("iteration")
    for name, element in parts.items():
        _, low, _, high = columns(element)
        np.testing.assert_allclose(high - low, expected.sel(outcome=name), atol=1e-12)


def test_synchronized_peaks_are_those_of_the_analysis():
    peaks = lk.synchronization.peak_iterations(DS, 8)
    shared = lk.synchronization.synchronized(peaks)["synchronized"].values
    dots = named(plot.peaks(peaks), hv.Scatter)
    np.testing.assert_array_equal(np.sort(columns(dots["synchronized"])[0]), np.sort(peaks.values[shared]))
    assert len(dots["lone"]) == (np.isfinite(peaks.values) & ~shared).sum()


def test_an_overfitting_map_has_a_box_for_each_window_and_layer():
    result = lk.generalization.overfitting_map(DS, window=5).compute()
    boxes = named(plot.overfitting_map(DS, window=5), hv.Rectangles)
    assert sum(map(len, boxes.values())) == result["state"].size
    assert len(boxes["helps training only"]) == int((result["state"] == 1).sum())
    assert max(columns(boxes["helps training only"])[2]) <= 24


def test_allocation_of_the_toy_surface_adds_up():
    lines = named(plot.path_allocation(), hv.Curve)
    true = columns(named(plot.path_allocation(), hv.Scatter)["true change"])[1]
    np.testing.assert_allclose(columns(lines["sum, rk4"])[1], true, atol=1e-12)  # Simpson is exact on quartics' slopes
    assert abs(columns(lines["sum, first order"])[1][-1] - true[-1]) > 0.5


# ---- heat maps ----------------------------------------------------------------------------------------------------


def test_a_convolution_is_a_grid_of_kernels():
    shown = pixels(plot.parameter_map(DS, "conv1", iteration=slice(3, 6)))
    kernel = DS.lk.unflatten("conv1.weight").sel(iteration=slice(3, 6)).sum("iteration")
    assert shown.shape == (3 * 3 - 1, 2 * 3 - 1)
    np.testing.assert_allclose(shown[3:5, 3:5], kernel.sel({"in": 1, "out": 1}), rtol=1e-5)
    assert np.isnan(shown[2]).all()


def test_units_of_a_first_layer_are_images_and_know_their_place():
    (element,) = marks(plot.parameter_map(IMAGES, quantity="movement"), hv.Image)
    moved = IMAGES.lk.unflatten("fc1.weight", "theta").isel(snapshot=[0, -1]).astype(float).diff("snapshot")[0].values
    value, unit, inputs = (element.dimension_values(n) for n in (2, 3, 4))
    inside = np.isfinite(unit)
    np.testing.assert_allclose(value[inside], moved[unit[inside].astype(int), inputs[inside].astype(int)])
    tile = pixels(element)[:4, 5:9]
    np.testing.assert_allclose(tile, moved[1].reshape(4, 4))


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("lca", lambda ds: ds["lca"].sel(iteration=slice(2, 4)).sum("iteration")),
        ("cumulative", lambda ds: ds["lca"].sel(iteration=slice(None, 4)).sum("iteration")),
        ("gradient", lambda ds: ds["gradient"].sel(snapshot=slice(2, 4)).mean("snapshot")),
        ("movement", lambda ds: ds["theta"].sel(snapshot=5) - ds["theta"].sel(snapshot=2)),
        ("theta", lambda ds: ds["theta"].sel(snapshot=5)),
    ],
)
def test_quantities_of_a_window(quantity, expected):
    shown = pixels(plot.parameter_map(DS, "fc", slice(2, 4), quantity))
    part = expected(DS.lk.sel(tensor="fc.weight")).values.reshape(4, 6)
    np.testing.assert_allclose(shown, part, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_axes_of_an_image_are_its_rows_and_columns(backend):
    figure = hv.render(plot.parameter_map(DS, "fc", backend=backend), backend=backend)
    if backend == "bokeh":
        x, y = ((axis.start, axis.end) for axis in (figure.x_range, figure.y_range))
    else:
        x, y = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert (x, y) == ((-0.5, 5.5), (3.5, -0.5))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_ends_of_a_colour_scale_can_be_given(backend):
    drawn = hv.renderer(backend).get_plot(plot.parameter_map(DS, "fc", limits=(-2.0, 3.0), backend=backend))
    if backend == "bokeh":
        mapper = drawn.handles["color_mapper"]
        ends = mapper.low, mapper.high
    else:
        ends = drawn.handles["artist"].get_clim()
    assert ends == (-2.0, 3.0)


def test_units_over_time():
    np.testing.assert_allclose(
        pixels(plot.unit_map(DS, "fc")), lk.aggregate.sum_by(DS.lk.sel(layer="fc"), "unit").T, rtol=1e-4, atol=1e-6
    )


def test_a_helping_weight_is_green_in_saliency():
    picture = plot.saliency(DS, 0)
    cmap = hv.Store.lookup_options("bokeh", picture, "style").kwargs["cmap"]
    assert cmap[-1] == plot.sign_colours()["helping"]
    np.testing.assert_allclose(pixels(picture)[:, :2], lk.specialization.saliency(DS, 0)[0])


def test_zero_is_white_and_an_all_zero_layer_is_drawn():
    load("matplotlib")
    values = np.array([[-3.0, 0.0], [1.0, np.nan]])
    for shown in (values, np.zeros((2, 2))):
        picture = image("matplotlib", [shown], (0, 0, 2, 2), ("x", "y"), ["value"])
        artist = hv.render(picture, backend="matplotlib").axes[0].images[0]
        colours = artist.cmap(artist.norm(np.asarray(artist.get_array())))
        np.testing.assert_array_equal(colours[np.asarray(artist.get_array()) == 0], [[1, 1, 1, 1]] * (shown == 0).sum())
    mapper = hv.renderer("bokeh").get_plot(plot.layer_map(DS * 0)).handles["color_mapper"]
    assert (mapper.low, mapper.high, mapper.palette[127]) == (-1, 1, "#ffffff")


# ---- large data ---------------------------------------------------------------------------------------------------


def test_a_pixel_shows_the_value_of_largest_magnitude():
    values = np.random.default_rng(0).normal(size=(13, 29))
    values[3, 4:8] = np.nan
    rows, columns_ = even_blocks(13, 5), even_blocks(29, 7)
    shown = strongest(values, (rows, columns_))
    for r, (a, b) in enumerate(rows):
        for c, (d, e) in enumerate(columns_):
            block = values[a:b, d:e]
            assert shown[r, c] == block.ravel()[np.nanargmax(np.abs(block))]
    np.testing.assert_array_equal(strongest(values, (even_blocks(13, 99), even_blocks(29, 99))), values)


def test_uneven_iterations_keep_their_time_scale():
    labels = np.array([0, 1, 2, 5, 9, 10])
    blocks, ends = label_blocks(labels, 100)
    assert ends == (0, 11)
    shown = strongest(labels[None], (even_blocks(1, 1), blocks))
    np.testing.assert_array_equal(shown, [[0, 1, 2, 2, 2, 5, 5, 5, 5, 9, 10]])
    blocks, _ = label_blocks(labels, 3)
    borders = np.linspace(*ends, 4)
    reach = [*labels[1:], 11]
    for (first, after), left, right in zip(blocks, borders[:-1], borders[1:], strict=True):
        touched = [k for k in range(6) if labels[k] < right and reach[k] > left]
        assert touched == list(range(first, after))


def test_a_long_run_is_reduced_and_keeps_its_outlier():
    ds = tiny_trajectory(3000)
    lca = ds["lca"].copy()
    lca[1234] = 100.0
    shown = pixels(plot.layer_map(ds.assign(lca=lca)))
    assert shown.shape[1] <= 1000
    assert shown.max() == pytest.approx(float(lk.layers.layer_lca(ds.assign(lca=lca)).max()))


def test_many_curves_are_two_marks_and_too_many_are_refused():
    picture = plot.cumulative(DS)
    paths = marks(picture, hv.Path)
    assert len(paths) == 2
    totals = DS["lca"].sum("iteration", dtype=np.float64).values
    assert sum(len(path.split()) for path in paths) == (totals != 0).sum()
    wide = tiny_trajectory(2, layers=(TensorSpec("w", (100, 60), "kernel", "w", "linear"),))
    with pytest.raises(ValueError, match=re.escape("6000 curves are too many for one picture (at most 5000). Select")):
        plot.cumulative(wide)
    assert len(named(plot.cumulative(wide, parameters=["w[3, 4]", 7]), hv.Curve)) == 2


# ---- bad input ----------------------------------------------------------------------------------------------------


NO_CLASSES = DS.drop_vars([name for name in DS.variables if "class" in DS[name].dims])
NO_PARAMETERS = DS.drop_vars([name for name in DS.variables if "parameter" in DS[name].dims])
DEEP = tuple(TensorSpec(f"w{n}", (2, 2), "kernel", f"layer{n}", "linear") for n in range(14))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.layer_map(RUNS), "a heat map of layers: a picture of one run, got 3: pass ds.isel(run=0)"),
        (lambda: plot.class_curves(NO_CLASSES, 1, "fc"), 'classes="unit"'),
        (lambda: plot.parameter_map(NO_PARAMETERS), "holds nothing per parameter"),
        (lambda: plot.detail(NO_PARAMETERS, 3), "this trajectory has no 'theta'"),
        (lambda: plot.parameter_map(DS, "conv2"), "Did you mean 'conv1'"),
        (lambda: plot.parameter_map(DS, "fc", quantity="grad"), "Did you mean 'gradient'"),
        (lambda: plot.parameter_map(DS.lk.sel(layer="fc", unit=1), "fc"), "holds 6 of the 24 parameters"),
        (lambda: plot.unit_map(DS, "con1"), "Did you mean 'conv1'"),
        (lambda: plot.unit_map(DS.isel(iteration=slice(0)), "fc"), "the selection has no iteration"),
        (lambda: plot.kurtosis(DS.isel(iteration=slice(0))), "the selection has no iteration"),
        (lambda: plot.layers_over_time(tiny_trajectory(layers=DEEP)), "14 layers are too many lines"),
        (lambda: plot.layers({}), "the dict is empty"),
        (lambda: plot.lca_histogram(DS.assign(lca=DS["lca"] * 0)), "all LCA is zero"),
        (lambda: plot.delays([1, 1, 1], RUNS["loss"].isel(snapshot=-1)), "not all the same"),
        (lambda: plot.cumulative(DS, units=[1]), "pass layer="),
        (lambda: plot.cumulative(DS, parameters=[61]), "[61] are not in this dataset"),
        (lambda: plot.tail_fits(DS, "zero"), "unknown outcome"),
        (lambda: plot.parameter_map(DS.assign(lca=DS["lca"] * np.nan)), "every number of this picture is NaN"),
        (lambda: plot.path_allocation(rate=3), "choose a smaller rate"),
        (lambda: plot.overfitting_map(DS, val="test"), "lk.allocate(file, objective, name='test')"),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


ODD = ["</script><img src=x onerror=f()>", "$a_b$ $$x^2$$", "{x} a\nb"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_odd_names_are_drawn_as_they_are(backend):
    ds = DS.assign_coords(layer=("layer", ODD), **{"class": ("class", ["iteration", "{}", "$q$"])})
    title = plot.unit_map(ds, ODD[2], backend=backend)
    legend = plot.class_curves(ds, 1, ODD[1], backend=backend)
    figures = [hv.render(picture, backend=backend) for picture in (title, legend, plot.layers(ds, backend=backend))]
    if backend == "bokeh":
        texts = [figures[0].title.text, figures[1].legend[0].items[0].label.value]
        ticks = figures[2].xaxis[0].major_label_overrides.values()
        assert "$$" not in figures[1].title.text  # Bokeh reads a pair of these as TeX
    else:
        texts = [figures[0].axes[0].get_title(), figures[1].axes[0].get_legend().get_texts()[0].get_text()]
        ticks = [tick.get_text() for tick in figures[2].axes[0].get_xticklabels()]
        assert r"\$a_b\$" in figures[1].axes[0].get_title()
    assert texts[0] == "LCA of the units of {x} a b"
    assert texts[1] == "class iteration"
    tag = ODD[0].replace("<", "‹") if backend == "bokeh" else ODD[0]
    assert tag in ticks


def test_names_do_not_end_a_script_of_the_page():
    evil = [f"</script><script>f({n})" for n in range(3)]
    ds = DS.copy(deep=True).assign_coords(layer=("layer", evil), **{"class": ("class", evil)})
    ds.attrs["loss_unit"] = evil[2]
    for name in ds.variables:
        ds[name].attrs |= {"units": evil[0], "long_name": evil[1]}
    pictures = [
        plot.loss(ds),
        plot.residual(ds),
        plot.parameter_map(ds, evil[2]),
        plot.detail(ds, 3),
        plot.saliency(ds, 1, evil[2], shape=(2, 3)),
        plot.lca_histogram(ds),
        plot.tail_fits(ds),
        plot.train_validation(ds),
        plot.cumulative(ds),
        plot.layers({evil[0]: ds, "b": ds}),
        plot.layer_map(ds),
        plot.layers_over_time(ds),
        plot.peaks(ds, 5),
        plot.class_curves(ds, 1, evil[1]),
        plot.unit_map(ds, evil[2]),
        plot.overfitting_map(ds),
    ]
    document = Document()
    for picture in pictures:
        document.add_root(hv.render(picture, backend="bokeh"))
    text = json.dumps(document.to_json(), default=str, ensure_ascii=False)
    assert "‹/script>‹script>f(2)" in text
    assert "</script" not in text


def test_the_accessor_forwards():
    mine, theirs = (marks(picture, hv.Rectangles)[0] for picture in (DS.lk.plot.layers(), plot.layers(DS)))
    np.testing.assert_array_equal(columns(mine), columns(theirs))
    assert "parameter_map" in dir(DS.lk.plot)
    with pytest.raises(AttributeError, match="Did you mean 'layers'"):
        _ = DS.lk.plot.layer


@pytest.mark.parametrize("room", ["_raster", "layerwise", "losses", "parameters"])
def test_examples(room):
    result = doctest.testmod(importlib.import_module(f"lcakit.plot.{room}"))
    assert result.attempted > 0
    assert result.failed == 0
