"""Convolutions of small images by rows must compute the same."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import forward_ad

import lcakit as lk
from lcakit.record.objective import dense_layers
from lcakit.record.objective.small_images import _ByRows, multiply_rows
from tests.support.networks import examples

_LAST = torch.channels_last


def by_rows(output: torch.Tensor) -> bool:
    """Say whether a convolution was computed as products of rows."""
    return type(output.grad_fn).__name__ == f"{_ByRows.__name__}Backward"


@settings(max_examples=60, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 7)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    bias=st.booleans(),
    wants_images=st.booleans(),
    n=st.integers(1, 4),
)
def test_a_convolution_by_rows_equals_the_plain_one(channels, size, kernel, stride, padding, bias, wants_images, n):
    torch.manual_seed(0)
    plain = nn.Conv2d(*channels, kernel, stride, padding, bias=bias)
    if any(side + 2 * margin < width for side, margin, width in zip(size, padding, kernel, strict=True)):
        return
    ours = multiply_rows(copy.deepcopy(plain))
    x = torch.randn(n, channels[0], *size)
    error = torch.randn(plain(x).shape)
    results = []
    for layer, kind in ((plain.double(), torch.float64), (ours, torch.float32)):
        images = x.to(kind).to(memory_format=_LAST).requires_grad_(wants_images)
        output = layer(images)
        output.backward(error.to(kind))
        results.append([output.detach(), *([images.grad] * wants_images), *(p.grad for p in layer.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "size", "expected"),
    [
        (nn.Conv2d(8, 8, 3, padding=1), (8, 8), True),  # 64 numbers in a row
        (nn.Conv2d(8, 16, 3, 2, padding=1), (8, 8), True),
        (nn.Conv2d(8, 16, 1, 2), (8, 8), True),
        (nn.Conv2d(96, 96, 3, padding=1), (2, 2), True),  # no wider than the kernel
        (nn.Conv2d(16, 16, 3, padding=1), (8, 8), False),  # 128 numbers in a row
        (nn.Conv2d(256, 256, 3, padding=1), (2, 2), False),  # a large band
        (nn.Conv2d(8, 8, 1), (4, 4), False),  # a product of pixels
        (nn.Conv2d(8, 8, 3, padding=1, groups=2), (8, 8), False),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"), (8, 8), False),
        (nn.Conv2d(8, 8, 3, padding="same"), (8, 8), False),
        (nn.Conv2d(8, 8, 3, dilation=2), (8, 8), False),
        (nn.ConvTranspose2d(8, 8, 3), (8, 8), False),
    ],
)
def test_narrow_rows_are_multiplied_and_others_are_not(layer, size, expected):
    x = torch.randn(5, layer.in_channels, *size)
    ours, plain = multiply_rows(copy.deepcopy(layer)), layer(x)
    output = ours(x.to(memory_format=_LAST))
    assert by_rows(output) == expected
    torch.testing.assert_close(output, plain, rtol=1e-4, atol=1e-5)
    assert not by_rows(ours(x))  # the network may count on this memory
    assert ours(x).is_contiguous() == plain.is_contiguous()
    assert repr(ours) == repr(layer)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    body = (
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.Tanh(),
        nn.Conv2d(8, 8, 3, 2, padding=1),
        nn.BatchNorm2d(8),
    )
    return nn.Sequential(*body, nn.Tanh(), nn.Conv2d(8, 6, 3, bias=False), nn.Flatten(), nn.Linear(24, 3))


@pytest.fixture(params=[True, False], ids=["intel", "other"])
def intel(request, monkeypatch):
    """Whether the processor's maker is Intel, on whose processors products by MKL are fast."""
    monkeypatch.setattr(dense_layers, "_is_intel", lambda: request.param)
    return request.param


@pytest.mark.parametrize("classes", [False, True])
def test_gradients_of_a_network_are_exact(intel, classes):
    model, data = network(), examples(60, (1, 8, 8))
    expected = lk.Objective(model, data, precision="float64").gradient(classes=classes)
    np.testing.assert_allclose(lk.Objective(model, data).gradient(classes=classes), expected, rtol=1e-4, atol=1e-6)


class Force(nn.Module):
    """Its output holds a derivative of itself, by ``torch.autograd``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3)

    def energy(self, x):
        return self.fc(torch.tanh(self.conv(x)).mean((2, 3)))

    def force(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(50 * self.energy(x).square().sum(), x, create_graph=True)[0]

    def forward(self, x):
        return self.energy(x) + self.force(x).flatten(1)[:, :3]


class Functional(Force):
    """The same by ``torch.func``."""

    def force(self, x):
        return torch.func.grad(lambda images: self.energy(images).square().sum())(x)


class Forwards(Force):
    """Along one direction, by derivatives that are computed forwards."""

    def force(self, x):
        with forward_ad.dual_level():
            energy = self.energy(forward_ad.make_dual(x, torch.ones_like(x))).square().sum((1,))
            return forward_ad.unpack_dual(energy).tangent.reshape(-1, 1).expand(-1, 3)


@pytest.mark.parametrize("model", [Force, Functional, Forwards])
@pytest.mark.parametrize("classes", [False, True])
def test_a_derivative_through_a_convolution_has_a_gradient(intel, model, classes):
    torch.manual_seed(0)
    model, data = model(), examples(40, (3, 8, 8))
    objective = lk.Objective(model, data)
    expected = lk.Objective(model, data, precision="float64").gradient(classes=classes)
    np.testing.assert_allclose(objective.gradient(classes=classes), expected, rtol=1e-4, atol=1e-6)
