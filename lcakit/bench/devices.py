"""Where a benchmark computes: what the device is called, and how work on it is timed to its end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from lcakit.bench.machine import machine
from lcakit.bench.timing import Key, Work
from lcakit.errors import DataError, unknown
from lcakit.record.objective.checks import usable_device
from lcakit.record.objective.dense_layers import has_onednn
from lcakit.record.objective.isolation import arithmetic

__all__ = ["chosen", "forget_peak", "gpu_peak", "heading", "is_gpu", "on", "torch_machine", "wait"]


def __dir__() -> list[str]:
    return __all__


_PRECISIONS = ("float32", "tf32", "bfloat16")
_FIRST_WITH_BFLOAT16 = (8, 0)  # compute capability: Ampere


def chosen(device: str, precision: str = "float32") -> torch.device:
    """Return the device of a benchmark; raise an LcakitError where it, or the precision on it, cannot be measured."""
    found = usable_device(device)
    if found.type not in ("cpu", "cuda"):
        raise DataError(f"benchmarks can wait for a CPU and for CUDA devices, not for {device!r}")
    if precision not in _PRECISIONS:
        raise unknown("precision of this benchmark", precision, _PRECISIONS)
    if precision == "tf32" and not is_gpu(found):  # a CPU would compute in float32, under another name
        raise DataError("tf32 is a precision of GPUs: choose a GPU (device cuda), or float32 or bfloat16")
    return found


def is_gpu(device: torch.device) -> bool:
    """Say whether work on the device is queued, so that a clock must wait for it."""
    return device.type == "cuda"


def wait(device: torch.device) -> None:
    """Return when the device has done all it was given. A CPU always has."""
    if is_gpu(device):
        torch.cuda.synchronize(device)


def on(device: torch.device, works: Mapping[Key, Work], precision: str = "float32") -> dict[Key, Work]:
    """Return contenders whose end is the end of their work on the device, all in the same arithmetic.

    A bare loop would otherwise use TF32 in convolutions and not in matrix products, as PyTorch does by default. Unlike
    an objective, which repeats bit by bit, it may use the fastest algorithms that cuDNN finds.
    """
    if not is_gpu(device) and precision == "float32":
        return dict(works)

    def to_the_end(work: Work) -> object:
        with arithmetic(precision, device):
            if is_gpu(device):  # put back by the end of arithmetic()
                torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
            result = work()
        wait(device)
        return result

    return {key: partial(to_the_end, work) for key, work in works.items()}


def torch_machine(device: str | torch.device = "cpu") -> dict[str, Any]:
    """Return what figures depend on: CPU, cores, torch and its threads, if bfloat16 is multiplied, and the GPU."""
    here, where = {**machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}, torch.device(device)
    if not is_gpu(where):
        return {**here, "bfloat16": has_onednn() and torch.ops.mkldnn._is_mkldnn_bf16_supported()}
    return {
        **here,
        "bfloat16": torch.cuda.get_device_capability(where) >= _FIRST_WITH_BFLOAT16,
        "gpu": torch.cuda.get_device_name(where),
        "gpu_bytes": torch.cuda.get_device_properties(where).total_memory,
        "cuda": torch.version.cuda,
    }


def heading(here: Mapping[str, Any]) -> str:
    """Return a machine as the first line of a text."""
    cpu = f"{here['cpu']}, {here['cores']} cores; torch {here['torch']}, {here['threads']} threads"
    return f"{here['gpu']}, {here['gpu_bytes'] / 2**30:.0f} GiB, CUDA {here['cuda']}; {cpu}" if "gpu" in here else cpu


def forget_peak(device: torch.device) -> None:
    """Reset the peak of a GPU's memory."""
    if is_gpu(device):
        torch.cuda.reset_peak_memory_stats(device)


def gpu_peak(device: torch.device) -> int | None:
    """Return the most bytes PyTorch's tensors took on a GPU since :func:`forget_peak`; None for a CPU."""
    return torch.cuda.max_memory_allocated(device) if is_gpu(device) else None
