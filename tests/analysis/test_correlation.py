from __future__ import annotations

import threading
import weakref

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

import lcakit as lk
from lcakit.analysis.correlation import _kernel, correlation_test, mean_correlation
from lcakit.analysis.weight_groups import random_groups
from lcakit.testing import chunked, tiny_trajectory
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import build_dataset
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs


def slow_correlation(series: np.ndarray) -> float:
    """Mean of np.corrcoef over all pairs of the columns (iteration, weight) that vary."""
    columns = [c for c in series.astype(np.float64).T if c.min() < c.max()]
    pairs = [np.corrcoef(a, b)[0, 1] for n, a in enumerate(columns) for b in columns[:n]]
    return float(np.mean(pairs)) if pairs else float("nan")


def slow_groups(values: np.ndarray, ids: np.ndarray) -> list[float]:
    return [slow_correlation(values[:, ids == g]) for g in range(ids.max() + 1)]


def kernel_of(ds: xr.Dataset, layer: str, variable: str = "lca") -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """LCA of a layer's kernel in natural shape order, and the number of each weight's unit and input in the layer."""
    row = ds["tensor"].values.tolist().index(f"{layer}.weight")
    mask = ds["tensor_index"].values == row
    units = ds["unit_index"].values[mask]
    ids = {"output": units - units.min(), "input": ds["input_index"].values[mask]}
    return ds[variable].values[..., mask], ids


def dataset(values: np.ndarray, outputs: int, inputs: int) -> xr.Dataset:
    """A linear layer with the given LCA (iteration, outputs · inputs)."""
    spec = TensorSpec("w.weight", (outputs, inputs), "kernel", "w", "linear")
    steps = {"iteration": (("iteration",), np.arange(len(values)))}
    return build_dataset(Labels((spec,)).coords() | steps, {"lca": values})


@given(any_chunks(), st.integers(2, 40), st.integers(0, 5), st.sampled_from(["conv1", "fc"]), st.data())
def test_mean_correlation_against_all_pairs(chunks, iterations, seed, layer, data):
    like = data.draw(st.sampled_from(["output", "input"]))
    by = data.draw(st.sampled_from([like, "random"]))
    ds = tiny_trajectory(iterations, seed=seed)  # every fifth parameter never moves
    ds["lca"].values[:, 34] = 0.1  # and this one always helps as little
    ds = rechunked(ds, chunks)
    with nothing_computed():
        got = mean_correlation(ds, layer, by, like, seed, random="any")
    assert is_lazy(got) == (chunks is not None)
    assert got.dims == ("group",)
    values, ids = kernel_of(ds, layer)
    expected = ids[like if by == "random" else by]
    expected = np.random.default_rng(seed).permutation(expected) if by == "random" else expected
    np.testing.assert_allclose(got, slow_groups(values, expected), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@given(any_chunks(), st.integers(0, 5), st.sampled_from(["conv1", "fc"]), st.sampled_from(["output", "input"]))
def test_random_groups_apart_against_all_pairs(chunks, seed, layer, like):
    ds = rechunked(tiny_trajectory(12, seed=seed), chunks)
    with nothing_computed():
        got = mean_correlation(ds, layer, "random", like, seed)
    assert is_lazy(got) == (chunks is not None)
    part, _ = _kernel(ds, layer, "lca")
    drawn, groups = random_groups(part, like, "apart", np.random.default_rng(seed))
    values, ids = kernel_of(ds, layer)
    assert groups == got.sizes["group"] == ids[like].max() + 1
    assert_apart(drawn, groups, ids)
    expected = [slow_correlation(values[:, drawn == g]) for g in range(groups)]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def assert_apart(drawn: np.ndarray, groups: int, ids: dict[str, np.ndarray]) -> None:
    """No two weights of a group share an input or an output, and each group has as many weights as there can be."""
    for g in range(groups):
        members = drawn == g
        for side in ids.values():
            assert np.unique(side[members]).size == members.sum()
        assert members.sum() == min(side.max() + 1 for side in ids.values())


@pytest.mark.parametrize(("outputs", "inputs"), [(4, 3), (3, 4), (10, 10), (2, 30), (1, 5)])
@pytest.mark.parametrize("like", ["output", "input"])
def test_weights_are_drawn_alike_into_random_groups_apart(outputs, inputs, like):
    ds = dataset(np.ones((2, outputs * inputs), np.float32), outputs, inputs)
    part, _ = _kernel(ds, "w", "lca")
    ids = {"output": np.repeat(np.arange(outputs), inputs), "input": np.tile(np.arange(inputs), outputs)}
    often = np.zeros(outputs * inputs)
    for seed in range(300):
        drawn, groups = random_groups(part, like, "apart", np.random.default_rng(seed))
        assert_apart(drawn, groups, ids)
        often += drawn < groups
    share = groups * min(outputs, inputs) / (outputs * inputs)
    assert np.abs(often / 300 - share).max() < 0.15


def test_groups_that_share_are_told_from_groups_apart(rng):
    """LCA that is shared by all weights of an output: any random group of it holds some, groups apart hold none."""
    common = np.repeat(rng.normal(size=(200, 3)), 20, axis=1)  # three outputs, twenty inputs
    ds = dataset((common + 0.5 * rng.normal(size=(200, 60))).astype(np.float32), 3, 20)
    apart, some = (correlation_test(ds, "w", random=how).sel(grouping="output") for how in ("apart", "any"))
    assert float(apart["correlation"]) == float(some["correlation"]) > 0.7
    assert abs(float(apart["random"])) < 0.15 < float(some["random"])
    with pytest.raises(ValueError, match="apart"):
        correlation_test(ds, "w", random="shuffled")
    with pytest.raises(ValueError, match="apart"):
        mean_correlation(ds, "w", "random", random="shuffled")


def test_groups_are_labelled():
    ds = tiny_trajectory(9)
    conv, fc = mean_correlation(ds, "conv1"), mean_correlation(ds, "fc")
    assert conv["unit"].values.tolist() == conv["unit_channel"].values.tolist() == [0, 1, 2]
    assert fc["unit"].values.tolist() == ds["unit"].values[-4:].tolist()
    assert fc["unit_channel"].values.tolist() == [0, 1, 2, 3]
    assert mean_correlation(ds, "conv1", "input")["input"].values.tolist() == [0, 1]
    assert mean_correlation(ds, "fc", "input")["tensor"].values.tolist() == ["fc.weight"] * 6
    random = mean_correlation(ds, "fc", "random", like="output")
    assert random.sizes["group"] == 4
    assert not random.coords


def test_the_seed_decides_the_random_groups():
    ds = tiny_trajectory(20)
    first, again, other = (mean_correlation(ds, "fc", "random", seed=seed).values for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_inputs_of_two_kernels_in_one_layer_are_not_mixed(rng):
    specs = (TensorSpec("r.ih", (4, 3), "kernel", "r", "rnn"), TensorSpec("r.hh", (4, 4), "kernel", "r", "rnn"))
    values = rng.normal(size=(12, 28)).astype(np.float32)
    steps = {"iteration": (("iteration",), np.arange(12))}
    ds = build_dataset(Labels(specs).coords() | steps, {"lca": values})
    got = mean_correlation(ds, "r", "input")
    assert got["input"].values.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert got["tensor"].values.tolist() == ["r.ih"] * 3 + ["r.hh"] * 4
    ids = np.r_[np.tile(np.arange(3), 4), np.tile(np.arange(3, 7), 4)]
    np.testing.assert_allclose(got, slow_groups(values, ids), rtol=1e-9)
    units = np.r_[np.repeat(np.arange(4), 3), np.repeat(np.arange(4), 4)]
    np.testing.assert_allclose(mean_correlation(ds, "r", "output"), slow_groups(values, units), rtol=1e-9)


@pytest.mark.parametrize("rows", [None, 1, 3, 64])
def test_closed_forms(rows):
    t = 2 * np.pi * np.arange(64) / 64
    alike = np.stack([np.cos(t), 3 * np.cos(t) + 5, 1e-12 * np.cos(t)], 1)
    orthogonal = np.stack([np.cos(t), np.sin(t), np.cos(2 * t)], 1)
    opposite = np.stack([np.cos(t), -2 * np.cos(t), np.full(64, 0.1)], 1)  # 0.1 is not a float: no drift allowed
    lonely = np.stack([np.cos(t), np.zeros(64), np.full(64, 0.7)], 1)
    frozen = np.full((64, 3), 1 / 3)
    ds = dataset(np.concatenate([alike, orthogonal, opposite, lonely, frozen], 1), 5, 3)
    ds = ds if rows is None else chunked(ds, {"iteration": rows, "parameter": 4})
    got = mean_correlation(ds, "w")
    np.testing.assert_allclose(got, [1, 0, -1, np.nan, np.nan], atol=1e-6)  # float32 data


@pytest.mark.parametrize("chunks", [None, {"iteration": 13, "parameter": 5}])
@pytest.mark.parametrize(("scale", "offset"), [(1e-30, 0.0), (1e-3, 1.0), (1.0, 1e4), (1e20, 0.0)])
def test_small_numbers_and_large_means_keep_their_digits(rng, chunks, scale, offset):
    values = (offset + scale * (rng.normal(size=(200, 6)) + rng.normal(size=(200, 1)))).astype(np.float32)
    values[0] *= 3  # the first row, which deviations are taken from, lies far off
    ds = dataset(values, 2, 3)
    ds = ds if chunks is None else chunked(ds, chunks)
    expected = slow_groups(values, np.repeat([0, 1], 3))
    np.testing.assert_allclose(mean_correlation(ds, "w"), expected, rtol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(rng, value):
    values = rng.normal(size=(20, 6))
    values[7, 1] = value
    with np.errstate(invalid="ignore"):
        got = [mean_correlation(ds, "w").values for ds in (dataset(values, 2, 3), dataset(values, 2, 3).chunk(5))]
    np.testing.assert_array_equal(np.isnan(got), [[True, False]] * 2)


@pytest.mark.slow
def test_runs_and_classes_are_treated_one_by_one():
    runs = [tiny_trajectory(15, seed=seed, class_parameters=True) for seed in (0, 1)]
    both = chunked(two_runs(*runs), {"run": 1, "iteration": 4, "parameter": 7, "class": 2})
    with nothing_computed():
        got, split = mean_correlation(both, "fc"), mean_correlation(both, "fc", lca="lca_class")
        test = correlation_test(both, "fc")
    assert got.dims == ("run", "group")
    assert split.dims == ("run", "class", "group")
    assert test["p"].dims == ("run", "grouping")
    for n, run in enumerate(runs):
        np.testing.assert_allclose(got[n], mean_correlation(run, "fc"), rtol=1e-9)
        alone = correlation_test(run, "fc")
        for name in alone:
            np.testing.assert_allclose(test[name][n], alone[name], rtol=1e-9)
        values, ids = kernel_of(run, "fc", "lca_class")
        for c in range(3):
            np.testing.assert_allclose(split[n, c], slow_groups(values[:, c], ids["output"]), rtol=1e-9)


def test_another_objective():
    ds, other = tiny_trajectory(15), tiny_trajectory(15, seed=1)
    ds = ds.assign(lca_val=other["lca"])
    np.testing.assert_array_equal(mean_correlation(ds, "fc", lca="lca_val"), mean_correlation(other, "fc"))


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(any_chunks(), st.integers(0, 3), st.sampled_from(["conv1", "fc"]))
def test_correlation_test_against_scipy(chunks, seed, layer):
    ds = rechunked(tiny_trajectory(25, seed=seed), chunks)
    with nothing_computed():
        got = correlation_test(ds, layer, seed, random="any")
    assert all(is_lazy(got[name]) == (chunks is not None) for name in got)
    got = got.compute()
    values, ids = kernel_of(ds, layer)
    rng = np.random.default_rng(seed)
    assert got["grouping"].values.tolist() == ["output", "input"]
    for by in ("output", "input"):
        inside, random = slow_groups(values, ids[by]), slow_groups(values, rng.permutation(ids[by]))
        row = got.sel(grouping=by)
        np.testing.assert_allclose(row["correlation"], np.nanmean(inside), rtol=1e-9)
        np.testing.assert_allclose(row["random"], np.nanmean(random), rtol=1e-9)
        expected = ks_2samp(inside, random, nan_policy="omit")
        np.testing.assert_allclose([row["statistic"], row["p"]], [expected.statistic, expected.pvalue], rtol=1e-9)


def test_weights_into_one_unit_that_move_together_are_found(rng):
    signal = rng.normal(size=(60, 20, 1))
    values = (signal + rng.normal(size=(60, 20, 15))).reshape(60, -1)
    test = correlation_test(dataset(values, 20, 15), "w", random="any").load()
    np.testing.assert_allclose(test["correlation"].sel(grouping="output"), 0.5, atol=0.05)
    assert test["p"].sel(grouping="output") < 1e-6
    assert test["p"].sel(grouping="input") > 1e-3
    np.testing.assert_allclose(test["random"], 0.5 * 14 / 299, atol=0.03)


def test_groups_without_a_correlation_are_left_out(rng):
    values = rng.normal(size=(30, 4, 5))
    values[:, :, 2] = 0  # an input that is always 0, like a pixel at the border
    ds = dataset(values.reshape(30, -1), 4, 5)
    test = correlation_test(ds, "w")
    by_input = slow_groups(ds["lca"].values, np.tile(np.arange(5), 4))
    assert np.isnan(by_input[2])
    np.testing.assert_allclose(test["correlation"].sel(grouping="input"), np.nanmean(by_input), rtol=1e-9)
    nothing = correlation_test(dataset(np.zeros((30, 20)), 4, 5), "w")
    assert all(np.isnan(nothing[name]).all() for name in nothing)


class Blocks:
    """A source of blocks that knows how many of them were read and how many were alive at once."""

    def __init__(self) -> None:
        self.lock, self.read, self.alive, self.most = threading.Lock(), 0, 0, 0

    def __call__(self, template: np.ndarray, block_info: dict | None = None) -> np.ndarray:
        rng = np.random.default_rng([*block_info[None]["chunk-location"]])
        block = rng.normal(size=block_info[None]["chunk-shape"]).astype(np.float32)
        with self.lock:
            self.read, self.alive = self.read + 1, self.alive + 1
            self.most = max(self.most, self.alive)
        weakref.finalize(block, self._freed)
        return block

    def _freed(self) -> None:
        with self.lock:
            self.alive -= 1


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize("workers", [1, 3])
def test_both_passes_hold_few_blocks_and_read_each_twice(workers):
    source = Blocks()
    template = da.zeros((600, 400), chunks=(10, 40), dtype=np.float32)
    blocks = da.map_blocks(source, template, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    ds = dataset(blocks, 20, 20)
    with dask.config.set(scheduler="threads", num_workers=workers):
        correlation_test(ds, "w").load()
    assert blocks.npartitions == 600
    assert source.read == 2 * 600
    assert source.most <= 2 * workers + 1


def test_errors():
    ds = tiny_trajectory(6)
    for layer in ("norm1", "fc2"):
        with pytest.raises(ValueError, match=f"layer with a kernel {layer!r}.*Allowed: 'conv1', 'fc'"):
            mean_correlation(ds, layer)
        with pytest.raises(ValueError, match="'conv1', 'fc'"):
            correlation_test(ds, layer)
    with pytest.raises(ValueError, match="'output', 'input', 'random'"):
        mean_correlation(ds, "fc", "unit")
    with pytest.raises(ValueError, match="'output', 'input'"):
        mean_correlation(ds, "fc", "random", like="random")
    with pytest.raises(lk.TrajectoryError, match='keep=\\("lca"'):
        mean_correlation(ds.drop_vars("lca"), "fc")
    flat = build_dataset(Labels((TensorSpec("w", (3,), "kernel", "w"),)).coords(), {"lca": np.zeros((4, 3))})
    with pytest.raises(lk.TrajectoryError, match="group them by output"):
        mean_correlation(flat, "w", "input")
