"""``classes=`` of pictures: the numbers are those of NumPy on the file, for classes picked and summed by hand."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import lcakit as lk
from lcakit.plot._colours import NAMED
from lcakit.testing import tiny_trajectory
from tests.support.pictures import hv, named, plot

WANTED = ["a", "c"]
PLACES = [0, 2]
DS = tiny_trajectory(24, class_parameters=True)
DS = DS.assign(
    lca_val=-0.5 * DS["lca"],
    lca_class_val=-0.5 * DS["lca_class"],
    loss_val=DS["loss"] / 2,
    loss_class_val=DS["loss_class"],
)


def by_hand():
    """Return a dataset of the wanted classes alone, summed with NumPy; it has none by class and parameter."""
    sums = {name: DS[f"lca_class{name[3:]}"].values[:, PLACES].astype(np.float64).sum(1) for name in ("lca", "lca_val")}
    out = DS.drop_vars([name for name in DS.data_vars if "class" in str(name)])
    out = out.assign({name: (("iteration", "parameter"), values.astype(np.float32)) for name, values in sums.items()})
    out = out.drop_vars(
        [name for name in out.data_vars if str(name).startswith(("unit_", "layer_h", "helped", "total"))]
    )
    by_class = DS[["lca_unit_class"]].isel({"class": PLACES})
    return out.drop_dims("class", errors="ignore").assign(lca_unit_class=by_class["lca_unit_class"])


CALLS = {
    "layers": {},
    "layers_over_time": {"stacked": True},
    "layer_map": {},
    "help_hurt_zero": {},
    "fractions": {"by": "layer"},
    "fraction_helping": {"window": 5},
    "helping_by_window": {},
    "signs_per_class": {},
    "lca_histogram": {},
    "helped_histogram": {},
    "tail_fits": {},
    "kurtosis": {},
    "parameter_map": {"layer": "fc", "iteration": 3},
    "unit_map": {"layer": "fc"},
    "cumulative": {"parameters": [0, 30]},
    "detail": {"parameter": "fc.weight[1, 2]"},
    "correlations": {"layer": "fc"},
    "correlation_by_layer": {},
    "saliency": {"unit": [0, 1]},
    "overfitting_map": {"window": 5},
    "train_validation": {},
}


def numbers(picture):
    """Return all numbers of a picture."""
    kinds = (hv.Image, hv.Curve, hv.Area, hv.Rectangles, hv.Scatter, hv.ErrorBars, hv.Path)
    parts = picture.traverse(lambda one: one, [lambda one: isinstance(one, kinds)])
    return [np.asarray(part.dimension_values(n), np.float64) for part in parts for n in range(len(part.dimensions()))]


@pytest.mark.parametrize("name", CALLS)
def test_numbers_are_those_of_the_classes(name):
    draw = getattr(plot, name)
    found, expected = numbers(draw(DS, classes=WANTED, **CALLS[name])), numbers(draw(by_hand(), **CALLS[name]))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-9)
    every = numbers(draw(DS, **CALLS[name]))
    assert any(a.shape != b.shape or not np.allclose(a, b, equal_nan=True) for a, b in zip(found, every, strict=False))


def test_every_picture_of_lca_takes_classes():
    without = {
        "residual",
        "turns",
        "phase_lag",
        "specialized_fraction",
    }  # of the whole loss, of weights, of all classes
    for name in dir(DS.lk.plot):
        assert ("classes" in inspect.signature(getattr(plot, name)).parameters) != (name in without), name


def test_titles_say_which_classes():
    def title(picture):
        return hv.Store.lookup_options("bokeh", picture, "plot").kwargs["title"]

    assert title(DS.lk.plot.layer_map(classes="b")).endswith(", class b")
    assert title(plot.parameter_map(DS, classes=WANTED)).endswith(", classes a, c")
    assert title(plot.layers(DS, classes=WANTED, title="mine")) == "mine"
    odd = DS.assign_coords({"class": ["{x}", "$$", "</script>"]})
    assert title(plot.layer_map(odd, classes=["{x}", "</script>"])).endswith("{{x}}, ‹/script>")


def test_lines_of_classes_keep_their_colours():
    for picture in (plot.loss(DS, classes=["c"]), plot.class_curves(DS, 0, "fc", classes="c")):
        (line,) = named(picture, hv.Curve).values()
        assert line.label == "class c"
        assert hv.Store.lookup_options("bokeh", line, "style").kwargs["color"] == NAMED[2]
    np.testing.assert_allclose(
        named(plot.loss(DS, classes=["c"]), hv.Curve)["class c"]["loss (nats)"], DS["loss_class"][:, 2]
    )


def test_peaks_of_some_classes():
    found = lk.synchronization.peak_iterations(DS, 5).isel({"class": PLACES})
    (mark, _) = plot.peaks(DS, 5, classes=WANTED).traverse(lambda one: one, [hv.Scatter])
    both = sum(len(one) for one in plot.peaks(DS, 5, classes=WANTED).traverse(lambda one: one, [hv.Scatter]))
    assert both == found.size
    assert set(mark.dimension_values(0)) <= set(found.values.ravel())


def test_a_film_is_of_the_classes():
    film = lk.animate(DS, "fc", classes=WANTED, quiet=True).frames
    own = lk.animate(by_hand(), "fc", quiet=True).frames
    np.testing.assert_array_equal(film.codes, own.codes)
    assert film.title == "LCA of fc.weight, classes a, c"
    assert f"loss {DS['loss_class'].values[1, PLACES].sum():.4g} nats" in film.texts[0]


def test_what_cannot_be_selected_is_said():
    with pytest.raises(ValueError, match="class 'd'"):
        plot.layers(DS, classes="d")
    with pytest.raises(ValueError, match="no class"):
        plot.layers(DS, classes=[])
    compact = tiny_trajectory(5)
    with pytest.raises(lk.TrajectoryError, match='classes="parameter"'):
        plot.parameter_map(compact, classes="a")
    plot.layers(compact, classes="a")
    with pytest.raises(lk.TrajectoryError, match="selects from a trajectory, got a result"):
        plot.lca_histogram(lk.tails.histogram(DS), classes="a")
