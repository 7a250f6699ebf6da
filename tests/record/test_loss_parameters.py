"""Losses with numbers of their own: what learns in a loss that is a Module is part of θ, under names of its own."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.errors import LcakitWarning
from tests.support.networks import dense, examples, norm_net

x, y = examples(60)


class Proxies(nn.Module):
    """Cross-entropy of similarities to learned class vectors, with a learned temperature."""

    def __init__(self, features: int = 3):
        super().__init__()
        torch.manual_seed(1)
        self.proxies, self.log_scale = nn.Parameter(torch.randn(3, features)), nn.Parameter(torch.zeros(()))
        self.head = nn.Linear(features, 3)

    def forward(self, output, target):
        similar = F.normalize(output) @ F.normalize(self.proxies).T
        return F.cross_entropy(self.log_scale.exp() * similar + self.head(output), target, reduction="none")


class Weighted(nn.Module):
    """Two losses of a batch, weighted by what is learned of their noise."""

    def __init__(self):
        super().__init__()
        self.log_noise = nn.Parameter(torch.zeros(2))

    def forward(self, model, batch):
        output = model(batch["x"])
        each = torch.stack([F.cross_entropy(output, batch["y"], reduction="none"), output.square().mean(1)], 1)
        return ((-self.log_noise).exp() * each + self.log_noise).sum(1)


def of_outputs(model, loss, **how):
    return lk.Objective(model, (x, y), loss=loss, **how), lambda m, own: own(m(x), y).mean()


def of_batches(model, loss, **how):
    return lk.Objective(model, {"x": x, "y": y}, batch_loss=loss, **how), lambda m, own: own(m, {"x": x, "y": y}).mean()


def value(mean, model, loss):
    with torch.no_grad():
        double = copy.deepcopy((model, loss))
        return float(mean(double[0].eval(), double[1].eval()))


@pytest.mark.parametrize(("make", "loss"), [(of_outputs, Proxies), (of_batches, Weighted)], ids=["outputs", "batches"])
def test_the_account_closes_with_what_the_loss_learns(tmp_path, make, loss):
    model, loss = dense(), loss()
    objective, mean = make(model, loss)
    optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=0.05)
    losses = [value(mean, model, loss)]
    with lk.Recorder(tmp_path / "run.nc", objective, optimizer, quiet=True, tolerance=1e-5):
        for _ in range(4):
            optimizer.zero_grad()
            mean(model, loss).backward()
            optimizer.step()
            losses.append(value(mean, model, loss))
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        np.testing.assert_allclose(ds["loss"], losses, rtol=1e-5)
        np.testing.assert_allclose(ds["lca"].sum("parameter"), np.diff(losses), atol=2e-5)
        names = [*(name for name, _ in model.named_parameters()), *(f"loss.{n}" for n, _ in loss.named_parameters())]
        assert ds["tensor"].values.tolist() == names
        assert float(abs(ds.lk.sel(layer="loss")["lca"]).sum()) > 0
        assert {*ds["layer"].values} == {"0", "2", *(["loss", "loss.head"] if make is of_outputs else ["loss"])}


def test_gradients_are_those_of_model_and_loss_together():
    model, loss = dense(), Proxies()
    objective, _ = of_outputs(model, loss, precision="float64")
    twin, own = copy.deepcopy((model, loss))
    twin, own = twin.double(), own.double()
    own(twin(x.double()), y).mean().backward()
    expected = torch.cat([p.grad.reshape(-1) for p in (*twin.parameters(), *own.parameters())])
    np.testing.assert_allclose(objective.gradient(), expected, rtol=1e-12, atol=1e-15)


def test_units_of_a_layer_in_the_loss_are_those_of_its_type():
    tensors = {t.name: t for t in of_outputs(dense(), Proxies())[0].labels.tensors}
    head, bias = tensors["loss.head.weight"], tensors["loss.head.bias"]
    assert (head.layer, head.layer_kind, head.n_units, head.role) == ("loss.head", "linear", 3, "kernel")
    assert (bias.layer, bias.n_units) == ("loss.head", 3)
    assert tensors["loss.proxies"].n_units == 1  # not known: one unit, not three by its first axis


def test_a_loss_that_holds_the_model_itself_counts_its_parameters_once():
    class Penalty(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.strength = model, nn.Parameter(torch.ones(()))

        def forward(self, output, target):
            return (
                F.cross_entropy(output, target, reduction="none") + self.strength * self.model[0].weight.square().sum()
            )

    model = dense()
    objective = lk.Objective(model, (x, y), loss=Penalty(model))
    assert objective.n_parameters == sum(p.numel() for p in model.parameters()) + 1
    theta = objective.parameters_tensor()
    moved = theta.clone()
    moved[: model[0].weight.numel()] += 0.1  # the copy that is evaluated has the penalty on its own weights
    with torch.no_grad():
        weight = model[0].weight + 0.1
        bare = copy.deepcopy(model)
        bare[0].weight.copy_(weight)
        expected = F.cross_entropy(bare(x), y) + weight.square().sum()
    assert objective.loss(moved) == pytest.approx(float(expected), rel=1e-5)


def test_names_of_the_model_stay_where_it_has_a_child_of_that_name():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.loss = nn.Linear(6, 3)

        def forward(self, x):
            return self.loss(x)

    objective, _ = of_outputs(Net(), Proxies())
    assert [t.name for t in objective.labels.tensors][:3] == ["loss.weight", "loss.bias", "loss2.proxies"]


@pytest.mark.slow
def test_a_compiled_model_and_norm_layers_inside(tmp_path):
    model, loss = norm_net(), Proxies()
    objective, mean = of_outputs(torch.compile(model, backend="eager"), loss)
    assert objective.norm_mode == "evaluation_batch"
    assert objective.labels.tensors[0].name == "0.weight"
    with torch.no_grad():
        expected = float(mean(copy.deepcopy(model).train(), loss))
    assert objective.loss() == pytest.approx(expected, rel=1e-5)


def test_several_points_at_once_give_the_same(tmp_path):
    objective, _ = of_outputs(dense(), Proxies(), together=3)
    thetas = objective.parameters_tensor() + 0.1 * torch.randn(3, objective.n_parameters)
    for found, theta in zip(objective.evaluate_all(thetas), thetas, strict=True):
        assert found.loss == pytest.approx(objective.loss(theta), rel=1e-5)


def test_a_frozen_loss_is_no_part_of_theta_and_leaves_no_mark():
    frozen = Proxies().requires_grad_(False)
    objective, mean = of_outputs(dense(), frozen)
    assert objective.n_parameters == sum(p.numel() for p in dense().parameters())
    assert objective.loss() == pytest.approx(value(mean, dense(), frozen), rel=1e-6)
    assert objective.model_fingerprint == lk.Objective(dense(), (x, y)).model_fingerprint


def test_weights_of_the_classes_may_lie_in_the_loss():
    weight = torch.tensor([1.0, 2.0, 0.5])
    with pytest.warns(LcakitWarning, match="divides by the weights"):
        objective = lk.Objective(
            dense(), (x, y), loss=nn.CrossEntropyLoss(weight=weight, reduction="none"), precision="float64"
        )
    with torch.no_grad():
        expected = F.cross_entropy(dense().double()(x.double()), y, weight.double(), reduction="none").mean()
    assert objective.loss() == pytest.approx(float(expected), rel=1e-12)


def test_a_loss_that_no_optimizer_holds_is_named(tmp_path):
    model, loss = dense(), Proxies()
    objective, mean = of_outputs(model, loss)
    optimizer = torch.optim.SGD([*model.parameters(), loss.log_scale], lr=0.1)
    with pytest.warns(LcakitWarning, match=r"loss has parameters that no optimizer holds \('proxies' and 2 more\)"):
        recorder = lk.Recorder(tmp_path / "run.nc", objective, optimizer, quiet=True)
    with recorder:
        for _ in range(2):
            optimizer.zero_grad()
            mean(model, loss).backward()
            optimizer.step()
    with lk.open_trajectory(tmp_path / "run.nc") as ds:
        assert not ds.lk.sel(layer="loss.head")["lca"].any()
        assert ds.lk.sel(layer="0")["lca"].any()


def test_a_loss_that_is_held_says_nothing(tmp_path):
    model, loss = dense(), Proxies()
    objective, _ = of_outputs(model, loss)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lk.Recorder(tmp_path / "run.nc", objective, torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=0.1))


def test_evaluating_does_not_move_buffers_of_the_loss():
    class Centered(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("center", torch.zeros(3))

        def forward(self, output, target):
            if self.training:
                self.center += output.detach().mean(0)
            return (output - self.center).square().mean(1)

    loss = Centered()
    objective = lk.Objective(dense(), (x, y), loss=loss)
    objective.gradient()
    assert not loss.center.any()
    assert loss.training


def test_a_function_around_a_loss_with_parameters_is_refused_with_the_remedy():
    own = Proxies()
    with pytest.raises(lk.ObjectiveError, match=r"let an nn\.Module hold them"):
        lk.Objective(dense(), (x, y), loss=lambda output, target: own(output, target))


def test_a_class_in_place_of_a_loss_is_told():
    with pytest.raises(lk.ObjectiveError, match=r"the loss is the class CrossEntropyLoss.* call it"):
        lk.Objective(dense(), (x, y), loss=nn.CrossEntropyLoss)
    with pytest.raises(lk.ObjectiveError, match="the loss is the class Weighted"):
        lk.Objective(dense(), {"x": x, "y": y}, batch_loss=Weighted)


def test_messages_have_the_models_own_names_also_beside_a_loss():
    with pytest.raises(lk.ObjectiveError, match=r"^'weight' is on the device 'meta'"):
        lk.Objective(nn.Linear(6, 3, device="meta"), (x, y), loss=Proxies())
