from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import lcakit as lk
from lcakit.record.allocation.along_path import rows_along
from lcakit.record.allocation.quadrature import RULES
from lcakit.record.allocation.settings import AllocationSettings
from tests.support.allocations import walk
from tests.support.networks import conv_net, dense, examples, norm_net


def twin(objective: lk.Objective, theta: np.ndarray, node_weights: list[float]) -> np.ndarray:
    """The obvious version: (T, C, K) in float64, one gradient per node, nothing shared."""
    theta = theta.astype(np.float64)
    out = []
    for a, b in itertools.pairwise(theta):
        nodes = np.linspace(0, 1, len(node_weights))
        g = sum(w * objective.gradient(a + s * (b - a), classes=True) for s, w in zip(nodes, node_weights, strict=True))
        out.append(g * (b - a))
    return np.array(out)


@pytest.mark.parametrize("make", [dense, norm_net], ids=["dense", "batchnorm"])
def test_rk4_equals_the_obvious_version(make):
    model, (x, y) = make(), examples()
    theta = walk(model, x, y)
    objective = lk.Objective(model, (x, y), precision="float64", batch_size=25)
    ds = lk.allocate(theta, objective, classes="parameter", tolerance=None, quiet=True)
    expected = twin(objective, theta, [1 / 6, 4 / 6, 1 / 6])
    np.testing.assert_allclose(ds["lca_class"], expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(ds["lca"], expected.sum(1), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(ds["first_order"], twin(objective, theta, [1, 0]).sum((1, 2)), rtol=1e-9)


def test_sums_add_up():
    model, (x, y) = conv_net(), examples(40, (1, 6, 6))
    theta = walk(model, x, y, lr=0.05)
    objective = lk.Objective(model, (x, y))
    ds = lk.allocate(theta, objective, classes="parameter", quiet=True)
    change = np.diff(ds["loss"])
    total = ds["lca"].astype(float).sum("parameter")
    np.testing.assert_allclose(total - ds["residual"], change, atol=1e-7)
    np.testing.assert_allclose(ds["lca_class"].astype(float).sum("class"), ds["lca"], atol=1e-7)
    np.testing.assert_allclose(ds["lca_unit_class"].astype(float).sum(("unit", "class")), total, atol=1e-7)
    np.testing.assert_allclose(ds["loss_class"].sum("class"), ds["loss"], rtol=1e-12)
    units = np.zeros((len(change), objective.labels.n_units, 3))
    index = ds["unit_index"].values
    np.add.at(units.transpose(1, 0, 2), index, ds["lca_class"].values.astype(float).transpose(2, 0, 1))
    np.testing.assert_allclose(ds["lca_unit_class"], units, atol=1e-7)


def test_transposed_convolution_units_are_output_channels():
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 2, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 9, 3))
    x, y = examples(12, (4, 2, 2))
    ds = lk.allocate(walk(model, x, y, 2), lk.Objective(model, (x, y)), classes="parameter", quiet=True)
    weight = ds["lca_class"].values[..., : 4 * 3 * 4].reshape(2, 3, 2, 2, 3, 4)  # group, in, out, taps
    bias = ds["lca_class"].values[..., 48:54]
    expected = weight.sum((3, 5)).reshape(2, 3, 6) + bias
    np.testing.assert_allclose(ds["lca_unit_class"].values[:, :6], expected.transpose(0, 2, 1), atol=1e-7)


class Polynomial(nn.Module):
    """A loss that is a polynomial of known degree in its parameters, whatever the data."""

    def __init__(self, degree: int, seed: int = 0) -> None:
        super().__init__()
        self.degree = degree
        self.w = nn.Parameter(torch.randn(4, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.w).sum(1) ** self.degree


@pytest.mark.parametrize(
    ("rule", "degree"), [("first_order", 1), ("trapezoid", 2), ("midpoint", 2), ("rk4", 4), ("boole", 6)]
)
def test_a_rule_conserves_polynomials_up_to_its_degree(rule, degree):
    x, y = examples(20, 4)
    for power, exact in ((degree, True), (degree + 1, False)):
        model = Polynomial(power)
        objective = lk.Objective(model, (x, y.float()), loss=lambda out, _: out, precision="float64")
        theta = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
        ds = lk.allocate(theta, objective, rule=rule, tolerance=None, quiet=True)
        size = np.abs(np.diff(ds["loss"])).max()
        assert (np.abs(ds["residual"]).max() < 1e-6 * size) == exact


def test_residuals_are_those_of_float64():
    x, y = examples(30, 4)
    objective = lk.Objective(Polynomial(1), (x, y), loss=lambda out, _: out.square() / 2, precision="float64")
    theta = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    assert float(abs(lk.allocate(theta, objective, quiet=True)["residual"]).max()) < 1e-13


def test_quadratic_has_the_closed_form():
    """L = mean (x·w)² / 2 gives A_i = ½ (g_i(θ) + g_i(θ')) Δθ_i."""
    x, _ = examples(30, 4)
    model = Polynomial(1)
    objective = lk.Objective(model, (x, torch.zeros(30)), loss=lambda out, _: out.square() / 2, precision="float64")
    theta = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    hessian = (x.double().T @ x.double()).numpy() / len(x)
    gradient = theta.astype(np.float64) @ hessian
    expected = (gradient[1:] + gradient[:-1]) / 2 * np.diff(theta.astype(np.float64), axis=0)
    np.testing.assert_allclose(lk.allocate(theta, objective, quiet=True)["lca"], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_adaptive_refinement_reaches_the_tolerance_or_is_flagged():
    model, (x, y) = dense(activation=nn.ReLU), examples(200)
    theta = walk(model, x, y, 8, lr=4.0)
    objective = lk.Objective(model, (x, y))
    coarse = lk.allocate(theta, objective, tolerance=None, quiet=True)
    fine = lk.allocate(theta, objective, tolerance=1e-4, quiet=True)
    assert np.abs(coarse["residual"]).max() > 1e-4
    refined = fine["splits"].values > 2
    assert refined.any()
    assert ((np.abs(fine["residual"]) <= 1e-4) | (fine["splits"] == 32)).all()
    np.testing.assert_array_equal(fine["lca"][~refined], coarse["lca"][~refined])


def test_composite_rule_equals_the_obvious_version():
    model, (x, y) = dense(), examples()
    theta = walk(model, x, y, 2, lr=5.0)
    objective = lk.Objective(model, (x, y), precision="float64")
    ds = lk.allocate(theta, objective, tolerance=1e-15, max_splits=8, classes="parameter", quiet=True)
    assert (ds["splits"] == 8).all()
    simpson = np.array([1, 4, 2, 4, 2, 4, 2, 4, 1]) / 24
    np.testing.assert_allclose(ds["lca_class"], twin(objective, theta, list(simpson)), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_gradients_are_shared_between_iterations(rule):
    model, (x, y) = dense(), examples()
    objective = lk.Objective(model, (x, y))
    lk.allocate(walk(model, x, y, 5), objective, rule=rule, tolerance=None, quiet=True)
    inside = {"first_order": 0, "trapezoid": 0, "midpoint": 1, "rk4": 1, "boole": 3}[rule]
    assert objective.evaluations == 6 + 5 * inside


def test_keep_chooses_what_is_stored():
    model, (x, y) = dense(), examples()
    ds = lk.allocate(walk(model, x, y), lk.Objective(model, (x, y)), keep=("lca",), quiet=True)
    assert "gradient" not in ds
    assert "lca" in ds


@pytest.mark.parametrize("name", ["my_val", "class", "a/b", "", "Val"])
def test_a_suffix_is_a_plain_word(name):
    model, (x, y) = dense(), examples()
    with pytest.raises(ValueError, match="small letters"):
        lk.allocate(walk(model, x, y, 1), lk.Objective(model, (x, y)), name=name, quiet=True)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda o, t: lk.allocate(t[:, :-1], o), r"shape \(T\+1, 53\)"),
        (lambda o, t: lk.allocate(t[:1], o), "T ≥ 1"),
        (lambda o, t: lk.allocate(t, o, rule="euler"), "first_order"),
        (lambda o, t: lk.allocate(t, o, classes="layer"), "unit"),
        (lambda o, t: lk.allocate(lk.allocate(t, o, quiet=True).drop_vars("theta"), o), "no 'theta'"),
        (
            lambda o, t: lk.allocate(lk.allocate(t, o, quiet=True), lk.Objective(dense(classes=4), examples())),
            r"the file has 2\.weight \(3, 5\), .* the model 2\.weight \(4, 5\)",
        ),
    ],
)
def test_bad_calls_are_named(call, says):
    model, (x, y) = dense(), examples()
    with pytest.raises(ValueError, match=says):
        call(lk.Objective(model, (x, y)), walk(model, x, y, 2))


def test_diverged_snapshot_names_the_iteration():
    model, (x, y) = dense(), examples()
    theta = walk(model, x, y, 4)
    theta[3] = np.inf
    with pytest.raises(lk.DivergedError, match="iteration 2"):
        lk.allocate(theta, lk.Objective(model, (x, y)), quiet=True)


class Weight(nn.Module):
    """The examples times one number."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.w).sum(1)


@pytest.mark.parametrize(
    ("loss", "path", "says"),
    [
        (lambda out, _: out**-2, [[-1.0], [1.0]], "iteration 0: the gradient is not finite between two snapshots"),
        (lambda out, _: out.abs().sqrt(), [[1.0], [0.5], [0.0]], "iteration 1: the gradient has entries that are not"),
    ],
    ids=["between", "at the end"],
)
def test_a_gradient_that_is_not_finite_is_told(loss, path, says):
    objective = lk.Objective(Weight(), (torch.ones(4, 1), torch.zeros(4)), loss=loss)
    with pytest.raises(lk.DivergedError, match=says):
        lk.allocate(np.array(path, np.float32), objective, quiet=True)


class Followed:
    """In place of an allocator: notes the snapshots that it is told of."""

    moves_at_once = 2

    def start(self, theta, first=True):
        self.foreseen = []
        return {"at": float(theta[0])}

    def expect(self, thetas):
        self.foreseen += [float(theta[0]) for theta in thetas]

    def advance(self, theta):
        return {"at": float(theta[0])}, {}


@pytest.mark.parametrize(("start", "stop"), [(0, None), (2, 6), (5, 7)])
def test_long_snapshots_are_read_in_blocks(start, stop):
    n = 2**25 // 4 // 3  # three of them in a block
    theta = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None], (8, n))
    ds = xr.Dataset({"theta": (("snapshot", "parameter"), theta)}, {"iteration": np.arange(7)})
    allocator = Followed()
    rows = list(rows_along(ds, allocator, start, stop))
    expected = list(range(0 if start == 0 else start + 1, 8 if stop is None else stop + 1))
    assert [snapshot["at"] for snapshot, _ in rows] == expected
    assert allocator.foreseen == [t for t in expected if t]


def test_rule_settings_are_checked_before_anything_runs():
    with pytest.raises(ValueError, match="positive"):
        AllocationSettings(tolerance=0.0)
