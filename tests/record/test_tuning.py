"""What makes evaluations faster must not change them: layouts, oneDNN's products, chunks that shrink."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lcakit as lk
from lcakit.errors import ObjectiveError
from lcakit.record.objective import chunks, memory
from lcakit.record.objective.dense_layers import use_onednn
from lcakit.record.objective.layout import fastest_layout
from lcakit.record.objective.sweep import Sweep
from tests.support.networks import dense, examples, norm_net


def exact(model: nn.Module, x, y) -> np.ndarray:
    """The gradient of the mean loss, by plain autograd in float64."""
    model = copy.deepcopy(model).double().eval()
    F.cross_entropy(model(x.double()), y).backward()
    return torch.cat([p.grad.reshape(-1) for p in model.parameters()]).numpy()


# ---- dense layers through oneDNN -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    lead=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_dense_layer_through_onednn_equals_the_plain_one(lead, inputs, outputs, bias, seed):
    torch.manual_seed(seed)
    plain = nn.Linear(inputs, outputs, bias=bias)
    ours = use_onednn(copy.deepcopy(plain))
    x, error = torch.randn(*lead, inputs), torch.randn(*lead, outputs)
    results = []
    for layer, kind in ((plain.double(), torch.float64), (ours, torch.float32)):
        given_x = x.to(kind).requires_grad_()
        output = layer(given_x)
        output.backward(error.to(kind))
        results.append([output.detach(), given_x.grad, *(p.grad for p in layer.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


class Penalized(nn.Module):
    """Its output holds a derivative of itself, as networks of forces have it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.last(torch.tanh(self.first(x)))
            (force,) = torch.autograd.grad(energy.square().sum(), x, create_graph=True)
        return energy + force[:, :3]


class Routed(nn.Module):
    """Sends examples to two layers, to one of them none."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return torch.cat([self.used(x), self.idle(x[:0])])


@pytest.mark.parametrize("network", [Penalized, Routed])
def test_networks_that_do_more_with_dense_layers(network):
    torch.manual_seed(0)
    model, (x, y) = network(), examples()
    ours, expected = (lk.Objective(model, (x, y), precision=p).gradient() for p in ("float32", "float64"))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)
    assert network is Routed or np.abs(expected).min() > 0


def test_a_network_with_an_autocast_of_its_own_is_left_to_it():
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.fc(x).float()

    torch.manual_seed(0)
    model, (x, y) = Cast(), examples()
    with torch.no_grad():
        expected = float(F.cross_entropy(model(x), y, reduction="none").double().mean())
    assert lk.Objective(model, (x, y)).loss() == pytest.approx(expected, rel=1e-6)


class Doubling(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_dense_layer_of_ones_own_computes_what_its_author_wrote():
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), Doubling(5, 3)), examples()
    np.testing.assert_allclose(lk.Objective(model, (x, y)).gradient(), exact(model, x, y), rtol=1e-4, atol=1e-6)


def test_files_do_not_tell_whose_products_were_used(monkeypatch):
    model, data = dense(), examples()
    ours = lk.Objective(model, data).model_fingerprint
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert lk.Objective(model, data).model_fingerprint == ours


# ---- layouts -------------------------------------------------------------------------------------------------------


class Viewing(nn.Module):
    """Takes the memory of its activations for granted: ``view`` fails on channels-last ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 3)

    def forward(self, x):
        return self.fc(self.conv(x).relu().view(len(x), -1))


class Striding(Viewing):
    """Reads its examples by their strides, and computes something else from channels-last ones."""

    def forward(self, x):
        return super().forward(x.as_strided(x.shape, (192, 64, 8, 1)))


class Flattening(Viewing):
    def forward(self, x):
        return self.fc(self.conv(x).relu().flatten(1))


@pytest.mark.parametrize(("network", "moved"), [(Flattening, True), (Viewing, False), (Striding, False)])
def test_images_go_channels_last_only_to_networks_that_can_do_with_it(network, moved):
    torch.manual_seed(0)
    model, (x, y) = network(), examples(inputs=(3, 8, 8))
    objective = lk.Objective(model, (x, y))
    assert objective.data.x.is_contiguous(memory_format=torch.channels_last) == moved
    np.testing.assert_allclose(objective.gradient(), exact(model, x, y), rtol=1e-4, atol=1e-6)
    assert objective.data_fingerprint == lk.Objective(Viewing(), (x, y)).data_fingerprint


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_batchnorm_of_many_pixels_is_as_precise_as_float32_allows(layout):
    """PyTorch's own channels-last kernel is off by 1e-4 here; nothing is kinked, so that only sums are at fault."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Tanh(), nn.Conv2d(16, 8, 3), nn.BatchNorm2d(8))
    model = nn.Sequential(*body, nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3))
    x, y = examples(400, inputs=(3, 32, 32))
    data = (x.to(memory_format=layout), y)
    ours, expected = (lk.Objective(model, data, precision=p).gradient(classes=True) for p in ("float32", "float64"))
    assert np.linalg.norm(ours - expected) < 5e-6 * np.linalg.norm(expected)


class Force(nn.Module):
    """Its output holds a derivative of itself, through a norm layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.fc(torch.tanh(self.norm(self.conv(x))).mean((2, 3)))
            (force,) = torch.autograd.grad(energy.square().sum(), x, create_graph=True)
        return energy + 50 * force.flatten(1)[:, :3]


@pytest.mark.parametrize("classes", [False, True])
def test_a_derivative_through_batchnorm_has_a_gradient(classes):
    torch.manual_seed(0)
    model, data = Force(), examples(40, (3, 8, 8))
    objective = lk.Objective(model, data)
    assert objective.data.x.is_contiguous(memory_format=torch.channels_last)
    expected = lk.Objective(model, data, precision="float64").gradient(classes=classes)
    np.testing.assert_allclose(objective.gradient(classes=classes), expected, rtol=1e-4, atol=1e-6)


class OwnNorm(nn.BatchNorm2d):
    """A norm layer of somebody else."""


@pytest.mark.parametrize("norm", [OwnNorm(16), nn.BatchNorm2d(16, affine=False), nn.GroupNorm(4, 16)])
def test_other_norm_layers_get_contiguous_images(norm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), norm, nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 3))
    x, y = examples(400, inputs=(3, 32, 32))
    objectives = [
        lk.Objective(model, (x.to(memory_format=torch.channels_last), y), precision=precision)
        for precision in ("float32", "float64")
    ]
    assert objectives[0].data.x.is_contiguous()
    ours, expected = (objective.gradient() for objective in objectives)
    assert np.linalg.norm(ours - expected) < 3e-5 * np.linalg.norm(expected)


class Standardizing(nn.Module):
    """Subtracts before it multiplies: examples rounded to bfloat16 would be others."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc((x - 3.0) * 50.0)


@pytest.mark.parametrize(("make", "rounded"), [(dense, True), (Standardizing, False)])
def test_bfloat16_examples_are_stored_only_where_the_first_layer_rounds_them_so(make, rounded):
    torch.manual_seed(0)
    model, (x, y) = make(), examples()
    x = 3 + x / 50
    objective = lk.Objective(model, (x, y), precision="bfloat16")
    assert (objective.data.x.dtype == torch.bfloat16) == rounded
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        each = F.cross_entropy(model(x), y, reduction="none")
    assert objective.loss() == pytest.approx(float(each.double().mean()), rel=1e-6)


def test_an_error_that_is_no_matter_of_layout_is_told():
    def losses_of(_):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fastest_layout(torch.zeros(4, 3, 8, 8), Flattening(), "float32", losses_of, 2)


# ---- chunks --------------------------------------------------------------------------------------------------------


def scarce(monkeypatch, most: int) -> list[int]:
    """Let every evaluation of more than ``most`` examples at a time run out of memory; return the sizes tried."""
    tried, run = [], Sweep.run

    def limited(self, flat, batch_size, **how):
        tried.append(batch_size)
        if batch_size > most:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return run(self, flat, batch_size, **how)

    monkeypatch.setattr(Sweep, "run", limited)
    return tried


def test_chunks_are_halved_when_memory_runs_out_and_it_is_told_once(monkeypatch):
    model, data = dense(), examples()
    usual = lk.Objective(model, data).gradient(classes=True)
    tried = scarce(monkeypatch, 10)
    objective = lk.Objective(model, data, batch_size=32)
    with pytest.warns(
        RuntimeWarning, match=r"ran out of memory with chunks of (32|16) examples: continuing with"
    ) as told:
        found = objective.gradient(classes=True)
    assert len(told) == 2  # 32 to 16, 16 to 8
    np.testing.assert_allclose(found, usual, rtol=1e-5, atol=1e-7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective.gradient(classes=True)
    assert tried == [32, 16, 8, 8]


def test_a_batch_that_is_part_of_the_objective_is_never_halved(monkeypatch):
    objective = lk.Objective(norm_net(), examples(), batch_size=25)
    scarce(monkeypatch, 10)
    with pytest.raises(ObjectiveError, match=r"batch of 25 examples.*choose a smaller batch_size, such as 12"):
        objective.gradient()
    assert objective.batch_size == 25


def test_a_single_example_that_is_too_much_ends_it(monkeypatch):
    objective = lk.Objective(dense(), examples(), batch_size=1)
    scarce(monkeypatch, 0)
    with pytest.raises(ObjectiveError, match="single example"):
        objective.gradient()


@pytest.mark.parametrize(("free", "expected"), [(80 * 2**30, 10_000), (8 * 2**20, 2048), (0, 16)])
def test_a_gpu_gets_chunks_that_fit_its_free_memory(monkeypatch, free, expected):
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    assert chunks.batch_size("auto", 55_000, 1024, torch.device("cuda"), coupled=False) == expected
    assert chunks.batch_size("auto", 55_000, 1024, torch.device("cuda"), coupled=True) == 500
