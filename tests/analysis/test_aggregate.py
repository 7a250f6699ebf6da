from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import lcakit as lk
from lcakit.analysis.aggregate import sum_by
from lcakit.testing import LAYERS, tiny_trajectory
from lcakit.trajectory.labels import GROUPINGS, Labels, TensorSpec, group_ids
from tests.support.laziness import any_chunks, is_lazy, loop_sums, nothing_computed, rechunked, two_runs

# a transposed, grouped kernel: its units do not lie side by side; and norms that alternate with their kernels
ODD = (
    TensorSpec("up.weight", (4, 2, 2), "kernel", "up", "convtranspose1d", transposed=True, groups=2),
    TensorSpec("fc.weight", (3, 2), "kernel", "fc", "linear"),
    TensorSpec("norm.weight", (4,), "norm_scale", "norm", "layernorm", "up"),
    TensorSpec("fc.bias", (3,), "bias", "fc", "linear"),
)
RUNS = {name: tiny_trajectory(6, layers=t, class_parameters=True) for name, t in {"tiny": LAYERS, "odd": ODD}.items()}


def names_of(ds: xr.Dataset, by: str) -> list[str]:
    ids, labels = group_ids(ds, by)
    return [str(labels.values[g]) for g in ids]


def check(got: xr.DataArray, values: np.ndarray, names: list[str]) -> None:
    """Compare with the slow twin; the error stays within 1e-6 of Σ|A|."""
    expected, size = loop_sums(values, names), loop_sums(np.abs(values), names)
    by = got.dims[-1]
    assert [str(v) for v in got[by].values] == sorted(expected, key=[str(v) for v in got[by].values].index)
    for name, column in zip(got[by].values, np.moveaxis(got.values, -1, 0), strict=True):
        assert np.all(np.abs(column - expected[str(name)]) <= 1e-6 * size[str(name)])


@given(
    st.sampled_from(sorted(RUNS)),
    st.sampled_from(GROUPINGS),
    st.sampled_from(["lca", "theta", "lca_class"]),
    any_chunks(),
)
def test_sum_by_against_a_loop(run, by, variable, chunks):
    ds = rechunked(RUNS[run], chunks)
    with nothing_computed():
        got = sum_by(ds, by, variable)
    assert is_lazy(got) == (chunks is not None)
    assert got.dtype == np.float64
    assert got.dims == (*ds[variable].dims[:-1], by)
    assert got.compute().shape == got.shape
    check(got, ds[variable].values, names_of(ds, by))


@given(st.sampled_from(["unit", "layer", "kernel_layer"]), any_chunks())
def test_sum_by_over_units(by, chunks):
    ds = rechunked(RUNS["tiny"], chunks)
    with nothing_computed():
        got = sum_by(ds, by, "lca_unit_class")
    assert got.dims == ("iteration", by, "class")
    xr.testing.assert_allclose(
        got.sum("class").drop_attrs(), sum_by(ds, by, "lca").drop_attrs().rename("lca_unit_class"), rtol=0, atol=1e-5
    )


@settings(deadline=None, max_examples=15)
@given(any_chunks())
def test_sum_by_with_runs(chunks):
    first, second = tiny_trajectory(4), tiny_trajectory(4, seed=1)
    ds = rechunked(two_runs(first, second), chunks)
    with nothing_computed():
        got = sum_by(ds, "layer")
    assert got.dims == ("run", "iteration", "layer")
    np.testing.assert_array_equal(got.sel(run="y"), sum_by(rechunked(second, chunks), "layer"))


def test_sums_over_the_network_are_the_loss_change():
    ds = RUNS["tiny"]
    for by in GROUPINGS:
        np.testing.assert_allclose(sum_by(ds, by).sum(by), np.diff(ds["loss"]), rtol=1e-5)


def test_groups_that_a_selection_lacks_are_left_out():
    part = RUNS["tiny"].lk.sel(role="bias")
    assert sum_by(part, "layer")["layer"].values.tolist() == ["conv1", "fc"]
    assert sum_by(part, "unit")["unit"].values.tolist() == [0, 1, 2, 6, 7, 8, 9]


def test_float32_sums_of_long_runs_stay_accurate():
    wide = (TensorSpec("w", (2, 100_000), "kernel", "w"),)
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(3, 200_000)) * np.exp(rng.normal(size=(3, 200_000)))).astype(np.float32)
    steps = {"iteration": (("iteration",), np.arange(3))}
    ds = lk.testing.build_dataset(Labels(wide).coords() | steps, {"lca": values})
    for chunks in (None, {"parameter": 30_000}):
        check(sum_by(rechunked(ds, chunks), "tensor"), values, ["w"] * 200_000)


def test_errors_say_what_to_do():
    ds = RUNS["tiny"]
    with pytest.raises(ValueError, match="kernel_layer"):
        sum_by(ds, "kernel")
    with pytest.raises(ValueError, match="unit"):
        sum_by(ds, "role", "lca_unit_class")
    with pytest.raises(lk.TrajectoryError, match='classes="parameter"'):
        sum_by(ds.drop_vars("lca_class"), "layer", "lca_class")
    with pytest.raises(lk.TrajectoryError, match=r"lk\.allocate\(file, objective, name='val'\)"):
        sum_by(ds, "layer", "lca_val")
    with pytest.raises(ValueError, match="Did you mean 'lca'"):
        sum_by(ds, "layer", "lcaa")
    with pytest.raises(lk.TrajectoryError, match="table of tensor, layer"):
        sum_by(ds[["lca"]], "layer")
    with pytest.raises(lk.TrajectoryError, match="'parameter' or 'unit'"):
        sum_by(ds, "layer", "loss")
