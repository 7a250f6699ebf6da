"""The memory layout and type in which a network evaluates its examples fastest. Only rounding changes.

The choice depends on the model, the data and the kind of device, never on a timing: results repeat bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from lcakit.record.objective.batch_norm import is_plain_norm

__all__ = ["fastest_layout"]


def __dir__() -> list[str]:
    return __all__


_MISFITS = (RuntimeError, ValueError)
_CLOSE = 1e-3
_COARSE = {"tf32": 1e-2, "bfloat16": 5e-2}  # on a GPU, where another layout means another kernel
_NORMS = (nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def fastest_layout(
    x: torch.Tensor, model: nn.Module, precision: str, losses_of: Callable[[torch.Tensor], torch.Tensor], some: int
) -> torch.Tensor:
    """Return the examples in the layout and type in which the network evaluates them fastest.

    Images go channels-last to convolutions: all of the paper's networks are 1.1 to 1.6 times faster that way on a CPU,
    and the tensor cores of a GPU ask for it (norm layers then need care:
    :func:`lcakit.record.objective.batch_norm.use_precise_norms`). Under autocast they are stored in bfloat16 if the
    first layer would round them to that anyway. Neither is done where ``losses_of`` gives other losses for the first
    ``some`` examples, or fails.
    """
    usual = losses_of(x[:some])
    fast_here = x.device.type == "cpu" or precision in ("tf32", "bfloat16")
    if x.dim() == 4 and fast_here and _gains(model):
        found = _try(losses_of, x[:some].to(memory_format=torch.channels_last))
        close = _COARSE[precision] if x.is_cuda and precision in _COARSE else _CLOSE
        if found is not None and torch.allclose(found, usual, rtol=close, atol=close):
            x, usual = x.to(memory_format=torch.channels_last), found
    elif x.dim() == 4:  # images may already be channels-last
        x = x.contiguous()
    if precision == "bfloat16" and x.dtype == torch.float32:
        found = _try(losses_of, x[:some].to(torch.bfloat16))
        if found is not None and torch.equal(found, usual):
            x = x.to(torch.bfloat16)
    return x


def _gains(model: nn.Module) -> bool:
    """Say whether a network has convolutions, and all its norm layers are precise on channels-last images."""
    modules = list(model.modules())
    norms = [module for module in modules if isinstance(module, _NORMS) and not isinstance(module, nn.BatchNorm1d)]
    precise = all(is_plain_norm(norm) or getattr(norm, "running_mean", None) is not None for norm in norms)
    return precise and any(isinstance(module, nn.Conv2d) for module in modules)


def _try(losses_of: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor | None:
    """Return the losses; None for a network that accepts no other layout (``x.view(…)``, say)."""
    try:
        return losses_of(x)
    except _MISFITS:
        return None
