"""The files of a series of checkpoints, in the order of the numbers in their names."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from lcakit.errors import TrajectoryError

__all__ = ["PICKLED", "SAFETENSORS", "Paths", "numbered"]


def __dir__() -> list[str]:
    return __all__


SAFETENSORS = (".safetensors",)
PICKLED = (".pt", ".pth", ".ckpt", ".bin")

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def numbered(paths: Paths, pattern: str | None = None) -> dict[int, Path]:
    """Return the checkpoints by number, in ascending order.

    Raises
    ------
    TrajectoryError
        If there are fewer than two, one is not a checkpoint, or a number is missing, unclear or used twice.
    """
    files = _files(paths)
    if len(files) < 2:
        raise TrajectoryError(f"{len(files)} checkpoints in {paths!r}; a trajectory needs at least two")
    found: dict[int, Path] = {}
    for path in files:
        if path.suffix not in SAFETENSORS + PICKLED:
            raise TrajectoryError(f"{path}: not a checkpoint: its name must end in {', '.join(SAFETENSORS + PICKLED)}")
        number = _number(path, pattern)
        if number in found:
            raise TrajectoryError(
                f"{found[number]} and {path} have the same number {number}. Rename one of them, or say with "
                'pattern="…([0-9]+)" which number of the name counts.'
            )
        found[number] = path
    return dict(sorted(found.items()))


def _files(paths: Paths) -> list[Path]:
    if not isinstance(paths, str | os.PathLike):
        return [Path(path) for path in paths]
    path = Path(paths)
    if path.is_dir():
        return [p for p in sorted(path.iterdir()) if p.suffix in SAFETENSORS + PICKLED]
    return sorted(map(Path, glob.glob(os.fspath(paths)))) if glob.has_magic(os.fspath(paths)) else [path]


def _number(path: Path, pattern: str | None) -> int:
    remedy = 'Say with pattern="…([0-9]+)" which number of the name counts.'
    if pattern is not None:
        expression = re.compile(pattern)
        if expression.groups != 1:
            raise ValueError(f'pattern needs one group such as "step([0-9]+)", got {pattern!r}')
        match = expression.search(path.name)
        text = match[1] if match else ""
    else:
        text = (re.findall(r"[0-9]+(?:\.[0-9]+)*", path.stem) or [""])[-1]
    if not re.fullmatch("[0-9]{1,18}", text or ""):
        raise TrajectoryError(
            f"{path}: the name has no clear number" + (f" ({text!r})" if text else "") + f". {remedy}"
        )
    return int(text)
