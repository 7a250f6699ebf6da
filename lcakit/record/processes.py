"""Who records: one process of a group, and one recorder for each file."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import torch.distributed as dist

from lcakit.errors import RecordingError

__all__ = ["claim", "stands_aside"]


def __dir__() -> list[str]:
    return __all__


_OPEN: weakref.WeakValueDictionary[Path, object] = weakref.WeakValueDictionary()


def claim(path: Path, recorder: object) -> None:
    """Note that a recorder is about to write to a file; it lets go of it by being collected, or closed.

    Raises
    ------
    RecordingError
        If another recorder of this process is open for it.
    """
    if path in _OPEN:
        gc.collect()  # it may be held by nothing but a traceback that is gone
    other = _OPEN.get(path)
    if other is not None and getattr(other, "is_open", False):
        raise RecordingError(
            f"{path} is being written by another recorder, in this process. Call its close(), which keeps what is "
            "recorded, or record to another file."
        )
    _OPEN[path] = recorder


def stands_aside(resume: bool) -> bool:
    """Say whether this process leaves the recording to the first rank of its group.

    Raises
    ------
    RecordingError
        For a resume in a group: one rank has stored its state, and the others would begin anew beside it.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return False
    if resume:
        raise RecordingError(
            f"resume=True puts back the state of one process, and this loop has {dist.get_world_size()}. Restore all "
            "of them from a checkpoint of your own, and record to another file; lk.open_runs opens both."
        )
    return bool(dist.get_rank() > 0)
