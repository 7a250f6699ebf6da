"""Dense layers that multiply with oneDNN on a CPU. Only rounding changes."""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lcakit.record.objective.transforms import transformed

__all__ = ["has_onednn", "prefers_onednn", "product", "use_onednn"]


def __dir__() -> list[str]:
    return __all__


def use_onednn(model: nn.Module) -> nn.Module:
    """Let the dense layers of a float32 network on a CPU, in place, multiply with oneDNN.

    Where PyTorch has no oneDNN, or it is switched off, nothing changes.
    """
    if not has_onednn():
        return model
    for module in model.modules():
        if type(module) is nn.Linear:  # a subclass may compute something else
            module.__class__ = _Linear
    return model


def has_onednn() -> bool:
    """Say whether PyTorch has oneDNN's products, and may use them."""
    usable = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return bool(usable) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def prefers_onednn() -> bool:
    """Say whether oneDNN multiplies faster here than the BLAS that PyTorch was built with.

    MKL reaches half of oneDNN's speed on an AMD processor (measured: 78 against 160 GFLOP/s on one core), and on one by
    Intel is as fast and needs no copies of transposed factors (a gradient of a GPT: 0.84 of the time with oneDNN).
    Decided by the processor's maker and not by a timing, so that a machine gives the same bits each time.
    """
    return has_onednn() and not (torch.backends.mkl.is_available() and _is_intel())


@functools.cache
def _is_intel() -> bool:
    cpus = Path("/proc/cpuinfo")
    return "GenuineIntel" in (cpus.read_text() if cpus.exists() else platform.processor())


def product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``a @ b.T + bias`` by oneDNN."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return result


class _Linear(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return ``input @ weight.T + bias``."""
        if input.dtype != torch.float32 or not input.numel() or torch.is_autocast_enabled("cpu") or transformed():
            return super().forward(input)
        output: torch.Tensor = _Dense.apply(input, self.weight, self.bias)
        return output

    def _get_name(self) -> str:
        return "Linear"


class _Dense(torch.autograd.Function):
    """``x @ kernel.T + bias`` and its gradients, each one product of oneDNN: :func:`product`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, kernel)
        return product(x, kernel, bias)

    @staticmethod
    def backward(ctx: Any, *errors: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, kernel = ctx.saved_tensors
        flat, inputs = errors[0].reshape(-1, len(kernel)), x.reshape(-1, kernel.shape[1])
        wants_x, wants_kernel, wants_bias = ctx.needs_input_grad
        times = _differentiable if torch.is_grad_enabled() else product  # of a network that takes gradients itself
        return (
            times(errors[0], kernel.T) if wants_x else None,
            times(flat.T, inputs.T) if wants_kernel else None,
            flat.sum(0) if wants_bias else None,
        )


def _differentiable(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a @ b.T
