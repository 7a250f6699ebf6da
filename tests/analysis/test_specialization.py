from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import lcakit as lk
from lcakit.analysis.saliency import saliency
from lcakit.analysis.specialization import class_curves, class_share, specialized_fraction, unit_class_lca
from lcakit.testing import tiny_trajectory
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import build_dataset
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs

LAYER_OF_UNIT = ["conv1"] * 3 + ["norm1"] * 3 + ["fc"] * 4


def with_sums(sums: list[list[float]], iterations: int = 4) -> xr.Dataset:
    """A trajectory whose unit and class sums over the run are given, spread over the iterations."""
    table = np.array(sums)
    units, classes = table.shape
    specs = [TensorSpec(f"l{u}.weight", (1, 1), "kernel", f"l{u}", "linear") for u in range(units)]
    steps = {"iteration": np.arange(iterations), "class": np.array([f"c{n}" for n in range(classes)])}
    coords = Labels(tuple(specs)).coords() | {name: ((name,), values) for name, values in steps.items()}
    parts = np.random.default_rng(0).normal(size=(iterations, units, classes))
    parts += table / iterations - parts.mean(0)
    return build_dataset(coords, {"lca_unit_class": parts})


def slow_shares(sums: np.ndarray, top: list[int]) -> np.ndarray:
    out = []
    for row in sums:
        helped = sorted((max(0.0, -x) for x in row), reverse=True)
        out.append([sum(helped[:k]) / sum(helped) if sum(helped) else np.nan for k in top])
    return np.array(out)


@given(any_chunks(), st.integers(0, 3), st.none() | st.tuples(st.integers(0, 6), st.integers(0, 6)))
def test_sums_and_shares_against_a_loop(chunks, seed, ends):
    ds = tiny_trajectory(7, seed=seed)
    wanted = None if ends is None else slice(min(ends), max(ends))
    with nothing_computed():
        sums = unit_class_lca(rechunked(ds, chunks), iterations=wanted)
        shares = class_share(rechunked(ds, chunks), [3, 1], iterations=wanted)
    assert is_lazy(sums) == is_lazy(shares) == (chunks is not None)
    assert sums.dims == ("unit", "class")
    assert sums.dtype == np.float64
    assert shares.dims == ("unit", "top")
    assert shares["top"].values.tolist() == [3, 1]
    kept = slice(0, 7) if wanted is None else slice(wanted.start, wanted.stop + 1)
    expected = sum(x.astype(np.float64) for x in ds["lca_unit_class"].values[kept])
    np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(shares, slow_shares(expected, [3, 1]), rtol=1e-9)
    assert shares["unit_channel"].values.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 3]


def test_one_iteration_by_its_label():
    ds = tiny_trajectory(7).assign_coords(iteration=np.arange(100, 107))
    got = unit_class_lca(ds, iterations=103)
    np.testing.assert_array_equal(got, ds["lca_unit_class"][3].astype(np.float64))


@pytest.mark.parametrize("chunks", [None, {"unit": 2, "class": 1, "iteration": 3}])
def test_shares_in_closed_form(chunks):
    ds = with_sums(
        [
            [-1, -1, -1, -1],  # all alike: k / 4
            [-3, 0, 9, 0],  # one class only
            [-6, -3, -1, 5],  # 0.6, 0.9, 1
            [1, 2, 0.5, 4],  # helps nothing
        ]
    )
    ds = ds if chunks is None else ds.chunk(chunks)
    got = class_share(ds)
    expected = [[0.25, 0.5, 0.75], [1, 1, 1], [0.6, 0.9, 1], [np.nan] * 3]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@given(any_chunks(), st.sampled_from([0.0, 0.5, 0.8, 0.95]), st.sampled_from(["layer", "kernel_layer"]))
def test_fraction_against_a_loop(chunks, threshold, by):
    ds = tiny_trajectory(7, seed=2)
    ds["lca_unit_class"][:, 1] = abs(ds["lca_unit_class"][:, 1])  # helps nothing
    ds["lca_unit_class"][:, 3:6] = 1.0  # nor does a whole layer
    with nothing_computed():
        got = specialized_fraction(rechunked(ds, chunks), (1, 2), threshold, by)
    assert is_lazy(got) == (chunks is not None)
    assert got.dims == ("layer", "top")
    layers = ["conv1", "norm1", "fc"] if by == "layer" else ["conv1", "fc"]
    assert got["layer"].values.tolist() == layers
    shares = slow_shares(ds["lca_unit_class"].values.astype(np.float64).sum(0), [1, 2])
    for layer, row in zip(layers, got.values, strict=True):
        members = {layer, "norm1"} if by == "kernel_layer" and layer == "conv1" else {layer}
        for k in range(2):
            among = [x for x, name in zip(shares[:, k], LAYER_OF_UNIT, strict=True) if name in members and x == x]
            expected = sum(x > threshold for x in among) / len(among) if among else np.nan
            np.testing.assert_allclose(row[k], expected)
    assert by == "kernel_layer" or np.isnan(got.sel(layer="norm1")).all()


def test_the_threshold_itself_is_not_above_it():
    ds = with_sums([[-0.75, -0.25]], iterations=1)
    assert float(specialized_fraction(ds, [1], 0.75)[0, 0]) == 0
    assert float(specialized_fraction(ds, [1], 0.74)[0, 0]) == 1


@given(any_chunks(), st.sampled_from([(0, "conv1", 0), (2, "norm1", 5), (3, "fc", 9), (7, None, 7)]))
def test_class_curves_against_a_loop(chunks, choice):
    unit, layer, row = choice
    ds = tiny_trajectory(7)
    with nothing_computed():
        got = class_curves(rechunked(ds, chunks), unit, layer)
    assert is_lazy(got) == (chunks is not None)
    assert got.dims == ("iteration", "class")
    values = ds["lca_unit_class"].values.astype(np.float64)[:, row]
    running = [sum(values[: t + 1]) for t in range(7)]
    np.testing.assert_allclose(got, running, rtol=1e-9, atol=1e-12)
    assert got["iteration"].values.tolist() == list(range(7))
    np.testing.assert_allclose(got[-1], unit_class_lca(ds)[row], rtol=1e-9, atol=1e-12)


# ---- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(any_chunks())
def test_runs_are_treated_one_by_one(chunks):
    runs = [tiny_trajectory(5, seed=seed) for seed in (0, 1)]
    ds = rechunked(two_runs(*runs), chunks)
    studies = {
        unit_class_lca: ("run", "unit", "class"),
        class_share: ("run", "unit", "top"),
        specialized_fraction: ("run", "layer", "top"),
        lambda ds: class_curves(ds, 1, "fc"): ("run", "iteration", "class"),
        lambda ds: saliency(ds, 1): ("run", "in", "ky", "kx"),
    }
    for study, dims in studies.items():
        with nothing_computed():
            got = study(ds)
        assert got.dims == dims
        for name, run in zip("xy", runs, strict=True):
            np.testing.assert_allclose(got.sel(run=name), study(run), rtol=1e-9, atol=1e-12)


def test_another_objective_and_attributes():
    ds = tiny_trajectory(4)
    ds = ds.assign(lca_val=-ds["lca"], lca_unit_class_val=-ds["lca_unit_class"])
    name = "lca_unit_class_val"
    pairs = [
        (unit_class_lca(ds, name), -unit_class_lca(ds), "nats"),
        (class_curves(ds, 0, lca=name), -class_curves(ds, 0), "nats"),
        (saliency(ds, 0, lca="lca_val"), -saliency(ds, 0), "nats"),
        (class_share(ds, lca=name), class_share(ds.assign(lca_unit_class=-ds["lca_unit_class"])), "1"),
    ]
    for got, expected, units in pairs:
        np.testing.assert_array_equal(got, expected)
        assert got.attrs["units"] == units
        assert got.attrs["long_name"]
    assert specialized_fraction(ds, lca=name).attrs["units"] == "1"


def test_nan_is_not_taken_for_nothing():
    ds = tiny_trajectory(4)
    ds["lca_unit_class"][1, 2, 0] = np.nan
    ds["lca"][1, 0] = np.nan
    assert np.isnan(unit_class_lca(ds)[2, 0])
    assert np.isnan(class_curves(ds, 2)[1:, 0]).all()
    assert np.isnan(saliency(ds, 0)[0, 0, 0])
    assert np.isnan(class_share(ds)[2]).all()


@pytest.mark.parametrize("study", [unit_class_lca, class_share, specialized_fraction, lambda ds: class_curves(ds, 0)])
def test_a_file_without_classes_names_the_option(study):
    with pytest.raises(lk.TrajectoryError, match='classes="unit"'):
        study(tiny_trajectory(3).drop_vars("lca_unit_class"))


@pytest.mark.parametrize("name", ["lca", "lca_class"])
def test_variables_without_units_are_refused(name):
    ds = tiny_trajectory(3, class_parameters=True)
    for study in (unit_class_lca, class_share, lambda ds, lca: class_curves(ds, 0, lca=lca)):
        with pytest.raises(lk.TrajectoryError, match="iteration, unit, class"):
            study(ds, lca=name)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda ds: class_share(ds, (1, 4)), "1 to 3 .*got \\(1, 4\\)"),
        (lambda ds: class_share(ds, (0,)), "1 to 3"),
        (lambda ds: class_share(ds, ()), "1 to 3"),
        (lambda ds: class_share(ds, (2, 2)), "different"),
        (lambda ds: specialized_fraction(ds, threshold=1.0), "less than 1"),
        (lambda ds: specialized_fraction(ds, threshold=np.nan), "less than 1"),
        (lambda ds: specialized_fraction(ds, by="tensor"), "kernel_layer"),
        (lambda ds: unit_class_lca(ds, iterations=slice(1, 9)), "9 is not in the run"),
        (lambda ds: class_curves(ds, 4, "fc"), "unknown unit 4"),
        (lambda ds: class_curves(ds, 10), "unknown unit 10"),
        (lambda ds: class_curves(ds, 0, "fc2"), "unknown layer 'fc2'"),
        (lambda ds: class_curves(ds, [0, 1]), "whole number, got a list"),
        (lambda ds: saliency(ds, True), "one whole number"),
        (lambda ds: saliency(ds, 3), "unknown unit 3"),
        (lambda ds: saliency(ds, 0, "norm1"), "layer with a kernel 'norm1'.*'conv1', 'fc'"),
        (lambda ds: saliency(ds, 0, "fc"), "6 inputs, neither a square"),
        (lambda ds: saliency(ds, 0, "fc", (2, 2)), "6 entries.*got \\(2, 2\\)"),
        (lambda ds: saliency(ds, 0, "fc", (6,)), "6 entries"),
        (lambda ds: saliency(ds, 0, "fc", (-2, -3)), "6 entries"),
        (lambda ds: saliency(ds, 0, "conv1", (2, 4)), "shape of its own"),
        (lambda ds: saliency(ds.drop_vars("lca"), 0), 'keep=\\("lca"'),
        (lambda ds: saliency(ds.isel(parameter=slice(0, 12)), 1), "4 of the 8 weights"),
        (lambda ds: class_curves(ds[["lca_unit_class"]], 0), "lost its table"),
    ],
)
def test_bad_calls_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call(tiny_trajectory(3))
