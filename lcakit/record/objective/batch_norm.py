"""BatchNorm of channels-last images on a CPU, with sums as precise as float32 allows. Only rounding changes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["is_plain_norm", "use_precise_norms"]


def __dir__() -> list[str]:
    return __all__


def use_precise_norms(model: nn.Module) -> nn.Module:
    """Let the 2-d BatchNorm layers of a float32 network on a CPU, in place, sum channels-last images precisely.

    PyTorch's kernel for that layout adds up a whole batch in one float32 number: outputs are off by 8e-5 (500 images of
    32 x 32) where the one for contiguous images is off by 6e-8. LCA of a layer is a small sum of large helping and
    hurting parts: that of the first layer of a ResNet-8 differed by 0.3 %.
    """
    for module in model.modules():
        if is_plain_norm(module):
            module.__class__ = _Norm
    return model


def is_plain_norm(module: nn.Module) -> bool:
    """Say whether a layer is PyTorch's own BatchNorm by the batch, with a scale and a shift."""
    plain = type(module) in (nn.BatchNorm2d, _Norm) and module.running_mean is None
    return plain and module.weight is not None and module.bias is not None


class _Norm(nn.BatchNorm2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input, normalized by the statistics of the batch."""
        if input.dtype != torch.float32 or input.is_contiguous():
            return super().forward(input)
        normalized: torch.Tensor = _BatchNorm.apply(input, self.weight, self.bias, self.eps)
        return normalized

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
