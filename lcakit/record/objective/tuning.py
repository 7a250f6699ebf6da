"""The same network, evaluated faster: memory, layouts, and whose products multiply. Only rounding changes.

All choices depend on the model, the data and the kind of device, never on a timing: results repeat bit by bit.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_MISFITS = (RuntimeError, ValueError)
_CLOSE = 1e-3
_COARSE = {"tf32": 1e-2, "bfloat16": 5e-2}  # on a GPU, where another layout means another kernel
_NORMS = (nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


# ---- the layout of examples ------------------------------------------------------------------------------------


def suited(
    x: torch.Tensor, model: nn.Module, precision: str, losses_of: Callable[[torch.Tensor], torch.Tensor], some: int
) -> torch.Tensor:
    """Return the examples in the layout and type in which the network evaluates them fastest.

    Images go channels-last to convolutions: on a CPU all of the paper's networks are 1.1 to 1.6 times faster so, and
    tensor cores of a GPU ask for it (norm layers then need care, :func:`precise_norms`). Under autocast they are stored
    in bfloat16, if the first layer would round them to that anyway. Both are given up where ``losses_of`` the first
    ``some`` examples differs, or cannot be computed.
    """
    usual = losses_of(x[:some])
    fast_here = x.device.type == "cpu" or precision in ("tf32", "bfloat16")
    if x.dim() == 4 and fast_here and _gains(model):
        found = _try(losses_of, x[:some].to(memory_format=torch.channels_last))
        close = _COARSE[precision] if x.is_cuda and precision in _COARSE else _CLOSE
        if found is not None and torch.allclose(found, usual, rtol=close, atol=close):
            x, usual = x.to(memory_format=torch.channels_last), found
    elif x.dim() == 4:  # images may come channels-last, too
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
    return any(isinstance(module, nn.Conv2d) for module in modules) and all(map(_is_plain_norm, norms))


def _try(losses_of: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor | None:
    """Return the losses; None for a network that wants its examples as they were (``x.view(…)``, say)."""
    try:
        return losses_of(x)
    except _MISFITS:
        return None


# ---- dense layers ----------------------------------------------------------------------------------------------


def through_onednn(model: nn.Module) -> nn.Module:
    """Let the dense layers of a float32 network on a CPU, in place, multiply with oneDNN.

    PyTorch takes the BLAS it was built with, MKL, which reaches half of oneDNN's speed on an AMD processor (measured:
    78 against 160 GFLOP/s on one core). Where PyTorch has no oneDNN, or it is switched off, nothing changes.
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


def product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``a @ b.T + bias`` by oneDNN."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return result


class _Linear(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return ``input @ weight.T + bias``."""
        if input.dtype != torch.float32 or not input.numel() or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        return _Dense.apply(input, self.weight, self.bias)

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


# ---- BatchNorm -------------------------------------------------------------------------------------------------


def precise_norms(model: nn.Module) -> nn.Module:
    """Let the 2-d BatchNorm layers of a float32 network on a CPU, in place, sum channels-last images precisely.

    PyTorch's kernel for that layout adds up a whole batch in one float32 number: outputs are off by 8e-5 (500 images of
    32 x 32) where the one for contiguous images is off by 6e-8. LCA of a layer is a small sum of large helping and
    hurting parts: that of the first layer of a ResNet-8 differed by 0.3 %.
    """
    for module in model.modules():
        if _is_plain_norm(module):
            module.__class__ = _Norm
    return model


def _is_plain_norm(module: nn.Module) -> bool:
    """Say whether a layer is PyTorch's own BatchNorm with a scale and a shift."""
    return type(module) in (nn.BatchNorm2d, _Norm) and module.weight is not None and module.bias is not None


class _Norm(nn.BatchNorm2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input, normalized by the statistics of the batch."""
        if input.dtype != torch.float32 or input.is_contiguous():
            return super().forward(input)
        return _BatchNorm.apply(input, self.weight, self.bias, self.eps)

    def _get_name(self) -> str:
        return "BatchNorm2d"


class _BatchNorm(torch.autograd.Function):
    """``(x - mean) / sqrt(var + eps) * scale + shift``; sums are PyTorch's own over rows, which are pairwise."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float) -> torch.Tensor:
        rows = _rows(x)
        mean = rows.mean(0)
        var = (rows - mean).square_().mean(0)
        ctx.save_for_backward(x, scale, mean, (var + eps).rsqrt())
        ctx.eps = eps
        return nn.functional.batch_norm(x, mean, var, scale, shift, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *errors: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # of a network that takes gradients itself: PyTorch's kernel has gradients, too
            kernel = torch.ops.aten.native_batch_norm_backward
            given = errors[0].contiguous(), x.contiguous()  # that for channels-last images is imprecise
            return *kernel(*given, scale, None, None, mean, inverse, True, ctx.eps, ctx.needs_input_grad[:3]), None
        rows, error = _rows(x), _rows(errors[0])
        total, product = error.sum(0), (rows - mean).mul_(error).sum(0)
        slope = scale * inverse
        bend = -slope * inverse**2 * product / len(rows)
        back = torch.addcmul(-slope * total / len(rows) - bend * mean, rows, bend).addcmul_(error, slope)
        n, channels, height, width = x.shape
        images = back.view(n, height, width, channels).permute(0, 3, 1, 2)
        return images, product * inverse, total, None


def _rows(images: torch.Tensor) -> torch.Tensor:
    """Return images as a matrix with a column for each channel: a view, where they are channels-last."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


# ---- memory ----------------------------------------------------------------------------------------------------

_TRIM, _MMAP = (-1, 128 * 2**20), (-3, 32 * 2**20)  # numbers of mallopt, bytes


def keep_freed_memory() -> None:
    """Let glibc keep the blocks that a chunk's activations leave, instead of giving them back and taking them anew.

    Their pages would be faulted in again for every chunk. By itself glibc learns from the largest block that was freed,
    but not in workers of Dask, whose environment tells it to give back all: 0.244 s a gradient there, 0.148 s so. Other
    allocators have no such switch.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        for option in (_TRIM, _MMAP):
            libc.mallopt(*option)
