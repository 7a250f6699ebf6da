"""Gradients by plain autograd in float64, to compare those of objectives with."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


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


def exact(model: nn.Module, x, y) -> np.ndarray:
    """The gradient of the mean loss, by plain autograd in float64."""
    model = copy.deepcopy(model).double().eval()
    F.cross_entropy(model(x.double()), y).backward()
    return torch.cat([p.grad.reshape(-1) for p in model.parameters()]).numpy()
