"""How many examples are evaluated at a time: by activation memory, and fewer when a GPU has no more."""

from __future__ import annotations

import warnings

import torch

from lcakit.errors import ObjectiveError

# A CPU is fastest while a chunk's activations fit its caches; a GPU needs many examples to be busy.
# With BatchNorm the size is part of the objective, so it must not depend on the machine.
_BYTES = {"cpu": 64 * 2**20, "cuda": 2 * 2**30}
_LIMIT = {"cpu": 3_000, "cuda": 10_000}
_FEWEST = 16
COUPLED_BATCH_SIZE = 500
SHARE_OF_FREE = 4  # a backward pass holds activations, their gradients, and what its kernels need


def batch_size(wanted: int | str, n_examples: int, activation_bytes: float, device: torch.device, coupled: bool) -> int:
    """Return the examples of a chunk.

    Raises
    ------
    ObjectiveError
        For a size that is neither ``"auto"`` nor a positive integer.
    """
    if wanted == "auto":
        if coupled:
            return min(COUPLED_BATCH_SIZE, n_examples)
        kind = device.type if device.type in _BYTES else "cuda"
        room = min(_BYTES[kind], free_bytes(device) // SHARE_OF_FREE)
        return int(min(max(room // activation_bytes, _FEWEST), _LIMIT[kind], n_examples))
    if not isinstance(wanted, int) or wanted < 1:
        raise ObjectiveError(f'batch_size must be "auto" or a positive integer, got {wanted!r}')
    return min(wanted, n_examples)


def free_bytes(device: torch.device) -> int:
    """Return what is free on a GPU, also what PyTorch holds unused. On a CPU the caches decide, not the memory."""
    if device.type != "cuda":
        return 2**62
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + unused)


def halved(size: int, device: torch.device, coupled: bool, error: torch.OutOfMemoryError) -> int:
    """Return half the examples of a chunk, after a device had no memory for all; warn of it.

    Raises
    ------
    ObjectiveError
        If the batch is part of the objective, or a single example is too much.
    """
    if coupled:
        raise ObjectiveError(
            f"{device} has no memory for a batch of {size} examples, which is part of the objective (BatchNorm): "
            f"choose a smaller batch_size, such as {max(1, size // 2)}, or free memory of the device. ({error})"
        ) from error
    if size == 1:
        raise ObjectiveError(
            f"{device} has no memory for the gradient of a single example. Use a larger device, or device='cpu'. "
            f"({error})"
        ) from error
    if device.type == "cuda":
        torch.cuda.empty_cache()
    warnings.warn(
        f"{device} has no memory for chunks of {size} examples: going on with {size // 2}. The result is the same up "
        f"to rounding; batch_size={size // 2} avoids the first, failing attempt.",
        RuntimeWarning,
        stacklevel=4,
    )
    return size // 2
