"""Small networks and loops that several tests of the recording rooms share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def dense(inputs: int = 6, classes: int = 3, seed: int = 0, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 5), activation(), nn.Linear(5, classes))


def dropout_net(inputs: int = 6, classes: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, classes))


def norm_net(inputs: int = 6, classes: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))


def conv_net(classes: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, classes))


def examples(n: int = 50, inputs: int | tuple[int, ...] = 6, classes: int = 3, seed: int = 1):
    g = torch.Generator().manual_seed(seed)
    shape = (inputs,) if isinstance(inputs, int) else inputs
    return torch.randn(n, *shape, generator=g), torch.randint(0, classes, (n,), generator=g)


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters() if p.requires_grad])


def train(model, optimizer, x, y, steps: int, *, seed: int = 3, start: int = 0, batch: int = 10, each=None) -> None:
    """A plain training loop; batches depend on the step alone, so that it can start anywhere."""
    model.train()
    for step in range(start, steps):
        index = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed * 1000 + step))[:batch]
        optimizer.zero_grad()
        F.cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()
        if each is not None:
            each(step)
