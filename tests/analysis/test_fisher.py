from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import lcakit as lk
from lcakit.analysis.fisher import fisher_diagonal, rescaled
from lcakit.analysis.layerwise import layer_lca
from lcakit.testing import LAYERS, tiny_trajectory
from lcakit.trajectory.labels import GROUPINGS, TensorSpec, group_ids
from tests.support.laziness import any_chunks, is_lazy, nothing_computed, rechunked, two_runs
from tests.support.networks import conv_net, dense, examples, flat, train

CHAIN = (
    TensorSpec("a.weight", (3, 2), "kernel", "a", "linear"),
    TensorSpec("a.bias", (3,), "bias", "a", "linear"),
    TensorSpec("b.weight", (4, 3), "kernel", "b", "linear"),
    TensorSpec("b.bias", (4,), "bias", "b", "linear"),
    TensorSpec("n.weight", (4,), "norm_scale", "n", "layernorm", "b"),
    TensorSpec("c.weight", (2, 4), "kernel", "c", "linear"),
)
FACTOR_OF = [
    ("a.weight", "f"),
    ("a.bias", "f"),
    ("b.weight", "1/f"),
    ("b.bias", "1"),
    ("n.weight", "1"),
    ("c.weight", "1"),
]


def factors(factor: float) -> np.ndarray:
    """What each parameter of CHAIN is multiplied by when a is scaled up and b down."""
    sizes = {spec.name: spec.size for spec in CHAIN}
    value = {"f": factor, "1/f": 1 / factor, "1": 1.0}
    return np.concatenate([np.full(sizes[name], value[kind]) for name, kind in FACTOR_OF])


# ---- the measure ----------------------------------------------------------------------------------------------------


@given(any_chunks(), st.none() | st.sampled_from(GROUPINGS), st.sampled_from([1.0, 1e-30]))
def test_fisher_against_a_loop(chunks, by, scale):
    ds = tiny_trajectory(6)
    ds = ds.assign(gradient=ds["gradient"] * np.float32(scale))
    with nothing_computed():
        got = fisher_diagonal(rechunked(ds, chunks), by=by)
    assert is_lazy(got) == (chunks is not None)
    assert got.dtype == np.float64
    assert got.dims == (by or "parameter",)
    expected = np.zeros(61)
    for row in ds["gradient"].values.astype(np.float64):
        expected += row**2 / 7
    assert expected.max() > 0
    if by:
        ids, names = group_ids(ds, by)
        assert got[by].values.tolist() == names.values.tolist()
        expected = np.array([expected[ids == g].sum() for g in range(names.size)])
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_fisher_of_another_objective_and_of_runs():
    ds = tiny_trajectory(5)
    got = fisher_diagonal(ds.assign(gradient_val=3 * ds["gradient"]), "gradient_val")
    np.testing.assert_allclose(got, 9 * fisher_diagonal(ds), rtol=1e-6)
    assert got.attrs["units"] == "nats^2"
    runs = two_runs(ds, tiny_trajectory(5, seed=1)).chunk(snapshot=2, parameter=9, run=1)
    both = fisher_diagonal(runs, by="layer")
    assert both.dims == ("run", "layer")
    np.testing.assert_allclose(both.sel(run="y"), fisher_diagonal(tiny_trajectory(5, seed=1), by="layer"))


def test_nan_is_not_averaged_away():
    ds = tiny_trajectory(4)
    ds["gradient"][2, 3] = np.nan
    assert np.isnan(fisher_diagonal(ds)).values.tolist() == [i == 3 for i in range(61)]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda ds: fisher_diagonal(ds.drop_vars("gradient")), 'keep=\\("gradient"'),
        (lambda ds: fisher_diagonal(ds, "gradients"), "Did you mean 'gradient'"),
        (lambda ds: fisher_diagonal(ds, "lca"), "'snapshot', 'parameter'"),
        (lambda ds: fisher_diagonal(ds, by="layers"), "kernel_layer"),
        (lambda ds: fisher_diagonal(ds[["gradient"]], by="layer"), "lost its table"),
    ],
)
def test_bad_measures_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call(tiny_trajectory(3))


# ---- the change of parametrization ----------------------------------------------------------------------------------


@pytest.mark.slow
@given(any_chunks(), st.sampled_from([0.25, 1.0, 3.0, 8.0, 1e-3]))
def test_rescaled_against_a_loop(chunks, factor):
    ds = tiny_trajectory(5, layers=CHAIN)
    ds = ds.assign(gradient_val=2 * ds["gradient"], lca_val=2 * ds["lca"])
    with nothing_computed():
        got = rescaled(rechunked(ds, chunks), "a", "b", factor)
    changed = {"theta": factors(factor), "gradient": 1 / factors(factor), "gradient_val": 1 / factors(factor)}
    for name, by in changed.items():
        assert is_lazy(got[name]) == (chunks is not None)
        assert got[name].dtype == np.float32
        assert got[name].dims == ds[name].dims
        assert got[name].attrs == ds[name].attrs
        np.testing.assert_array_equal(got[name], (ds[name].values.astype(np.float64) * by).astype(np.float32))
    for name in set(ds.variables) - set(changed):
        xr.testing.assert_identical(got[name].variable.compute(), ds[name].variable)
    assert "a × " in got.attrs["rescaled"]
    assert set(got.attrs) - set(ds.attrs) == {"rescaled"}


def test_there_and_back_again():
    ds = tiny_trajectory(5, layers=CHAIN)
    back = rescaled(rescaled(ds, "a", "b", 4.0), "a", "b", 0.25)
    xr.testing.assert_equal(back, ds)


def test_runs_and_selections_are_rescaled_alike():
    runs = two_runs(tiny_trajectory(4, layers=CHAIN), tiny_trajectory(4, layers=CHAIN, seed=1)).chunk(parameter=5)
    alone = rescaled(tiny_trajectory(4, layers=CHAIN, seed=1), "a", "b", 2.0)
    got = rescaled(runs, "a", "b", 2.0)
    xr.testing.assert_equal(got["theta"].sel(run="y", drop=True), alone["theta"])
    part = rescaled(tiny_trajectory(4, layers=CHAIN).lk.sel(layer=["b", "c"]), "a", "b", 2.0)
    whole = rescaled(tiny_trajectory(4, layers=CHAIN), "a", "b", 2.0)
    np.testing.assert_array_equal(part["theta"], whole.lk.sel(layer=["b", "c"])["theta"])


def test_a_bias_in_a_layer_of_its_own_is_scaled_with_its_kernel():
    shift = TensorSpec("shift.bias", (3,), "bias", "shift", "bias", "a")
    ds = tiny_trajectory(3, layers=[CHAIN[0], shift, CHAIN[2]])
    ratio = rescaled(ds, "a", "b", 2.0)["theta"].values / ds["theta"].values
    np.testing.assert_array_equal(ratio, np.broadcast_to([2.0] * 9 + [0.5] * 12, ratio.shape))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda ds: rescaled(ds, "a", "b", 0.0), "positive and finite, got 0.0"),
        (lambda ds: rescaled(ds, "a", "b", -2), "positive and finite"),
        (lambda ds: rescaled(ds, "a", "b", np.inf), "positive and finite"),
        (lambda ds: rescaled(ds, "a", "b", np.nan), "positive and finite"),
        (lambda ds: rescaled(ds, "a", "a", 2.0), "both 'a'"),
        (lambda ds: rescaled(ds, "a", "d", 2.0), "unknown layer 'd'"),
        (lambda ds: rescaled(ds, "e", "b", 2.0), "unknown layer 'e'"),
        (lambda ds: rescaled(ds, "b", "c", 2.0), r"a norm layer serves 'b'.*n\.weight"),
        (lambda ds: rescaled(ds, "n", "c", 2.0), "layer 'n' has 0 kernels"),
        (lambda ds: rescaled(ds, "a", "n", 2.0), "layer 'n' has 0 kernels"),
        (lambda ds: rescaled(ds.drop_vars("theta"), "a", "b", 2.0), 'keep=\\("theta"'),
        (lambda ds: rescaled(ds.drop_vars("gradient"), "a", "b", 2.0), 'keep=\\("gradient"'),
        (lambda ds: rescaled(ds[["theta", "gradient"]], "a", "b", 2.0), "lost its table"),
    ],
)
def test_bad_rescalings_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call(tiny_trajectory(3, layers=CHAIN))


def test_more_than_a_kernel_and_a_bias_is_refused():
    slope = TensorSpec("a.slope", (3,), "other", "a", "linear")
    with pytest.raises(ValueError, match=r"more than a kernel and a bias \(a\.slope\)"):
        rescaled(tiny_trajectory(3, layers=[*CHAIN, slope]), "a", "b", 2.0)
    with pytest.raises(ValueError, match="norm layer serves 'conv1'"):
        rescaled(tiny_trajectory(3, layers=LAYERS), "conv1", "fc", 2.0)


# ---- the demonstration: a real network ------------------------------------------------------------------------------


def recorded(model: nn.Module, steps: int = 12) -> tuple[xr.Dataset, lk.Objective]:
    """A trajectory with LCA, and the objective (in float64) that allocated it."""
    x, y = examples(60)
    theta = [flat(model).numpy()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.5)
    train(model, optimizer, x, y, steps, each=lambda _: theta.append(flat(model).numpy()))
    objective = lk.Objective(model, (x, y), precision="float64")
    return lk.allocate(np.array(theta), objective, quiet=True), objective


def allocated_again(ds: xr.Dataset, objective: lk.Objective) -> xr.Dataset:
    """Everything computed anew from the snapshots, with the real gradients of the rescaled network."""
    snapshots = ds.drop_vars([name for name in ds.data_vars if name != "theta"])
    return lk.allocate(snapshots, objective, quiet=True)


@pytest.mark.parametrize("factor", [8.0, 0.25])
def test_rescaling_changes_fisher_but_not_lca(factor):
    ds, objective = recorded(dense(activation=nn.ReLU))
    scaled = rescaled(ds, "0", "2", factor)
    again = allocated_again(scaled, objective)
    np.testing.assert_allclose(again["loss"], ds["loss"], rtol=1e-12)
    np.testing.assert_allclose(again["gradient"], scaled["gradient"], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(again["lca"], ds["lca"], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(layer_lca(again), layer_lca(ds), rtol=1e-6, atol=1e-9)
    assert float(abs(layer_lca(ds).sum("iteration")).min()) > 1e-3
    fisher = fisher_diagonal(again, by="tensor") / fisher_diagonal(ds, by="tensor")
    np.testing.assert_allclose(fisher, [factor**-2, factor**-2, factor**2, 1], rtol=1e-5)
    assert ds["tensor"].values.tolist() == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_factor_that_rounds_changes_little():
    ds, objective = recorded(dense(activation=nn.ReLU))
    again = allocated_again(rescaled(ds, "0", "2", 3.0), objective)
    np.testing.assert_allclose(layer_lca(again), layer_lca(ds), atol=1e-5)


def test_the_caller_vouches_for_the_activation():
    """With tanh between the layers the function changes, and so does LCA: the refusals cannot see that."""
    ds, objective = recorded(dense(activation=nn.Tanh))
    again = allocated_again(rescaled(ds, "0", "2", 8.0), objective)
    assert float(abs(layer_lca(again) - layer_lca(ds)).max()) > 1e-3


def test_a_recorded_norm_layer_is_refused():
    x, y = examples(20, (1, 6, 6))
    model = conv_net()
    objective = lk.Objective(model, (x, y))
    theta = np.stack([flat(model).numpy()] * 2)
    ds = lk.allocate(theta, objective, quiet=True)
    with pytest.raises(ValueError, match=r"norm layer serves '0'.*1\.weight, 1\.bias"):
        rescaled(ds, "0", "4", 2.0)
