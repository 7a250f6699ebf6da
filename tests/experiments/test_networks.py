"""Networks: the paper's sizes and initial values, repeatable, no trace in the global generator."""

import math

import pytest
import torch

from lcakit.experiments.networks import build


def test_mnist_fc_has_the_papers_size_and_layer_names():
    network = build("fc", (1, 28, 28), 10, seed=0)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert shapes == {
        "fc1.weight": (100, 784),
        "fc1.bias": (100,),
        "fc2.weight": (50, 100),
        "fc2.bias": (50,),
        "fc3.weight": (10, 50),
        "fc3.bias": (10,),
    }
    assert sum(p.numel() for p in network.parameters()) == 84_060
    assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_kernels_are_he_normal_and_biases_zero():
    parameters = dict(build("fc", (3, 32, 32), 10, seed=1).named_parameters())
    for layer in ("fc1", "fc2", "fc3"):
        kernel, bias = parameters[f"{layer}.weight"].detach(), parameters[f"{layer}.bias"].detach()
        expected, n = math.sqrt(2 / kernel.shape[1]), kernel.numel()
        assert float(kernel.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * n))  # four standard errors
        assert abs(float(kernel.mean())) < 4 * expected / math.sqrt(n)
        assert not bias.any()
    beyond = (parameters["fc1.weight"].abs() > 2 * math.sqrt(2 / 3072)).float().mean()
    assert float(beyond) == pytest.approx(0.0455, rel=0.05)  # normal, neither uniform nor truncated


def test_a_seed_fixes_the_network_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    one, again, other = (build("fc", (1, 8, 8), 10, seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    later = build("fc", (1, 8, 8), 10, seed=3)
    for a, b, c in zip(one.parameters(), again.parameters(), later.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_unknown_network_names_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown network 'fcc'.*'fc'"):
        build("fcc", (1, 8, 8), 10, seed=0)


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("lenet", (1, 28, 28), 808_970),
        ("allcnn", (3, 32, 32), 1_371_658),
        ("resnet20", (3, 32, 32), 273_066),
    ],
)
def test_the_papers_sizes(name, shape, parameters):
    network = build(name, shape, 10, seed=0)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network(torch.rand(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize("name", ["lenet-small", "resnet8", "resnet8w4", "resnet14w2", "vgg5", "vgg9"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_small_siblings_run_and_every_parameter_has_a_gradient(name, shape):
    network = build(name, shape, 7, seed=0)
    network(torch.rand(4, *shape)).square().sum().backward()
    for label, parameter in network.named_parameters():
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label


def test_vgg_has_the_papers_layers():
    layers = [type(m).__name__ for m in build("vgg9", (3, 32, 32), 10, seed=0).children()]
    assert layers.count("Conv2d") == 6
    assert layers.count("MaxPool2d") == 4
    assert layers.count("Linear") == 3
    assert layers.count("Dropout") == 2


def test_allcnn_has_no_relu_after_strides_nor_on_the_logits():
    network = build("allcnn-small", (1, 8, 8), 10, seed=0)
    modules = list(network.children())
    bare = []  # convolutions whose output no ReLU follows before the next convolution
    for n, module in enumerate(modules):
        if isinstance(module, torch.nn.Conv2d):
            after = next((m for m in modules[n + 1 :] if isinstance(m, torch.nn.ReLU | torch.nn.Conv2d)), None)
            bare += [module] if not isinstance(after, torch.nn.ReLU) else []
    assert [(module.stride[0], module.out_channels) for module in bare] == [(2, 16), (2, 32), (1, 10)]
    logits = network(torch.rand(20, 1, 8, 8))
    assert (logits < 0).any()
    assert not (logits == 0).any()


def test_the_other_readings_have_as_many_parameters():
    shape, sizes = (3, 32, 32), {}
    for name in ("allcnn", "allcnn-relu", "vgg5", "vgg5-no-dropout"):
        sizes[name] = sum(p.numel() for p in build(name, shape, 10, seed=0).parameters())
    assert sizes["allcnn"] == sizes["allcnn-relu"]
    assert sizes["vgg5"] == sizes["vgg5-no-dropout"]
    assert (build("allcnn-relu", (1, 8, 8), 10, seed=0)(torch.rand(9, 1, 8, 8)) >= 0).all()
    drops = {
        name: [m.p for m in build(name, shape, 10, seed=0).children() if isinstance(m, torch.nn.Dropout)]
        for name in ("vgg5", "vgg5-no-dropout")
    }
    assert drops == {"vgg5": [0.5], "vgg5-no-dropout": []}


@pytest.mark.parametrize("name", ["resnet9", "resnet2", "resnet8w0"])
def test_impossible_residual_networks(name):
    with pytest.raises(ValueError, match="resnet20, or resnet8w4"):
        build(name, (3, 32, 32), 10, seed=0)


def test_images_too_small_for_the_pools():
    with pytest.raises(ValueError, match="8 x 8 are too small for 4 pools"):
        build("vgg9", (1, 8, 8), 10, seed=0)
