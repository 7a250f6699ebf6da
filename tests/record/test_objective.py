"""Losses and gradients over the whole evaluation set, against plain autograd in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import lcakit as lk
from lcakit.record.objective.losses import cross_entropy
from tests.support.networks import conv_net, dense, dropout_net, examples, norm_net
from tests.support.objectives import twin


@pytest.mark.parametrize("make", [dense, dropout_net, norm_net], ids=["dense", "dropout", "batchnorm"])
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [8, 50])
def test_losses_and_gradients_equal_the_float64_twin(make, workers, batch_size):
    model, (x, y) = make(), examples()
    objective = lk.Objective(model, (x, y), batch_size=batch_size, workers=workers, precision="float64")
    losses, gradients = twin(model, x, y, 3, batch_size if objective.batch_coupling else None)
    np.testing.assert_allclose(objective.class_losses(), losses, rtol=1e-12)
    assert objective.loss() == pytest.approx(losses.sum(), rel=1e-12)
    np.testing.assert_allclose(objective.gradient(classes=True), gradients, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(objective.gradient(), gradients.sum(0), rtol=1e-9, atol=1e-13)


def test_float32_is_close_to_the_twin_and_float32():
    model, (x, y) = conv_net(), examples(40, (1, 6, 6))
    objective = lk.Objective(model, (x, y), batch_size=16)
    losses, gradients = twin(model, x, y, 3, 16)
    found = objective.gradient(classes=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, gradients, atol=2e-6)
    np.testing.assert_allclose(objective.class_losses(), losses, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 40), batch=st.integers(1, 45), workers=st.integers(1, 4), classes=st.booleans())
def test_batch_size_does_not_matter_without_coupling(n, batch, workers, classes):
    model, (x, y) = dense(), examples(n)
    whole = lk.Objective(model, (x, y), batch_size=n, workers=1, precision="float64")
    cut = lk.Objective(model, (x, y), batch_size=batch, workers=workers, precision="float64")
    assert cut.loss() == pytest.approx(whole.loss(), rel=1e-12)
    np.testing.assert_allclose(cut.gradient(classes=classes), whole.gradient(classes=classes), rtol=1e-10, atol=1e-14)


def test_batch_size_matters_and_is_kept_with_coupling():
    model, data = norm_net(), examples()
    small, large = (lk.Objective(model, data, batch_size=b, precision="float64") for b in (10, 50))
    assert small.batch_coupling
    assert small.norm_mode == "evaluation_batch"
    assert abs(small.loss() - large.loss()) > 1e-4
    assert lk.Objective(model, data).batch_size == 50  # the automatic 500, not more than there are examples


def test_repeats_bit_by_bit_with_several_workers():
    objective = lk.Objective(dense(), examples(200), batch_size=9, workers=3)
    first = objective.gradient(classes=True)
    assert all(np.array_equal(first, objective.gradient(classes=True)) for _ in range(5))


def test_a_coupling_layer_that_is_no_batchnorm_is_found():
    class Centre(nn.Module):
        def forward(self, x):
            return x - x.mean(0)

    model = nn.Sequential(nn.Linear(6, 5), Centre(), nn.Linear(5, 3))
    assert lk.Objective(model, examples()).batch_coupling
    assert not lk.Objective(dense(), examples()).batch_coupling


def test_mse_callable_and_dataset():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    x, y = torch.randn(30, 4), torch.randn(30, 2)
    objective = lk.Objective(model, TensorDataset(x, y), loss="mse", batch_size=7)
    same = lk.Objective(model, (x.numpy(), y.numpy()), loss=lambda out, target: ((out - target) ** 2).mean(1))
    expected = float(((model(x) - y) ** 2).mean().detach())
    assert objective.loss() == pytest.approx(expected, rel=1e-6)
    assert same.loss() == pytest.approx(expected, rel=1e-6)
    assert objective.class_names is None
    with pytest.raises(lk.ObjectiveError, match="no classes"):
        objective.gradient(classes=True)


def test_cross_entropy_of_sequences_is_a_mean():
    torch.manual_seed(0)
    output, y = torch.randn(5, 4, 7), torch.randint(4, (5, 7))
    torch.testing.assert_close(cross_entropy(output, y), F.cross_entropy(output, y, reduction="none").mean(1))


def test_accuracy_and_class_names():
    model, (x, y) = dense(), examples()
    objective = lk.Objective(model, (x, y), class_names=["cat", "dog", "eel"])
    assert objective.class_names == ("cat", "dog", "eel")
    assert objective.evaluate(gradient=False).accuracy == pytest.approx(float((model(x).argmax(1) == y).float().mean()))


def test_bfloat16_inside_the_users_autocast_follows_theta():
    objective = lk.Objective(dense(), examples(), precision="bfloat16")
    theta = objective.parameters_vector()
    outside = objective.loss(theta), objective.loss(0 * theta)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = objective.loss(theta), objective.loss(0 * theta)
    assert inside == outside


def test_integer_targets_of_another_loss_are_no_classes_unless_named():
    x, y = examples()
    signs = 2 * (y > 0).long() - 1

    def hinge(out, target):
        return (1 - out[:, 0] * target).clamp_min(0)

    assert lk.Objective(dense(), (x, signs), loss=hinge).class_names is None
    named = lk.Objective(dense(), (x, y), loss=hinge, class_names=["a", "b", "c"])
    assert named.gradient(classes=True).shape[0] == 3


def test_a_class_without_examples_has_zero_loss_and_gradient():
    x, y = examples()
    objective = lk.Objective(dense(classes=5), (x, y), workers=2, batch_size=5)
    assert objective.n_classes == 5
    assert objective.class_losses()[3:].tolist() == [0, 0]
    assert not objective.gradient(classes=True)[3:].any()


def test_bfloat16_is_near_and_leaves_autocast_off():
    objective = lk.Objective(dense(), examples(), precision="bfloat16")
    exact = lk.Objective(dense(), examples()).gradient()
    assert np.abs(objective.gradient() - exact).max() < 0.02
    assert not torch.is_autocast_enabled("cpu")
