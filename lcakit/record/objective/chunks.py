"""How many examples are evaluated at a time: by activation memory, and fewer when a GPU runs out of it."""

from __future__ import annotations

import warnings

import torch

from lcakit.errors import ObjectiveError
from lcakit.record.objective import memory

__all__ = ["batch_size", "halve"]


def __dir__() -> list[str]:
    return __all__


# A CPU is fastest while a chunk's activations fit its caches; a GPU needs many examples to be busy.
# With BatchNorm the size is part of the objective, so it must not depend on the machine.
_BYTES = {"cpu": 64 * 2**20, "cuda": 2 * 2**30}
_LIMIT = {"cpu": 3_000, "cuda": 10_000}
_FEWEST = 16
_COUPLED_BATCH_SIZE = 500
_SHARE_OF_FREE = 4  # a backward pass holds activations, their gradients, and what its kernels need


def batch_size(wanted: int | str, n_examples: int, activation_bytes: float, device: torch.device, coupled: bool) -> int:
    """Return the examples of a chunk.

    Raises
    ------
    ObjectiveError
        For a size that is neither ``"auto"`` nor a positive integer.
    """
    if wanted == "auto":
        if coupled:
            return min(_COUPLED_BATCH_SIZE, n_examples)
        kind = device.type if device.type in _BYTES else "cuda"
        available = min(_BYTES[kind], memory.free_bytes(device) // _SHARE_OF_FREE)
        return int(min(max(available // activation_bytes, _FEWEST), _LIMIT[kind], n_examples))
    if not isinstance(wanted, int) or wanted < 1:
        raise ObjectiveError(f'batch_size must be "auto" or a positive integer, got {wanted!r}')
    return min(wanted, n_examples)


def halve(size: int, device: torch.device, coupled: bool, error: torch.OutOfMemoryError) -> int:
    """Return half the examples of a chunk, after the device ran out of memory, with a warning.

    Raises
    ------
    ObjectiveError
        If the batch is part of the objective, or a single example is already too much.
    """
    if coupled:
        raise ObjectiveError(
            f"{device} ran out of memory with a batch of {size} examples, which is part of the objective (BatchNorm): "
            f"choose a smaller batch_size, such as {max(1, size // 2)}, or free memory on the device. ({error})"
        ) from error
    if size == 1:
        raise ObjectiveError(
            f"{device} ran out of memory with the gradient of a single example. Use a larger device, or device='cpu'. "
            f"({error})"
        ) from error
    if device.type == "cuda":
        torch.cuda.empty_cache()
    warnings.warn(
        f"{device} ran out of memory with chunks of {size} examples: continuing with {size // 2}. The result is "
        f"the same up to rounding; batch_size={size // 2} avoids the first, failing attempt.",
        RuntimeWarning,
        stacklevel=4,
    )
    return size // 2
