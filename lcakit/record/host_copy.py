"""From a GPU to the file: rows arrive on the host while the device computes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

__all__ = ["HostCopy", "to_host"]


def __dir__() -> list[str]:
    return __all__


class HostCopy:
    """A tensor on its way from a GPU to page-locked memory; who asks for its numbers waits until they are there.

    The copy is queued behind what computes the tensor, and nobody waits for either: the queue of the device never runs
    empty because of a row, but of those so large that each fills a block. ``nbytes`` is known at once.
    """

    arrives = True

    def __init__(self, tensor: torch.Tensor) -> None:
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        self._there = torch.cuda.Event()
        self._there.record(torch.cuda.current_stream(tensor.device))
        self.nbytes = self._host.numel() * self._host.element_size()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._there.synchronize()
        return np.array(self._host.numpy(), dtype=dtype, copy=bool(copy) or None)


def to_host(tensor: torch.Tensor) -> Any:
    """Return numbers as they are stored, float32: an array, or what becomes one when it is asked for."""
    single = tensor.to(torch.float32)
    return HostCopy(single) if single.is_cuda else single.cpu().numpy()
