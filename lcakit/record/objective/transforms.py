"""Whether derivatives are taken in another way than backwards, which PyTorch's own operations know and no others."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

__all__ = ["transformed"]


def __dir__() -> list[str]:
    return __all__


def transformed() -> bool:
    """Say whether a call is inside a transform of ``torch.func`` (``grad``, ``vmap``, …) or has forward derivatives.

    Layers that compute with an ``autograd.Function`` of ours leave such a call to PyTorch.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
