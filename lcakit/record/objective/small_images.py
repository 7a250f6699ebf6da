"""Convolutions of small images on a CPU as matrix products. Only rounding changes.

A row of the output is a sum over rows of the kernel: each multiplies one row of pixels, ``W·C`` numbers, by a *band*, a
matrix ``(W·C, W'·C')`` that has each number of that row of the kernel once for every pixel of the output, and zeros
where it does not reach. The zeros are multiplied, too. For narrow rows of few channels that is still faster than
oneDNN's convolutions (measured: 500 images of 8 x 8, from 8 to 16 channels with a stride of 2, with gradients: 1.2
against 2.3 ms on one core).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lcakit.record.objective.transforms import transformed

__all__ = ["multiply_rows"]


def __dir__() -> list[str]:
    return __all__


_NARROW = 64
"""Numbers in a row of the output, and for each pixel of the stride in one of the input: of more, oneDNN is faster."""
_LARGE = 2**19
"""Numbers of all bands, whose places are kept."""


def multiply_rows(model: nn.Module) -> nn.Module:
    """Let 2-d convolutions of a float32 network on a CPU, in place, compute small channels-last images by products."""
    for module in model.modules():
        if type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros":
            module.__class__ = _Conv
    return model


@dataclass(frozen=True)
class _Geometry:
    """Sizes along (height, width) of a convolution of C to C' channels; the output is H' x W'."""

    channels: tuple[int, int]
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @functools.cached_property
    def found(self) -> tuple[int, int]:
        """H' and W'."""
        sizes = zip(self.size, self.kernel, self.stride, self.padding, strict=True)
        height, width = ((size + 2 * padding - kernel) // stride + 1 for size, kernel, stride, padding in sizes)
        return height, width

    @functools.cached_property
    def rows(self) -> tuple[int, int]:
        """Numbers in a row of the input, W·C, and of the output, W'·C'."""
        return self.size[1] * self.channels[0], self.found[1] * self.channels[1]

    @functools.cached_property
    def is_small(self) -> bool:
        """Whether products are faster than a convolution.

        They are where rows are narrow, or no wider than the kernel. A kernel of one pixel without a stride is a product
        already.
        """
        stride = self.stride[1]
        if min(self.found) < 1 or self.kernel == self.stride == (1, 1) or math.prod(self.bands) > _LARGE:
            return False
        narrow = self.rows[0] <= _NARROW * stride and self.rows[1] <= _NARROW
        return narrow or self.size[1] <= self.kernel[1]

    @functools.cached_property
    def bands(self) -> tuple[int, int, int]:
        """Shape (k_h, W·C, W'·C') of the bands of all rows of the kernel."""
        return self.kernel[0], *self.rows

    @functools.cached_property
    def _spans(self) -> Sequence[tuple[int, slice, slice]]:
        """Each row of the kernel, the rows of pixels that it multiplies, and the rows of the output these add to."""
        found, step = [], self.stride[0]
        for row in range(self.kernel[0]):
            top = row - self.padding[0]
            first, stop = max(0, -(top // step)), min(self.found[0], (self.size[0] - 1 - top) // step + 1)
            if first < stop:
                seen = slice(top + step * first, top + step * (stop - 1) + 1, step)
                found.append((row, seen, slice(first, stop)))
        return found

    def by_row(
        self, bands: torch.Tensor, pixels: torch.Tensor, output: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield the band of each row of the kernel, the rows of pixels that it multiplies, and those of the output.

        Rows of channels-last images are views (rows, n, numbers).
        """
        pixels, output = _rows(pixels), _rows(output)
        for row, seen, found in self._spans:
            yield bands[row], pixels[seen], output[found]

    @functools.cached_property
    def places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where numbers of the kernel are in the bands, and which one is at a place of the bands.

        Places (C'·C·k_h·k_w·W',) of each number in the flat bands, W' for each, filled up with the length of the bands;
        and numbers (length of the bands,) in the flat kernel, its length where there is none.
        """
        (inputs, outputs), length = self.channels, math.prod(self.bands)
        sizes = outputs, inputs, *self.kernel, self.found[1]
        to, channel, y, x, pixel = torch.meshgrid(*map(torch.arange, sizes), indexing="ij")
        seen = self.stride[1] * pixel + x - self.padding[1]
        place = ((y * self.size[1] + seen) * inputs + channel) * self.rows[1] + pixel * outputs + to
        place = place.where((seen >= 0) & (seen < self.size[1]), length).flatten(0, 3)
        number = torch.full((length + 1,), len(place))
        number[place] = torch.arange(len(place)).unsqueeze(1)
        return place.flatten().to(torch.int32), number[:-1].to(torch.int32)


_geometry = functools.lru_cache(64)(_Geometry)


class _Conv(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the convolution; channels-last, if the input is."""
        geometry = self._geometry(input)
        if geometry is None or not geometry.is_small:
            return super().forward(input)
        output: torch.Tensor = _ByRows.apply(input, self.weight, self.bias, geometry)
        return output

    def _geometry(self, x: torch.Tensor) -> _Geometry | None:
        """Return the sizes, or None where this convolution is PyTorch's."""
        if x.dim() != 4 or not len(x) or isinstance(self.padding, str) or self.dilation != (1, 1):
            return None
        _, channels, height, width = x.shape
        last = x.stride() == (height * width * channels, 1, width * channels, channels)
        plain = x.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not (last and plain) or channels != self.in_channels or transformed():
            return None
        return _geometry((channels, self.out_channels), (height, width), self.kernel_size, self.stride, self.padding)

    def _get_name(self) -> str:
        return "Conv2d"


class _ByRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None, geometry: _Geometry
    ) -> torch.Tensor:
        numbers = nn.functional.pad(kernel.reshape(-1), (0, 1))
        bands = numbers.index_select(0, geometry.places[1]).view(geometry.bands)
        shape = len(x), *geometry.found, len(kernel)
        out = (x.new_zeros(shape) if bias is None else bias.repeat(*shape[:3], 1)).permute(0, 3, 1, 2)
        for band, pixels, rows in geometry.by_row(bands, x, out):
            rows.baddbmm_(pixels, band.expand(len(rows), -1, -1))
        ctx.save_for_backward(x, kernel, bands)
        ctx.geometry = geometry
        return out

    @staticmethod
    def backward(ctx: Any, *errors: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, kernel, bands = ctx.saved_tensors
        geometry, wants = ctx.geometry, ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # of a network that takes gradients itself: PyTorch's own have gradients, too
            sizes = [len(kernel)], geometry.stride, geometry.padding, (1, 1), False, (0, 0), 1
            return *torch.ops.aten.convolution_backward(errors[0], x, kernel, *sizes, wants), None
        error = errors[0].contiguous(memory_format=torch.channels_last)
        back = torch.zeros_like(x) if wants[0] else None
        if back is not None:
            for band, pixels, rows in geometry.by_row(bands, back, error):
                pixels.baddbmm_(rows, band.mT.expand(len(rows), -1, -1))
        gradient = torch.zeros_like(bands) if wants[1] else None
        if gradient is not None:
            for band, pixels, rows in geometry.by_row(gradient, x, error):
                band.addbmm_(pixels.mT, rows)
            numbers = nn.functional.pad(gradient.view(-1), (0, 1)).index_select(0, geometry.places[0])
            gradient = numbers.view(-1, geometry.found[1]).sum(1).view_as(kernel)
        return back, gradient, error.sum((0, 2, 3)) if wants[2] else None, None


def _rows(images: torch.Tensor) -> torch.Tensor:
    """Return images as matrices (H, n, W·C): a view, where they are channels-last."""
    n, channels, height, width = images.shape
    return images.permute(2, 0, 3, 1).reshape(height, n, width * channels)
