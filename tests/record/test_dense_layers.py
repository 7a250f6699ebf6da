"""Dense layers that multiply with oneDNN must compute the same."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lcakit as lk
from lcakit.record.objective import dense_layers
from lcakit.record.objective.dense_layers import has_onednn, prefers_onednn, use_onednn
from tests.support.networks import dense, examples
from tests.support.objectives import exact


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


@pytest.fixture(params=[True, False], ids=["intel", "other"])
def maker(request, monkeypatch):
    """A processor by Intel, where MKL multiplies, or another, where oneDNN does."""
    monkeypatch.setattr(dense_layers, "_is_intel", lambda: request.param)


@pytest.mark.parametrize("intel", [True, False])
@pytest.mark.parametrize("mkl", [True, False])
def test_mkl_multiplies_where_it_is_at_home(monkeypatch, intel, mkl):
    monkeypatch.setattr(dense_layers, "_is_intel", lambda: intel)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    assert prefers_onednn() == (has_onednn() and not (intel and mkl))


@pytest.mark.parametrize("network", [Penalized, Routed])
def test_networks_that_do_more_with_dense_layers(network, maker):
    torch.manual_seed(0)
    model, (x, y) = network(), examples()
    ours, expected = (lk.Objective(model, (x, y), precision=p).gradient() for p in ("float32", "float64"))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)
    assert network is Routed or np.abs(expected).min() > 0


def test_a_network_with_an_autocast_of_its_own_is_left_to_it(maker):
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


def test_a_dense_layer_of_ones_own_computes_what_its_author_wrote(maker):
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), Doubling(5, 3)), examples()
    np.testing.assert_allclose(lk.Objective(model, (x, y)).gradient(), exact(model, x, y), rtol=1e-4, atol=1e-6)


def test_files_do_not_tell_whose_products_were_used(monkeypatch, maker):
    model, data = dense(), examples()
    ours = lk.Objective(model, data).model_fingerprint
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert lk.Objective(model, data).model_fingerprint == ours
