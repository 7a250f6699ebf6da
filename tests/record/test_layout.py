"""The layout and type of examples, and norm layers that sum them, must not change results."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lcakit as lk
from lcakit.record.objective.layout import fastest_layout
from tests.support.networks import dense, examples
from tests.support.objectives import exact


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


@pytest.mark.slow
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


@pytest.mark.sampled
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
