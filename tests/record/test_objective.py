from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lcakit as lk
from lcakit.record.objective.describe import describe
from lcakit.record.objective.losses import cross_entropy
from tests.support.networks import conv_net, dense, dropout_net, examples, flat, norm_net


def twin(model: nn.Module, x, y, n_classes: int, batch: int | None = None):
    """The obvious float64 version: one autograd call per class (and batch), dropout off, batch statistics."""
    model = copy.deepcopy(model).double()
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses, gradients = np.zeros(n_classes), []
    batch = batch or len(x)
    for c in range(n_classes):
        total = 0
        for start in range(0, len(x), batch):
            part = slice(start, start + batch)
            each = F.cross_entropy(model(x[part].double()), y[part], reduction="none")
            total = total + each[y[part] == c].sum()
        total = total / len(x)
        losses[c] = float(total.detach())
        found = torch.autograd.grad(total, parameters, allow_unused=True)
        gradients.append(
            np.concatenate(
                [
                    np.zeros(p.numel()) if g is None else g.flatten().numpy()
                    for p, g in zip(parameters, found, strict=True)
                ]
            )
        )
    return losses, np.array(gradients)


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


def test_integer_targets_of_another_loss_are_no_classes_unless_named():
    x, y = examples()
    signs = 2 * (y > 0).long() - 1

    def hinge(out, target):
        return (1 - out[:, 0] * target).clamp_min(0)

    assert lk.Objective(dense(), (x, signs), loss=hinge).class_names is None
    named = lk.Objective(dense(), (x, y), loss=hinge, class_names=["a", "b", "c"])
    assert named.gradient(classes=True).shape[0] == 3


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


def test_replaced_parameters_are_noticed():
    model = dense()
    objective = lk.Objective(model, examples())
    model[0] = nn.Linear(6, 5)
    with pytest.raises(lk.ObjectiveError, match="were replaced"):
        objective.loss()


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


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda x, y: lk.Objective(dense(), (x, y[:-1])), "one entry per example"),
        (lambda x, y: lk.Objective(dense(), (x[:0], y[:0])), "empty"),
        (lambda x, y: lk.Objective(dense(), (x, y + 1)), r"labels \[3\] are outside the classes 0 … 2"),
        (lambda x, y: lk.Objective(dense().requires_grad_(False), (x, y)), "no trainable parameter"),
        (
            lambda x, y: lk.Objective(dense(), (x, y), loss=lambda o, t: F.cross_entropy(o, t)),
            "one value per example",
        ),
        (lambda x, y: lk.Objective(dense(), (x, y), loss=lambda o, t: o.sum(1) * float("nan")), "not finite"),
        (lambda x, y: lk.Objective(dense(), (x[:, :3], y)), "does not accept the evaluation set"),
        (lambda x, y: lk.Objective(dense(), (x, torch.randn(len(x), 7)), loss="mse"), "they must be equal"),
        (lambda x, y: lk.Objective(dense(), (x, y), loss="crossentropy"), "cross_entropy"),
        (lambda x, y: lk.Objective(dense(), (x, y), precision="float16"), "float32"),
        (lambda x, y: lk.Objective(dense(), (x, y), batch_size=0), "positive integer"),
        (lambda x, y: lk.Objective(dense(), "x"), "a pair"),
        (lambda x, y: lk.Objective(norm_net(), (x, y), batch_size=7), "last batch of one"),
        (lambda x, y: lk.Objective(norm_net(), (x, y), batch_size=1), "last batch of one"),
        (lambda x, y: lk.Objective(dense(), (x, y), device="cuda:99"), "cannot be used"),
        (lambda x, y: lk.Objective(dense(), [("a", "b"), (1, 2)]), "x is not an array of numbers"),
        (lambda x, y: lk.Objective(nn.LSTM(6, 3), (x, y)), "does not accept"),
        (lambda x, y: lk.Objective(dense(), (x, y)).loss(np.zeros(3)), "flat vector of the 53"),
    ],
)
def test_what_makes_no_objective_is_named(make, says):
    x, y = examples()
    with pytest.raises((lk.ObjectiveError, ValueError), match=says):
        make(x, y)


def test_randomness_in_eval_mode_is_refused():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x):
            return F.dropout(self.linear(x), 0.5)

    with pytest.raises(lk.ObjectiveError, match="differs between two evaluations"):
        lk.Objective(Noisy(), examples())


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


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda m, x, y: lk.Objective(m, (x, y), class_names=["a", "b", "a"]), "class_names has 'a' more than once"),
        (lambda m, x, y: lk.Objective((x, y), m), r"must be a torch\.nn\.Module, got tuple"),
        (lambda m, x, y: lk.Objective(m.forward, (x, y)), r"must be a torch\.nn\.Module, got method"),
        (lambda m, x, y: lk.Objective(m, DataLoader(TensorDataset(x, y))), r"pass its dataset, loader\.dataset"),
        (lambda m, x, y: lk.Objective(m, (x, y), loss=nn.CrossEntropyLoss()), 'reduction="none"'),
    ],
)
def test_what_makes_no_objective_says_what_would(build, says):
    with pytest.raises(lk.ObjectiveError, match=says):
        build(dense(), *examples())
