"""Which file it is, and whether it is still what it was when it was opened."""

from __future__ import annotations

import os
from typing import NamedTuple

from lcakit.errors import TrajectoryError

__all__ = ["State"]


def __dir__() -> list[str]:
    return __all__


class State(NamedTuple):
    """Which file it is, and whether it was written since: device and inode, size, time of the last change."""

    device: int
    inode: int
    size: int
    time: int

    @classmethod
    def of(cls, file: str | os.PathLike[str] | int) -> State:
        """Return the state of a file, by its path or descriptor."""
        found = os.stat(file)
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def check(self, file: str | os.PathLike[str] | int, path: str | os.PathLike[str]) -> None:
        """Raise TrajectoryError if the file was written since; one that was replaced or removed is whole elsewhere.

        ``file`` is its path, or the descriptor of an open one; ``path`` is for the message.
        """
        try:
            now = State.of(file)
        except OSError:  # what is open stays readable
            return
        if now[:2] == self[:2] and now != self:
            raise TrajectoryError(
                f"{path} was overwritten while it is open, so a read would mix the old file with the new one. "
                "Close what was opened from it (ds.close()), then open it again. To replace a file that is open, write "
                "the new one beside it and rename it."
            )
