"""The objective evaluates private copies of the model: what they take over, and what they leave alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

import lcakit as lk
from lcakit.record.objective.describe import describe
from tests.support.networks import conv_net, dense, examples, flat
from tests.support.objectives import twin


def test_nothing_is_touched():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model.train()
    model(torch.randn(9, 6))  # running statistics that are not the initial ones
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    generators = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    threads = torch.get_num_threads()
    objective = lk.Objective(model, examples(), workers=2, batch_size=10)
    objective.gradient(classes=True)
    objective.loss(np.zeros(objective.n_parameters))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert np.array_equal(np.random.get_state()[1], generators[1])
    assert random.getstate() == generators[2]
    assert torch.get_num_threads() == threads


def test_frozen_parameters_are_not_part_of_theta():
    model = dense()
    model[0].weight.requires_grad_(False)
    objective = lk.Objective(model, examples())
    assert [t.name for t in objective.labels.tensors] == ["0.bias", "2.weight", "2.bias"]
    np.testing.assert_allclose(objective.gradient(), twin(model, *examples(), 3)[1].sum(0), atol=1e-6)


def test_tied_parameters_count_once_and_gather_both_gradients():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.out(torch.tanh(self.b(torch.tanh(self.a(x)))))

    torch.manual_seed(0)
    model = Tied()
    objective = lk.Objective(model, examples(), precision="float64", workers=2, batch_size=20)
    assert objective.n_parameters == 36 + 6 + 6 + 18 + 3
    np.testing.assert_allclose(objective.gradient(), twin(model, *examples(), 3)[1].sum(0), rtol=1e-9, atol=1e-13)


def test_follows_the_model_and_takes_any_theta():
    model, data = dense(), examples()
    objective = lk.Objective(model, data)
    start = objective.parameters_vector()
    before = objective.loss()
    with torch.no_grad():
        model[0].weight.add_(1.0)
    assert objective.loss() != before
    assert objective.loss(start) == before
    assert objective.loss(torch.as_tensor(start)) == before
    assert objective.gradient(start.astype(np.float64)).shape == (objective.n_parameters,)


def test_hooks_on_gradients_do_not_change_them():
    model, data = dense(), examples()
    clean = lk.Objective(model, data).gradient()
    model[2].register_full_backward_hook(lambda m, gi, go: tuple(10 * g for g in gi))
    np.testing.assert_array_equal(lk.Objective(model, data).gradient(), clean)


def test_usable_inside_and_after_inference_mode():
    with torch.inference_mode():
        objective = lk.Objective(dense(), examples())
        inside = objective.gradient()
    np.testing.assert_array_equal(objective.gradient(), inside)


def test_a_random_dataset_leaves_the_generators_alone():
    class Random(torch.utils.data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            return torch.randn(6), index % 3

    model = dense()
    before = torch.get_rng_state()
    lk.Objective(model, Random())
    assert torch.equal(torch.get_rng_state(), before)


def test_recurrent_layers_have_gradients_and_no_dropout():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.fc = nn.LSTM(2, 4, num_layers=2, dropout=0.5, batch_first=True), nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    model = Recurrent()
    objective = lk.Objective(model, examples(30, (5, 2)), workers=2, batch_size=7, precision="float64")
    np.testing.assert_allclose(
        objective.gradient(classes=True), twin(model, *examples(30, (5, 2)), 3)[1], rtol=1e-8, atol=1e-12
    )


def test_theta_with_a_graph_is_taken_by_value():
    model = dense()
    objective = lk.Objective(model, examples())
    theta = torch.nn.utils.parameters_to_vector(model.parameters())
    assert objective.loss(theta) == objective.loss()


def test_labels_of_a_network_with_norms():
    class Net(nn.Module):  # norms are defined after all kernels, so only the call order tells whose they are
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
            self.bn1, self.bn2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
            self.fc = nn.Linear(4 * 2 * 2, 3)

        def forward(self, x):
            x = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
            return self.fc(x.flatten(1))

    labels = lk.Objective(Net(), examples(20, (1, 6, 6))).labels
    kernel_layer = {t.layer: t.kernel_layer for t in labels.tensors}
    assert kernel_layer == {"conv1": "conv1", "conv2": "conv2", "bn1": "conv1", "bn2": "conv2", "fc": "fc"}
    roles = {t.name: t.role for t in labels.tensors}
    assert roles["bn1.weight"] == "norm_scale"
    assert roles["bn1.bias"] == "norm_shift"
    assert roles["conv1.weight"] == "kernel"
    assert roles["fc.bias"] == "bias"


@pytest.mark.slow
def test_wrapped_models_have_plain_names():
    names = [t.name for t in describe(dense()).tensors]
    assert [t.name for t in describe(nn.DataParallel(dense())).tensors] == names
    assert [t.name for t in describe(torch.compile(dense())).tensors] == names
    parallel = nn.Sequential(nn.DataParallel(dense()))
    assert [t.name for t in describe(parallel).tensors] == [f"0.{name}" for name in names]
    assert lk.Objective(parallel, examples()).n_parameters == 53
    inner = nn.Sequential(torch.compile(dense()))
    assert [t.name for t in describe(inner).tensors] == [f"0.{name}" for name in names]
    data = examples()
    np.testing.assert_array_equal(
        lk.Objective(torch.compile(dense()), data).gradient(), lk.Objective(dense(), data).gradient()
    )
    np.testing.assert_array_equal(lk.Objective(inner, data).gradient(), lk.Objective(dense(), data).gradient())


def test_parameters_vector_is_the_flat_model():
    model = conv_net()
    objective = lk.Objective(model, examples(20, (1, 6, 6)))
    np.testing.assert_array_equal(objective.parameters_vector(), flat(model).numpy())
