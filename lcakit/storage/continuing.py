"""Where an unfinished recording goes on: the last state of its loop, and the running statistics up to there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lcakit.errors import TrajectoryError
from lcakit.storage.npz import ITERATIONS, StoredArray, open_segment
from lcakit.storage.segments import RUNNING, STATE, segment_paths, write_segment

__all__ = ["go_back_to_running", "go_back_to_state", "merge_running", "running_statistics"]


def __dir__() -> list[str]:
    return __all__


def go_back_to_state(directory: Path) -> bytes | None:
    """Return the loop's last state, and remove the segments behind it: they will be computed again, the same.

    Where there are running statistics, those of the same iterations must be there. None, and no segment left, where no
    state was kept.
    """
    paths = segment_paths(directory)
    counted = any(path.with_suffix(RUNNING).exists() for path in paths)
    while paths and not (paths[-1].with_suffix(STATE).exists() and (not counted or _has_running(directory))):
        paths.pop().unlink()
    return paths[-1].with_suffix(STATE).read_bytes() if paths else None


def _has_running(directory: Path) -> bool:
    try:
        return running_statistics(directory) is not None
    except TrajectoryError:  # damaged
        return False


def go_back_to_running(directory: Path) -> None:
    """Remove the segments behind the last running statistics: they will be computed again, the same."""
    paths = segment_paths(directory)
    while paths and not _has_running(directory):
        paths.pop().unlink()


def running_statistics(directory: Path) -> dict[str, StoredArray] | None:
    """Return the running statistics of the iterations in a folder; None where there are none of just these."""
    paths = segment_paths(directory)
    running = paths[-1].with_suffix(RUNNING) if paths else None
    if running is None or not running.exists():
        return None
    stored = open_segment(running)
    lengths = (open_segment(path).get("iteration") for path in paths)
    count = sum(length.shape[0] for length in lengths if length is not None)
    return stored if ITERATIONS in stored and int(stored[ITERATIONS][0]) == count else None


def merge_running(directory: Path, merge: Callable[[list[Any]], Mapping[str, np.ndarray]]) -> None:
    """Let blocks that were written in any order, with running statistics of their own, end with those of all of them.

    ``merge`` joins those of blocks, the earliest first.
    """
    if running_statistics(directory) is None:
        files = [path.with_suffix(RUNNING) for path in segment_paths(directory)]
        write_segment(files[-1], merge([open_segment(path) for path in files]).items())
