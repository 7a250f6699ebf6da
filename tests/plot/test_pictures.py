"""Every picture of the studies renders, on both backends, and says what it cannot show."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import lcakit as lk
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import TensorSpec
from tests.support.pictures import DS, IMAGES, QUICK_BACKENDS, RUNS, columns, hv, marks, plot

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
    "peaks": [(DS, 5), (DS, 5, "lca", (0.5, 1.0)), (lk.synchronization.peak_iterations(DS, 5, classes=False),)],
    "correlations": [(DS, "fc")],
    "correlation_by_layer": [(DS,), (RUNS,)],
    "specialized_fraction": [(DS,), (RUNS,)],
    "class_curves": [(DS, 2, "fc"), (RUNS, 2, "fc")],
    "saliency": [(DS, 0), (IMAGES, [0, 1, 4])],
    "overfitting_map": [(DS,)],
    "train_validation": [(DS,), (RUNS,)],
    "sweep": [({0.01: RUNS, 1.0: DS},), ({"sgd": {1: DS, 2: DS}, "adam": {1: RUNS}},)],
    "path_allocation": [()],
}


@pytest.mark.parametrize("backend", QUICK_BACKENDS)
@pytest.mark.parametrize("name", CALLS)
def test_every_picture_renders(name, backend):
    for arguments in CALLS[name]:
        options = {"max_lag": 3} if name == "phase_lag" else {}
        picture = getattr(plot, name)(*arguments, **options, backend=backend)
        assert hv.render(picture, backend=backend) is not None


def test_every_function_is_tested():
    assert set(CALLS) == set(plot._PICTURES)


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


def test_the_accessor_forwards():
    mine, theirs = (marks(picture, hv.Rectangles)[0] for picture in (DS.lk.plot.layers(), plot.layers(DS)))
    np.testing.assert_array_equal(columns(mine), columns(theirs))
    assert "parameter_map" in dir(DS.lk.plot)
    with pytest.raises(AttributeError, match="Did you mean 'layers'"):
        _ = DS.lk.plot.layer


WITH_EXAMPLES = sorted(path.stem for path in Path(plot.__path__[0]).glob("*.py") if ">>>" in path.read_text("utf-8"))


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"lcakit.plot.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


FUNCTIONS = [getattr(plot, name) for name in CALLS] + [
    getattr(module, name) for module in (plot.nqm, plot.wedges) for name in module.__all__
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_function_says_what_it_takes_returns_and_raises(function):
    sections = re.findall(r"^ {4}(\w+)\n {4}-+$", function.__doc__, re.MULTILINE)
    assert {"Parameters", "Returns", "Raises", "Examples"} <= set(sections)
    named = re.findall(r"^ {4}(\w+(?:, \w+)*)$", function.__doc__.partition("----\n")[2], re.MULTILINE)
    assert set(inspect.signature(function).parameters) <= {name for names in named for name in names.split(", ")}
