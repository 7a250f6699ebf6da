"""The paper's networks, initialized the same on every call and without touching the global generator."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from lcakit.errors import unknown

Shape = tuple[int, int, int]


def build(name: str, data_shape: Shape, n_classes: int, seed: int) -> nn.Module:
    """Build a network with He-normal kernels and zero biases, on the CPU.

    Kernels are drawn from N(0, 2 / fan_in) by a generator of their own, in the order of
    ``named_parameters()``, so the same arguments give the same bits and the global generator stays as it was.

    Parameters
    ----------
    name
        A key of ``NETWORKS``.
    data_shape
        (C, H, W) of one image.
    n_classes
        Number of outputs.
    seed
        Seed of the initial values.

    Raises
    ------
    ValueError
        For an unknown name.

    Examples
    --------
    >>> sum(p.numel() for p in build("fc", (1, 28, 28), 10, seed=0).parameters())
    84060
    """
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # constructors draw values, replaced below
        network = NETWORKS[name](data_shape, n_classes)
    initialize(network, torch.Generator().manual_seed(seed))
    return network


def initialize(network: nn.Module, generator: torch.Generator) -> None:
    """Draw He-normal kernels (fan-in) for all linear and convolution layers and set their biases to zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


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


NETWORKS: dict[str, Callable[[Shape, int], nn.Module]] = {"fc": fc}
