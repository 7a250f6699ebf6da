"""Files of a series: which they are, and in which order, told from the numbers in their names.

A checkpoint is a file, or a folder that holds one with the usual name (:data:`IN_FOLDERS`), as trainers write them:
``checkpoint-500/model.safetensors``, ``step1000/pytorch_model.bin``; in shards, with an index that names them.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lcakit.errors import TrajectoryError, unknown

__all__ = ["INDEX", "IN_FOLDERS", "ORDERS", "PICKLED", "SAFETENSORS", "Paths", "numbered"]


def __dir__() -> list[str]:
    return __all__


SAFETENSORS = (".safetensors",)
PICKLED = (".pt", ".pth", ".ckpt", ".bin")
INDEX = ".index.json"
IN_FOLDERS = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
"""Files that hold the model in a folder of a trainer, in the order in which they are looked for."""

ORDERS = ("number", "time")
_BESIDE = re.compile(r"(optimizer|scheduler|scaler|rng_state|training_args|random_states)\w*\.(bin|pt|pth)")
_SHARD = re.compile(r"(.*)-[0-9]{5}-of-[0-9]{5}(\.safetensors|\.bin)")

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def numbered(
    paths: Paths,
    pattern: str | None = None,
    order: str = "number",
    stated: Callable[[Path], int | None] = lambda path: None,
) -> dict[int, Path]:
    """Return the checkpoints by number, in ascending order.

    Parameters
    ----------
    paths
        Files, folders, a glob pattern, or a folder that holds them.
    pattern
        Regular expression with one group, the number; searched for in the name, then in the whole path.
    order
        ``"number"``, or ``"time"``: by the time at which the files were written, numbered from 0.
    stated
        Returns the number of a checkpoint as it is written in it or beside it, or None. It goes before the name.

    Raises
    ------
    TrajectoryError
        If there are fewer than two, one is no checkpoint, or a number is missing, unclear or there twice.
    """
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    files = list(dict.fromkeys(_state_file(path) for path in _entries(paths)))
    if len(files) < 2:
        there = f"{len(files)} checkpoint{'' if len(files) == 1 else 's'}"
        raise TrajectoryError(
            f"{there} in {paths!r}; a trajectory needs at least two. Give their folder, a list of files, or a pattern "
            "such as 'step*.pt'."
        )
    for path in files:
        if not path.name.endswith((*SAFETENSORS, *PICKLED, INDEX)):
            raise TrajectoryError(f"{path}: not a checkpoint: its name must end in {', '.join(SAFETENSORS + PICKLED)}")
    if order == "time":
        return _by_time(files)
    found: dict[int, Path] = {}
    own_folders = len({path.parent for path in files}) == len(files)
    for path in files:
        number = stated(path) if pattern is None else None
        number = _number(path, pattern, own_folders) if number is None else number
        if number in found:
            raise TrajectoryError(
                f"{found[number]} and {path} have the same number {number}. Rename one of them, or say with "
                'pattern="…([0-9]+)" which number of the name counts.'
            )
        found[number] = path
    return dict(sorted(found.items()))


def _entries(paths: Paths) -> list[Path]:
    """Return the files and folders that may be checkpoints."""
    if not isinstance(paths, str | os.PathLike):
        return [Path(path) for path in paths]
    path = Path(paths)
    if path.is_dir():
        inside = sorted(path.iterdir())
        folders = [p for p in inside if p.is_dir() and _in_folder(p) is not None]
        files = [p for p in inside if p.suffix in SAFETENSORS + PICKLED and not _BESIDE.fullmatch(p.name)]
        return folders if len(folders) > 1 or not files else files  # beside folders lies the last state once more
    if not glob.has_magic(os.fspath(paths)):
        return [path]
    found = sorted(map(Path, glob.glob(os.fspath(paths))))
    return [p for p in found if not _BESIDE.fullmatch(p.name)]


def _in_folder(folder: Path) -> Path | None:
    """Return the file that holds the model in a folder: one with the usual name, or the only checkpoint there."""
    for name in IN_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    files = [p for p in folder.iterdir() if p.suffix in SAFETENSORS + PICKLED and not _BESIDE.fullmatch(p.name)]
    return files[0] if len(files) == 1 else None


def _state_file(path: Path) -> Path:
    if path.is_dir():
        found = _in_folder(path)
        if found is None:
            held = sorted(p.name for p in path.iterdir())
            raise TrajectoryError(
                f"{path}: no checkpoint in this folder; it holds {', '.join(held[:8]) or 'nothing'}. Looked for "
                f"{', '.join(IN_FOLDERS)}, or a single file that ends in {', '.join(SAFETENSORS + PICKLED)}."
            )
        return found
    shard = _SHARD.fullmatch(path.name)
    index = path.with_name(f"{shard[1]}{shard[2]}{INDEX}") if shard else path
    return index if index.is_file() else path


def _by_time(files: Sequence[Path]) -> dict[int, Path]:
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise TrajectoryError(f"{missing[0]}: there is no such file")
    times = {path: path.stat().st_mtime_ns for path in files}
    ordered = sorted(files, key=times.__getitem__)
    for one, other in itertools.pairwise(ordered):
        if times[one] == times[other]:
            raise TrajectoryError(
                f"{one} and {other} were written at the same time, so it tells no order. List the files in order under "
                'names with numbers, or say with pattern="…([0-9]+)" which number of the name counts.'
            )
    return dict(enumerate(ordered))


def _number(path: Path, pattern: str | None, own_folder: bool) -> int:
    remedy = 'Say with pattern="…([0-9]+)" which number of the name counts'
    if pattern is not None:
        expression = re.compile(pattern)
        if expression.groups != 1:
            raise ValueError(f'pattern needs one group such as "step([0-9]+)", got {pattern!r}')
        match = expression.search(path.name) or expression.search(path.as_posix())
        text = match[1] if match else ""
        remedy = f"Nothing in it fits pattern={pattern!r}" if match is None else remedy
    else:
        text = _last(path.stem) or (_last(path.parent.name) if own_folder else "")
    if not re.fullmatch("[0-9]{1,18}", text or ""):
        raise TrajectoryError(
            f"{path}: the name has no clear number"
            + (f" ({text!r})" if text else "")
            + f'. {remedy}, or give order="time" to take the files in the order in which they were written.'
        )
    return int(text)


def _last(name: str) -> str:
    numbers = ["", *re.findall(r"[0-9]+(?:\.[0-9]+)*", name)]
    return str(numbers[-1])
