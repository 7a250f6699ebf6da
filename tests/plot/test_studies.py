"""Pictures of single studies show the numbers of the analysis."""

from __future__ import annotations

import numpy as np
import pytest

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.pictures import DS, RUNS, columns, hv, named, pixels, plot


def test_fraction_bars_reach_from_zero_to_one():
    parts = named(plot.fractions(DS, by="layer"), hv.Rectangles)
    expected = lk.noise.help_hurt_zero(DS, by="layer").mean("iteration")
    for name, element in parts.items():
        _, low, _, high = columns(element)
        np.testing.assert_allclose(high - low, expected.sel(outcome=name), atol=1e-12)


def test_the_loss_over_the_shares_is_a_part_of_its_highest_value():
    loss = DS["loss"].values
    (mark,) = named(plot.help_hurt_zero(DS, loss=True), hv.Curve).values()
    snapshot, share = columns(mark)
    np.testing.assert_array_equal(snapshot, DS["snapshot"])
    np.testing.assert_allclose(share, loss / loss.max())
    assert mark.label == f"loss (1 is {loss.max():.3g} nats)"
    assert not named(plot.help_hurt_zero(DS), hv.Curve)


def test_the_loss_over_the_shares_is_that_of_what_is_drawn():
    (mark,) = named(plot.help_hurt_zero(DS, lca="lca_val", loss=True), hv.Curve).values()
    assert mark.label.startswith(f"loss (1 is {float(DS['loss_val'].max()):.3g}")
    (mark,) = named(plot.help_hurt_zero(RUNS, loss=True), hv.Curve).values()
    mean = RUNS["loss"].mean("run")
    np.testing.assert_allclose(columns(mark)[1], mean / mean.max())
    with pytest.raises(ValueError, match="leave out loss=True"):
        plot.help_hurt_zero(DS.assign(loss=DS["loss"] * 0), loss=True)


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


def test_a_helping_weight_is_green_in_saliency():
    picture = plot.saliency(DS, 0)
    cmap = hv.Store.lookup_options("bokeh", picture, "style").kwargs["cmap"]
    assert cmap[-1] == plot.sign_colours()["helping"]
    np.testing.assert_allclose(pixels(picture)[:, :2], lk.specialization.saliency(DS, 0)[0])


def test_saliency_of_a_recurrent_layer_shows_its_gates_side_by_side():
    axes = "(tap=4 unit) input"
    layers = [TensorSpec(f"r.{end}", (8, 4), "kernel", "r", "lstm", axes=axes) for end in ("weight_ih", "weight_hh")]
    ds = tiny_trajectory(4, layers=layers)
    got = pixels(plot.saliency(ds, 1, tensor="r.weight_hh"))
    gates = lk.specialization.saliency(ds, 1, tensor="r.weight_hh").values
    assert got.shape == (2, 4 * 3 - 1)
    np.testing.assert_allclose(np.stack([got[:, 3 * g : 3 * g + 2] for g in range(4)]), gates)


def test_turns_of_running_counts_are_those_of_the_series():
    counts = {"turn_count": lk.oscillation.weight_turns(DS), "crossing_count": lk.oscillation.gradient_crossings(DS)}
    kept = DS.drop_vars(["theta", "gradient"]).assign({name: n.astype("i4") for name, n in counts.items()}).compute()
    drawn = [[(mark.label, mark.columns()) for mark in plot.turns(ds) if mark.label] for ds in (DS, kept)]
    assert [label for label, _ in drawn[1]] == ["weight turn", "gradient crossing"]
    for (_, series), (_, running) in zip(*drawn, strict=True):
        np.testing.assert_equal(series, running)


def test_tiers_of_peaks_are_those_of_the_analysis():
    peaks = lk.synchronization.peak_iterations(DS, 8)
    found = lk.synchronization.tiers(peaks, (0.5, 1.0))
    picture = plot.peaks(peaks, min_fraction=(0.5, 1.0))
    dots = named(picture, hv.Scatter)
    names = ["lone", "50% to 100% of layers", "at least 100% of layers"]
    assert list(dots) == [name for name in names if name in dots]
    for tier, name in enumerate(names):
        expected = peaks.values[(found["in_tier"].values == tier) & np.isfinite(peaks.values)]
        np.testing.assert_array_equal(np.sort(columns(dots[name])[0]) if name in dots else [], np.sort(expected))
    mean = found["count"].mean("class").values
    title = hv.Store.lookup_options("bokeh", picture, "plot").kwargs["title"]
    assert f"{mean[0]:.3g} shared by 50% to 100% of layers and {mean[1]:.3g} shared by at least 100% of layers" in title


def test_the_first_and_the_last_peak_are_not_cut_by_the_frame():
    for of in ("lca", "gradient"):
        picture = plot.peaks(DS, 4, of=of, classes=False)
        at = np.concatenate([columns(dots)[0] for dots in named(picture, hv.Scatter).values()])
        first, last = hv.Store.lookup_options("bokeh", picture, "plot").kwargs["xlim"]
        assert first < at.min()
        assert last > at.max()


def test_the_correlation_of_layers_is_that_of_the_test():
    tests = {layer: lk.correlation.correlation_test(DS, layer, seed=3) for layer in ("conv1", "fc")}
    lines = named(plot.correlation_by_layer(DS, seed=3), hv.Curve)
    for by in ("output", "input"):
        expected = [
            (t["correlation"].sel(grouping=by).item(), t["random"].sel(grouping=by).item()) for t in tests.values()
        ]
        np.testing.assert_allclose(columns(lines[f"same {by}"])[1], [pair[0] for pair in expected])
        np.testing.assert_allclose(columns(lines[f"random, as many as by {by}"])[1], [pair[1] for pair in expected])


def test_one_parameter_in_one_picture_has_lines_as_high_as_the_bars():
    name = "fc.weight[1, 2]"
    found = lk.oscillation.oscillation_detail(DS, name)
    picture = plot.detail(DS, name, together=True)
    lines = named(picture, hv.Curve)
    top = float(abs(found["lca"]).max())
    weight = (found["theta"] - found["theta"].mean()).values
    for label, values in (("weight (scaled)", weight), ("gradient (scaled)", found["gradient"].values)):
        np.testing.assert_allclose(columns(lines[label])[1], values * top / np.abs(values).max(), rtol=1e-5)
    bars = columns(lines["hurting"])[1]
    np.testing.assert_allclose(
        np.sort(bars[np.isfinite(bars) & (bars != 0)]), np.sort(found["lca"].values[found["lca"] > 0])
    )
    with pytest.raises(lk.TrajectoryError, match='keep=\\("gradient"'):
        plot.detail(DS.drop_vars("gradient"), name, together=True)
