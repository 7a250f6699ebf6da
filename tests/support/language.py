"""A small language model, sentences of different length, and the obvious gradient of a mean over tokens."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Language(nn.Module):
    """Next-token logits (n, T, V) of token numbers (n, T): attention over the past, without dropout."""

    def __init__(self, vocabulary: int = 7, width: int = 8, length: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.mixed = nn.Linear(width, 3 * width)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, input_ids, attention_mask=None):
        x = self.token(input_ids) + self.place(torch.arange(input_ids.shape[1], device=input_ids.device))
        q, k, v = self.mixed(x).chunk(3, -1)
        return self.head(self.norm(x + F.scaled_dot_product_attention(q, k, v, is_causal=True)))


def sentences(n: int = 14, length: int = 6, vocabulary: int = 7):
    """Token numbers (n, length), and a mask that is 0 behind the end of each."""
    g = torch.Generator().manual_seed(5)
    tokens = torch.randint(vocabulary, (n, length), generator=g)
    ends = torch.randint(2, length + 1, (n,), generator=g)
    return tokens, (torch.arange(length) < ends[:, None]).long()


def mean_by_group(model: nn.Module, losses_of, weights, groups, n_groups: int):
    """Losses (C,) and gradients (C, K) of Σ_{groups == c} wℓ / Σ w, one autograd call per group in float64."""
    model = copy.deepcopy(model).double().eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses, gradients = [], []
    for c in range(n_groups):
        each = losses_of(model)
        part = (each * weights * (groups == c)).sum() / weights.sum()
        found = torch.autograd.grad(part, parameters, allow_unused=True)
        flat = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        losses.append(float(part.detach()))
        gradients.append(torch.cat([g.reshape(-1) for g in flat]).numpy())
    return np.array(losses), np.array(gradients)
