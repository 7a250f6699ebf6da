"""One checkpoint: the tensors in its file or shards, and what a trainer wrote beside them. Nothing of a file is run."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lcakit.errors import TrajectoryError
from lcakit.packages import package
from lcakit.sharing.importers.numbered import INDEX, SAFETENSORS
from lcakit.storage.guard import CorruptError
from lcakit.storage.guard.plain import check_archive, read_json
from lcakit.text import printable

__all__ = [
    "WRAPPERS",
    "State",
    "flattened",
    "in_wrappers",
    "load",
    "logged_rates",
    "read_state",
    "stated_step",
    "unwrapped",
]


def __dir__() -> list[str]:
    return __all__


WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
"""Where training loops put the state of the model inside a checkpoint, in the order in which they are tried."""

State = Mapping[str, torch.Tensor]


def read_state(path: Path) -> State:
    """Return the tensors of a checkpoint, mapped from the file, by the names they have in it.

    Raises
    ------
    TrajectoryError
        If the file cannot be read, holds no tensors, or would need code to be run.
    """
    return in_wrappers(load(path), path)


def load(path: Path) -> Mapping[str, Any]:
    """Return what a checkpoint holds; of a sharded one the tensors of all its files.

    Raises
    ------
    TrajectoryError
        If a file cannot be read, or would need code to be run.
    """
    if not path.is_file():
        raise TrajectoryError(f"{path}: there is no such file")
    if path.name.endswith(INDEX):
        return {name: value for shard in _shards(path) for name, value in load(shard).items()}
    return _read_safetensors(path) if path.suffix in SAFETENSORS else _read_pickled(path)


def in_wrappers(stored: Mapping[str, Any], path: Path) -> State:
    """Return the state of the model inside what a checkpoint holds: at the top, or under the usual names.

    Raises
    ------
    TrajectoryError
        If there are no tensors.
    """
    state = unwrapped(stored)
    tensors = {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise TrajectoryError(
            f"{path}: no tensors in it; it holds {', '.join(map(repr, list(state)[:10])) or 'nothing'}. The state of "
            f"the model is looked for at the top, and under {', '.join(WRAPPERS)}."
        )
    return tensors


def unwrapped(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the mapping under the usual names, as deep as there are such names; one that holds itself has no end."""
    seen = {id(stored)}
    while (name := next((n for n in WRAPPERS if isinstance(stored.get(n), Mapping)), None)) is not None:
        stored = stored[name]
        if id(stored) in seen:
            break
        seen.add(id(stored))
    return stored


def flattened(stored: Mapping[Any, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all tensors in nested mappings, under their names joined by points; each mapping is visited once."""
    open_ones = [("", iter(stored.items()))]
    seen = {id(stored)}
    while open_ones:
        prefix, items = open_ones[-1]
        for name, value in items:
            if isinstance(value, torch.Tensor):
                yield f"{prefix}{name}", value
            elif isinstance(value, Mapping) and id(value) not in seen:
                seen.add(id(value))
                open_ones.append((f"{prefix}{name}.", iter(value.items())))
                break  # into it first, then on with the rest
        else:
            open_ones.pop()


def _shards(path: Path) -> list[Path]:
    try:
        index = read_json(path)
        names = sorted({str(name) for name in index["weight_map"].values()})
    except (CorruptError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrajectoryError(f"{path}: cannot be read as the index of a sharded checkpoint ({error!r})") from error
    wrong = [name for name in names if Path(name).name != name]
    if wrong or not names:
        raise TrajectoryError(f"{path}: its files must be beside it, got {wrong[0] if wrong else 'none'!r}")
    return [path.with_name(name) for name in names]


def _read_safetensors(path: Path) -> dict[str, Any]:
    safetensors = package("safetensors", f"reading {path.name}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise TrajectoryError(f"{path}: cannot be read as a safetensors file ({error})") from error


def _read_pickled(path: Path) -> Mapping[str, Any]:
    try:
        packed = zipfile.is_zipfile(path)
        if packed:
            check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=packed)
    except pickle.UnpicklingError as error:
        raise TrajectoryError(
            f"{path}: cannot be read: it is damaged, or holds more than tensors and plain data{_not_plain(error)}, and "
            "lcakit never runs code from a file. Save the model's state_dict() alone, best as .safetensors."
        ) from error
    except Exception as error:  # a damaged file can fail anywhere in the reader
        raise TrajectoryError(f"{path}: cannot be read as a checkpoint of PyTorch ({error})") from error
    if not isinstance(state, Mapping):
        raise TrajectoryError(f"{path}: holds a {type(state).__name__}, expected a state_dict or a dict with one in it")
    _check_sizes(state, path)
    return state


def _check_sizes(state: Mapping[str, Any], path: Path) -> None:
    """Refuse tensors of more numbers than a file has: one number, repeated by its strides, can stand for any count."""
    size = path.stat().st_size
    for name, tensor in flattened(state):
        taken = tensor.numel() * tensor.element_size()
        if taken > size and tensor.layout == torch.strided and not tensor.is_meta:
            raise TrajectoryError(
                f"{path}: the tensor {printable(name, 80)!r} of the shape {tuple(tensor.shape)} would take {taken:,} "
                f"bytes, and the file has {size:,}. Save the model's state_dict() with contiguous tensors."
            )


def _not_plain(error: pickle.UnpicklingError) -> str:
    """Return what PyTorch's reader refused (its own message also advises to run the file, which is unsafe)."""
    found = re.search(r"GLOBAL (\S{1,100})", str(error))
    return f" ({found[1]})" if found else ""


# ---- what a trainer wrote beside the tensors -------------------------------------------------------------------------


def logged_rates(path: Path) -> dict[int, float]:
    """Return the learning rates that are on file with a checkpoint, by step: of Hugging Face's Trainer all before it.

    A checkpoint of Lightning holds the one of its own step. Empty where there are none.
    """
    history = trainer_state(path.parent).get("log_history")
    if isinstance(history, list):
        entries = [e for e in history if isinstance(e, dict) and {"step", "learning_rate"} <= e.keys()]
        return {int(e["step"]): float(e["learning_rate"]) for e in entries}
    if path.suffix != ".ckpt":
        return {}
    stored = load(path)
    try:
        return {int(stored["global_step"]): float(stored["optimizer_states"][0]["param_groups"][0]["lr"])}
    except (KeyError, IndexError, TypeError, ValueError):
        return {}


def stated_step(path: Path) -> int | None:
    """Return the optimizer steps before a checkpoint as a trainer wrote them beside or into it; None where none did."""
    step = trainer_state(path.parent).get("global_step")
    if step is None and path.suffix == ".ckpt" and path.is_file():
        step = load(path).get("global_step")
    return step if isinstance(step, int) and not isinstance(step, bool) and step >= 0 else None


def trainer_state(folder: Path) -> dict[str, Any]:
    """Return what Hugging Face's Trainer wrote beside the tensors; empty where there is nothing.

    Raises
    ------
    TrajectoryError
        If its file is damaged.
    """
    path = folder / "trainer_state.json"
    if not path.is_file():
        return {}
    try:
        state = read_json(path)
    except (CorruptError, OSError, ValueError) as error:
        raise TrajectoryError(f"{path}: cannot be read ({error})") from error
    return state if isinstance(state, dict) else {}
