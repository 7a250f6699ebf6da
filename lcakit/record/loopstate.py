"""The state of a training loop as bytes, and back: what a recording needs to go on bit by bit."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lcakit.errors import LcakitWarning, RecordingError

__all__ = ["LoopState", "generators_state", "pack", "restore", "set_generators", "unpack"]


def __dir__() -> list[str]:
    return __all__


class LoopState:
    """Everything of a loop that a resume puts back, and the number of steps taken.

    Parameters
    ----------
    required
        Objects by name whose state must be kept: what the user gave for that.
    usual
        The model and the optimizers: where their state cannot be saved, the loop is recorded without any.

    Attributes
    ----------
    steps : int
        Optimizer steps so far.
    kept : bool
        Whether the state can be saved; known after :meth:`check`.
    """

    def __init__(self, required: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
        self._required, self._usual = dict(required), dict(usual)
        self.steps = 0
        self.kept = True

    def check(self) -> None:
        """Find out whether the state can be saved, and warn where it cannot.

        Raises
        ------
        RecordingError
            If that of a required object cannot.
        """
        check_packable(self._required)
        try:
            check_packable(self._usual)
        except RecordingError as error:
            self.kept = False
            warnings.warn(
                f"{error} The loop is recorded without its state, so resume=True cannot continue this recording.",
                LcakitWarning,
                stacklevel=4,
            )

    def pack(self) -> bytes | None:
        """Return the state as bytes, or None where it cannot be saved."""
        return pack(self.steps, self._usual | self._required) if self.kept else None

    def restore(self, stored: bytes) -> None:
        """Put a packed state back."""
        self.steps = restore(unpack(stored), self._usual | self._required)


def generators_state() -> dict[str, Any]:
    """Return the state of the global generators of torch, CUDA, NumPy and ``random``, as tensors and numbers."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": (str(name), torch.as_tensor(np.asarray(keys).astype(np.int64)), *rest),
        "python": random.getstate(),
    }


def set_generators(state: Mapping[str, Any]) -> None:
    """Set the global generators to a state from :func:`generators_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():  # a resume may see fewer devices
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def pack(step: int, parts: Mapping[str, Any]) -> bytes:
    """Return the loop's state after ``step`` steps: all generators, and each part's ``state_dict``.

    Raises
    ------
    RecordingError
        If a part's state holds objects that could not be read back safely.
    """
    states = {
        name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
        for name, part in parts.items()
    }
    buffer = io.BytesIO()
    torch.save({"step": step, "generators": generators_state(), "parts": states}, buffer)
    return buffer.getvalue()


def check_packable(parts: Mapping[str, Any]) -> None:
    """Raise RecordingError unless the state of every part can be written and read back without running code from it."""
    for name, part in parts.items():
        if not isinstance(part, torch.Generator) and not hasattr(part, "state_dict"):
            raise RecordingError(
                f"state[{name!r}] is a {type(part).__name__}; it needs state_dict() and load_state_dict(), "
                "or to be a torch.Generator."
            )
        try:
            unpack(pack(0, {name: part}))
        except Exception as error:
            raise RecordingError(
                f"the state of {name!r} cannot be saved for a resume: {error}. "
                "Its state_dict may hold tensors, numbers, text, lists and dicts only."
            ) from error


def unpack(data: bytes) -> dict[str, Any]:
    """Return what :func:`pack` packed; nothing in it is executed."""
    out: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return out


def restore(state: Mapping[str, Any], parts: Mapping[str, Any]) -> int:
    """Put every part and all generators back; return the number of steps taken.

    Raises
    ------
    RecordingError
        If the recording was made with other parts.
    """
    if set(state["parts"]) != set(parts):
        raise RecordingError(
            f"the recording keeps the state of {sorted(state['parts'])}, this loop has {sorted(parts)}. "
            "Resume with the same optimizers and state=… as the recording was begun with."
        )
    for name, part in parts.items():
        if isinstance(part, torch.Generator):
            part.set_state(state["parts"][name])
        else:
            try:
                part.load_state_dict(state["parts"][name])
            except (KeyError, ValueError, RuntimeError, TypeError) as error:
                raise RecordingError(
                    f"the stored state of {name!r} does not fit: {error!r}. Resume with the same objects as before."
                ) from error
    set_generators(state["generators"])
    return int(state["step"])
