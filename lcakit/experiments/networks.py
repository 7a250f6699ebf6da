"""The paper's networks and small siblings, initialized the same on every call, without the global generator."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import nn

from lcakit.errors import unknown
from lcakit.trajectory.arguments import checks_arguments, checks_creation

__all__ = [
    "NETWORKS",
    "Builder",
    "ResNet",
    "Shape",
    "allcnn",
    "build",
    "fc",
    "find",
    "initialize",
    "lenet",
    "lenet_small",
    "resnet",
    "vgg",
    "vgg5",
    "vgg9",
]


def __dir__() -> list[str]:
    return __all__


Shape = tuple[int, int, int]
Builder = Callable[[Shape, int], nn.Module]


@checks_arguments
def build(name: str, data_shape: Shape, n_classes: int, seed: int) -> nn.Module:
    """Build a network with He-normal kernels and zero biases, on the CPU.

    Kernels are drawn from N(0, 2 / fan_in) by a generator of their own, in the order of
    ``named_parameters()``, so the same arguments give the same bits and the global generator stays as it was.

    Parameters
    ----------
    name
        A key of ``NETWORKS``; for residual networks also ``resnetN`` and ``resnetNwW`` (:func:`resnet`).
    data_shape
        (C, H, W) of one image.
    n_classes
        Number of outputs.
    seed
        Seed of the initial values.

    Raises
    ------
    ValueError
        For an unknown name, or images that are too small for the network's pools.

    Examples
    --------
    >>> sum(p.numel() for p in build("fc", (1, 28, 28), 10, seed=0).parameters())
    84060
    """
    builder = find(name)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # constructors draw values, replaced below
        network = builder(data_shape, n_classes)
    initialize(network, torch.Generator().manual_seed(seed))
    return network


@checks_arguments
def find(name: str) -> Builder:
    """Return the function that builds a network, or say which names there are."""
    if name in NETWORKS:
        return NETWORKS[name]
    sizes = re.fullmatch(r"resnet(\d+)(?:w(\d+))?", name)
    if sizes:
        depth, width = int(sizes[1]), int(sizes[2] or 16)
        if depth < 8 or (depth - 2) % 6 or width < 1:
            raise ValueError(
                f"{name!r}: a residual network has 8, 14, 20, … (6 n + 2) layers and at least one channel; "
                "such as resnet20, or resnet8w4 for four channels in the first stage"
            )
        return lambda data_shape, n_classes: resnet(data_shape, n_classes, (depth - 2) // 6, width)
    raise unknown("network", name, NETWORKS)


@checks_arguments
def initialize(network: nn.Module, generator: torch.Generator) -> None:
    """Draw He-normal kernels (fan-in) for all linear and convolution layers and set their biases to zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@checks_arguments
def fc(data_shape: Shape, n_classes: int) -> nn.Module:
    """Fully connected 100-50-classes on flattened images: the paper's MNIST-FC, 84 060 parameters."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(math.prod(data_shape), 100),
            relu1=nn.ReLU(),
            fc2=nn.Linear(100, 50),
            relu2=nn.ReLU(),
            fc3=nn.Linear(50, n_classes),
        )
    )


@checks_arguments
def lenet(data_shape: Shape, n_classes: int, channels: tuple[int, int] = (20, 40), hidden: int = 400) -> nn.Module:
    """Two 5x5 convolutions with 'same' padding and pools, dropout, a dense layer: 808 970 parameters on MNIST."""
    side = _pooled(data_shape, 2)
    first, second = channels
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(data_shape[0], first, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            drop1=nn.Dropout(0.25),
            flatten=nn.Flatten(),
            fc1=nn.Linear(second * math.prod(side), hidden),
            relu3=nn.ReLU(),
            drop2=nn.Dropout(0.5),
            fc2=nn.Linear(hidden, n_classes),
        )
    )


@checks_arguments
def lenet_small(data_shape: Shape, n_classes: int) -> nn.Module:
    """LeNet with 6 and 12 channels and 50 hidden units, for two cores and a minute."""
    return lenet(data_shape, n_classes, (6, 12), 50)


@checks_arguments
def allcnn(data_shape: Shape, n_classes: int, width: int = 96, relu_everywhere: bool = False) -> nn.Module:
    """All-convolutional network with BatchNorm, ``width`` and 2 ``width`` channels: 1 371 658 parameters on CIFAR-10.

    Every convolution has a bias; strides take the place of pools. As in the paper's network there is no ReLU after the
    two convolutions with a stride, nor on the last one's outputs, the logits; ``relu_everywhere`` (``allcnn-relu``)
    puts one after each convolution, which makes no logit negative.
    """
    plan = [  # channels, taps, stride, BatchNorm, dropout
        (width, 3, 1, True, 0.0),
        (width, 3, 1, True, 0.0),
        (width, 3, 2, False, 0.5),
        (2 * width, 3, 1, True, 0.0),
        (2 * width, 3, 1, True, 0.0),
        (2 * width, 3, 2, False, 0.5),
        (2 * width, 3, 1, True, 0.0),
        (2 * width, 1, 1, True, 0.0),
        (n_classes, 1, 1, False, 0.0),
    ]
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = data_shape[0]
    for k, (channels, taps, stride, norm, dropout) in enumerate(plan, 1):
        parts[f"conv{k}"] = nn.Conv2d(inputs, channels, taps, stride, padding=taps // 2)
        if norm:
            parts[f"norm{k}"] = nn.BatchNorm2d(channels)
        if relu_everywhere or (stride == 1 and k < len(plan)):
            parts[f"relu{k}"] = nn.ReLU()
        if dropout:
            parts[f"drop{k}"] = nn.Dropout(dropout)
        inputs = channels
    parts["pool"], parts["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(parts)


class _Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm beside a shortcut: identity, or a 1x1 convolution where sizes change."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        changes = stride != 1 or inputs != channels
        self.shortcut = nn.Conv2d(inputs, channels, 1, stride) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


def _stage(inputs: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Block(inputs, channels, stride)
    return nn.Sequential(first, *(_Block(channels, channels, 1) for _ in range(blocks - 1)))


@checks_creation
class ResNet(nn.Module):
    """Residual network for small images: a convolution, three stages of blocks, global average, a dense layer."""

    def __init__(self, data_shape: Shape, n_classes: int, blocks: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(data_shape[0], width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.stage1 = _stage(width, width, blocks, stride=1)
        self.stage2 = _stage(width, 2 * width, blocks, stride=2)
        self.stage3 = _stage(2 * width, 4 * width, blocks, stride=2)
        self.fc = nn.Linear(4 * width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes) of images (N, C, H, W)."""
        x = torch.relu(self.norm(self.conv(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        out: torch.Tensor = self.fc(x.mean(dim=(2, 3)))
        return out


@checks_arguments
def resnet(data_shape: Shape, n_classes: int, blocks: int = 3, width: int = 16) -> nn.Module:
    """Residual network of 6 blocks + 2 layers, convolutions with bias: ResNet-20 has 273 066 parameters on CIFAR-10.

    ``resnet20`` is three blocks a stage and 16, 32, 64 channels; ``resnet8w4`` one block and 4, 8, 16 channels.
    """
    return ResNet(data_shape, n_classes, blocks, width)


@checks_arguments
def vgg(
    data_shape: Shape, n_classes: int, plan: Sequence[int | str], hidden: Sequence[int], dropout: float
) -> nn.Module:
    """3x3 convolutions and 2x2 pools (``"pool"`` in the plan), then dense layers with dropout between them."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    inputs, k = data_shape[0], 0
    for step in plan:
        if isinstance(step, str):
            parts[f"pool{k}"] = nn.MaxPool2d(2)
            continue
        k += 1
        parts[f"conv{k}"], parts[f"relu{k}"] = nn.Conv2d(inputs, step, 3, padding=1), nn.ReLU()
        inputs = step
    parts["flatten"] = nn.Flatten()
    inputs *= math.prod(_pooled(data_shape, sum(step == "pool" for step in plan)))
    for n, units in enumerate([*hidden, n_classes], 1):
        parts[f"fc{n}"] = nn.Linear(inputs, units)
        if n <= len(hidden):
            parts[f"relu_fc{n}"] = nn.ReLU()
            if dropout:
                parts[f"drop{n}"] = nn.Dropout(dropout)
        inputs = units
    return nn.Sequential(parts)


@checks_arguments
def vgg5(data_shape: Shape, n_classes: int, dropout: float = 0.5) -> nn.Module:
    """Three convolutions (64, 128, 256), each with a pool, and a dense layer of 512 with dropout 0.5.

    ``vgg5-no-dropout`` is the same network without dropout.
    """
    return vgg(data_shape, n_classes, (64, "pool", 128, "pool", 256, "pool"), (512,), dropout)


@checks_arguments
def vgg9(data_shape: Shape, n_classes: int) -> nn.Module:
    """Six convolutions (32, 64, 128, 128, 256, 256) with four pools, two dense layers of 512 with dropout 0.5."""
    plan = (32, "pool", 64, "pool", 128, 128, "pool", 256, 256, "pool")
    return vgg(data_shape, n_classes, plan, (512, 512), 0.5)


def _pooled(data_shape: Shape, pools: int) -> tuple[int, int]:
    """Return height and width of an image after 2x2 pools."""
    height, width = (side >> pools for side in data_shape[1:])
    if not (height and width):
        raise ValueError(f"images of {data_shape[1]} x {data_shape[2]} are too small for {pools} pools of 2 x 2")
    return height, width


NETWORKS: dict[str, Builder] = {
    "fc": fc,
    "lenet": lenet,
    "lenet-small": lenet_small,
    "allcnn": allcnn,
    "allcnn-relu": lambda data_shape, n_classes: allcnn(data_shape, n_classes, relu_everywhere=True),
    "allcnn-small": lambda data_shape, n_classes: allcnn(data_shape, n_classes, width=16),
    "resnet20": resnet,
    "resnet8": lambda data_shape, n_classes: resnet(data_shape, n_classes, blocks=1),
    "vgg5": vgg5,
    "vgg5-no-dropout": lambda data_shape, n_classes: vgg5(data_shape, n_classes, dropout=0.0),
    "vgg9": vgg9,
}
