from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.analysis.specialization import unit_class_lca
from lcakit.landscapes.wedges import (
    HessianOperator,
    NetworkSurface,
    WedgeModel,
    Wedges,
    averaging,
    compare,
    connect,
    connect_all,
    digits_network,
    geometry,
    hessian,
    optima,
    radius_effect,
    reachable_loss,
    record,
    short_directions,
    spectrum,
    wedge_objective,
)
from lcakit.landscapes.wedges.shapes import SHAPES
from lcakit.trajectory.labels import parameter_name
from tests.support.networks import dense, examples, flat

# ---- a network as a surface --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny() -> NetworkSurface:
    return NetworkSurface(lambda seed: dense(seed=seed), *examples(40))


def test_loss_is_that_of_the_network(tiny):
    x, y = examples(40)
    points = [tiny.initial(seed) for seed in range(3)]
    for seed, theta in enumerate(points):
        model = dense(seed=seed)
        torch.testing.assert_close(theta, flat(model).double(), rtol=0, atol=0)
        expected = F.cross_entropy(model.double()(x.double()), y)
        torch.testing.assert_close(tiny.loss(theta), expected.detach())
        assert tiny.accuracy(theta) == pytest.approx(float((model(x.double()).argmax(1) == y).double().mean()))
    torch.testing.assert_close(tiny.loss(torch.stack(points)), torch.stack([tiny.loss(p) for p in points]))


def test_frozen_parameters_are_no_part_of_theta():
    def build(seed: int) -> nn.Module:
        model = dense(seed=seed)
        model[0].weight.requires_grad_(False)
        return model

    surface = NetworkSurface(build, *examples(10))
    assert surface.dimension == sum(p.numel() for p in dense().parameters()) - dense()[0].weight.numel()
    assert surface.loss(surface.initial(0)).isfinite()


def test_hessian_products_and_spectrum_of_a_network(tiny, rng, monkeypatch):
    theta = tiny.initial(1)
    matrix = torch.autograd.functional.hessian(tiny.loss, theta).numpy()
    vectors = rng.normal(size=(tiny.dimension, 2))
    np.testing.assert_allclose(HessianOperator(tiny, theta) @ vectors, matrix @ vectors, atol=1e-10)
    expected = np.linalg.eigvalsh(matrix)[::-1]
    np.testing.assert_allclose(spectrum(tiny, theta, None), expected, atol=1e-10)
    monkeypatch.setattr(hessian, "DENSE", 10)
    np.testing.assert_allclose(spectrum(tiny, theta, 5), expected[:5], atol=1e-8)


def test_network_points_are_checked(tiny):
    with pytest.raises(ValueError, match=f"{tiny.dimension} coordinates"):
        tiny.loss(torch.zeros(3))
    with pytest.raises(ValueError, match="examples must be 1 to 1500, got 2000"):
        digits_network(2000)


@pytest.fixture(scope="module")
def digits() -> NetworkSurface:
    return digits_network(100)


@pytest.fixture(scope="module")
def trained(digits):
    return optima(digits, 3, target=0.05)


@pytest.mark.slow
def test_experiments_run_on_the_digits(digits, trained):
    assert digits.dimension == 12_060
    assert (trained["loss"] <= 0.05).all()
    path = connect(digits, trained[0], trained[1], points=5, steps=30, positions=21)
    assert path["straight_barrier"] > 0.5
    assert path["barrier"] < 0.1 * path["straight_barrier"]
    connector = connect_all(digits, trained, rays=2, points=4, steps=30, target=0.05, samples=50)
    assert connector["connector"].mean() < 0.2 * connector["flat"].mean()
    counts = short_directions(digits, connector.isel(subset=[0, 6]), smoothing=0.0)
    assert ((counts > 2) & (counts < 60)).all()
    curvature = spectrum(digits, trained[0], 8).values
    assert curvature[0] > 5 * abs(curvature[-1])


@pytest.mark.slow
def test_planes_and_averages_on_the_digits(digits):
    low = reachable_loss(digits, [5, 150], steps=60).squeeze()
    assert low[0] > 10 * low[1]
    effect = radius_effect(digits, [2.0, 60.0], plane_dimension=5, steps=10)
    assert effect["loss"].squeeze()[1] > effect["loss"].squeeze()[0]
    averages = averaging(digits, 3, learning_rate=0.05, noise=0.01, target=0.05).isel(count=-1)
    assert averages["loss_of_average"].sel(kind="close") < 0.1
    assert averages["loss_of_average"].sel(kind="far") > 0.5


def test_toy_and_network_side_by_side(tiny):
    both = compare({"wedges": Wedges(40, 20), "network": tiny}, reachable_loss, plane_dimensions=[3, 20], steps=20)
    assert both["surface"].values.tolist() == ["wedges", "network"]
    assert both.notnull().all()


# ---- the wedges recorded -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_the_model_is_the_surface(shape):
    surface = Wedges(12, 5, shape, scale=0.7)
    for theta in (surface.initial(2), torch.from_numpy(geometry.nearest(surface.initial(2), 5).copy())):
        model = WedgeModel(surface, theta).double()
        parts = model(torch.arange(12))
        parts.mean().backward()
        point = model.point.axis.detach().numpy()
        assert parts.mean().item() == pytest.approx(float(geometry.loss(point, **surface.form)), abs=1e-12)
        np.testing.assert_allclose(model.point.axis.grad, geometry.gradient(point, **surface.form), atol=1e-10)
        assert not parts[torch.from_numpy(~geometry.short_axes(point, 5).copy())].any()
    torch.testing.assert_close(model(torch.tensor([7, 1])), parts[[7, 1]])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("wedges") / "run.nc"
    return record(path, Wedges(30, 10), steps=40, learning_rate=0.2, blocks=3, seed=1, quiet=True)


def test_recorded_lca_is_the_closed_form(recorded):
    assert lk.validate(recorded).ok
    theta = recorded["theta"].values.astype(float)
    short = geometry.short_axes(theta[0], 10)
    np.testing.assert_allclose(recorded["loss"], geometry.loss(theta, 10), rtol=1e-5)
    expected = np.where(short, np.diff(theta**2, axis=0) / 2, 0)
    np.testing.assert_allclose(recorded["lca"], expected, atol=1e-6)
    np.testing.assert_allclose(recorded["gradient"], np.where(short, theta, 0), atol=1e-6)
    assert abs(float(recorded["residual"].sum())) < 1e-6
    assert recorded["batch_loss"][0] == pytest.approx(float(recorded["loss"][0]), rel=1e-5)


def test_recorded_labels_are_axes(recorded):
    assert parameter_name(recorded, 17) == "point.axis[17]"
    assert recorded["class"].values.tolist() == ["axes 0-9", "axes 10-19", "axes 20-29"]
    np.testing.assert_array_equal(recorded["unit_channel"], np.arange(30))
    by_block = recorded["lca_unit_class"].sum("unit").values
    in_blocks = recorded["lca"].values.reshape(40, 3, 10).sum(-1)
    np.testing.assert_allclose(by_block, in_blocks, atol=1e-5)


def test_studies_run_on_the_recorded_wedges(recorded):
    shares = lk.noise.help_hurt_zero(recorded)
    np.testing.assert_allclose(shares.sel(outcome="zero"), 1 / 3, atol=1e-12)
    np.testing.assert_allclose(shares.sel(outcome="hurting"), 0, atol=1e-12)
    assert lk.layers.layer_lca(recorded).sum() < 0
    assert lk.aggregate.sum_by(recorded, "unit").sizes["unit"] == 30
    assert lk.synchronization.peak_iterations(recorded).size
    assert unit_class_lca(recorded).notnull().all()
    assert lk.oscillation.weight_turns(recorded).sum() == 0
    assert lk.tails.tail_share(recorded).sel(part="helping").notnull().all()
    assert lk.fisher.fisher_diagonal(recorded).sizes["parameter"] == 30


@pytest.mark.slow
def test_batches_of_axes_make_noise(tmp_path):
    surface = Wedges(30, 10)
    noisy = record(tmp_path / "noisy.nc", surface, 30, learning_rate=0.3, batch_size=10, seed=1, quiet=True)
    again = record(tmp_path / "again.nc", surface, 30, learning_rate=0.3, batch_size=10, seed=1, quiet=True)
    np.testing.assert_array_equal(noisy["theta"], again["theta"])
    still = (np.diff(noisy["theta"].values, axis=0) == 0).mean(1)
    assert still.min() >= 2 / 3  # only the drawn axes move
    assert noisy["loss"][-1] < 0.1 * noisy["loss"][0]


def test_recording_errors(tmp_path):
    surface = Wedges(6, 2)
    with pytest.raises(ValueError, match="must be finite"):
        WedgeModel(surface, [np.nan] * 6)
    with pytest.raises(ValueError, match="6 coordinates"):
        WedgeModel(surface, np.zeros(5))
    with pytest.raises(ValueError, match="blocks must be 1 to D = 6, got 7"):
        wedge_objective(WedgeModel(surface), blocks=7)
    with pytest.raises(ValueError, match="batch_size must be 1 to D = 6"):
        record(tmp_path / "run.nc", surface, batch_size=7)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        record(tmp_path / "run.nc", surface, steps=0)
