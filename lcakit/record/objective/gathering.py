"""From what a user gives as data to a source of examples, read on the host; refused is what cannot be one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from lcakit.errors import LcakitWarning, ObjectiveError
from lcakit.record.objective.memory import host_bytes
from lcakit.record.objective.ready import empty, finite, ready
from lcakit.record.objective.sources import Columns, Items, Ready, Source, first_length, is_dataset, tree_bytes
from lcakit.record.objective.trees import describe_tree, leaves, of_array, tensors, to_tensors

__all__ = ["Given", "gather", "gather_pairs"]


def __dir__() -> list[str]:
    return __all__


_SHARE = 2  # of the host's free memory, what is read into it may take
_FEW = 4  # items that are read to see how large they are, and whether they are the same a second time


@dataclass(frozen=True)
class Given:
    """A source, the batch size that came with it, if any, and whether it stays in memory."""

    source: Source
    batch_size: int | None = None
    resident: bool = True


def gather(data: Any, collate_fn: Any = None, resident: Any = "auto") -> Given:
    """Return the source of the examples of a ``batch_loss``.

    Parameters
    ----------
    data
        A tuple or mapping of arrays in any nesting, with one row per example; a map-style Dataset, also one of the
        package datasets; a DataLoader; or a list of batches.
    collate_fn
        Makes a batch of a list of items; of a DataLoader it is known.
    resident
        Whether examples stay in memory; ``"auto"``: if they take less than half of what is free.

    Raises
    ------
    ObjectiveError
        For data of another kind, without examples, or without an end.
    """
    if isinstance(data, DataLoader):
        return _of_loader(data, resident)
    if isinstance(data, TensorDataset) and collate_fn is None:
        return _of_columns(data.tensors, resident)
    if isinstance(data, IterableDataset):
        return _ready(finite(data, "the IterableDataset"), resident)
    if isinstance(data, list):
        return _ready(data, resident)
    if isinstance(data, tuple | Mapping | np.ndarray | torch.Tensor):
        return _of_columns(data, resident)
    if is_dataset(data):
        return _of_dataset(data, collate_fn or default_collate, resident)
    if hasattr(data, "__iter__") and not isinstance(data, str | bytes):
        raise ObjectiveError(
            f"a {type(data).__name__} may never end, and can be read once only. Pass a list of batches, "
            "list(itertools.islice(batches, n)), a Dataset or a DataLoader."
        )
    raise ObjectiveError(
        f"data must be arrays in any nesting, a Dataset, a DataLoader or a list of batches, got {type(data).__name__}"
    )


# ---- arrays ----------------------------------------------------------------------------------------------------


def _of_columns(data: Any, resident: Any) -> Given:
    tree = to_tensors(data)
    wrong = [leaf for leaf in leaves(tree) if not isinstance(leaf, torch.Tensor)]
    if isinstance(data, Mapping) and any(map(is_dataset, data.values())):
        raise ObjectiveError(
            f"a {type(data).__name__} holds several data sets ({', '.join(map(repr, data))}), and an objective is over "
            f"one: pass data[{next(iter(data))!r}], say."
        )
    if wrong or not tensors(tree):
        what = f", not {type(wrong[0]).__name__} ({str(wrong[0])[:40]!r})" if wrong else ""
        raise ObjectiveError(
            f"data is not made of arrays of numbers{what}: got {describe_tree(data)}. Pass arrays or tensors with one "
            "row per example (texts as token numbers, names as class numbers), or a list of batches."
        )
    _check_rows_can_be_cut(tensors(tree), describe_tree(data))
    lengths = {len(leaf) if leaf.dim() else None for leaf in leaves(tree)}
    if len(lengths) != 1 or None in lengths:
        raise ObjectiveError(
            f"all arrays must have one entry per example, got {describe_tree(data)}. Pass arrays of the same length; "
            "what all examples share belongs into the batch_loss."
        )
    if lengths == {0}:
        raise empty()
    return Given(Columns(tree), resident=True if resident == "auto" else resident)


def _check_rows_can_be_cut(given: list[torch.Tensor], what: str) -> None:
    """Refuse tensors from which no rows can be taken, or which hold no numbers."""
    for tensor in given:
        if tensor.is_meta:
            raise ObjectiveError(f"data is on the device 'meta', which holds no numbers: got {what}. Pass real data.")
        if tensor.is_nested:
            raise ObjectiveError(
                "data is a nested tensor, of which no batches can be cut. Pad it (tensor.to_padded_tensor(0.0)), or "
                "pass a list of batches."
            )
        if tensor.layout != torch.strided:
            raise ObjectiveError(
                f"data is a sparse tensor ({str(tensor.layout).removeprefix('torch.')}), of which no batches can be "
                "cut. Pass tensor.to_dense(), or a list of batches."
            )


# ---- datasets and loaders --------------------------------------------------------------------------------------


def _of_dataset(data: Any, collate: Any, resident: Any, size: int | None = None, workers: int = 0) -> Given:
    """Return the items of a map-style Dataset, read once if they stay in memory."""
    if hasattr(data, "with_format") and (getattr(data, "format", None) or {}).get("type") is None:
        data = data.with_format("torch")  # of the package datasets: numbers become tensors
    try:
        n = len(data)
    except TypeError as error:
        raise ObjectiveError(
            f"the Dataset has no length ({error}), so the evaluation set is of unknown size. Give it __len__, "
            "or pass a list of batches."
        ) from error
    if n == 0:
        raise empty()
    source = Items(data, collate, workers)
    few = min(n, _FEW)
    first = source.read(0, few)
    changes = not _same(first, source.read(0, few))
    fits = tree_bytes(to_tensors(first)) / few * n < host_bytes() / _SHARE
    stays = fits if resident == "auto" else resident
    if changes and not stays:
        raise ObjectiveError(
            "the Dataset gives other items each time it is read (a random augmentation?), and it is too large to be "
            "read once (or resident=False), so that the loss would not be a function of the parameters. Pass the "
            "Dataset without its random transforms, or resident=True."
        )
    return Given(source.in_memory() if stays else source, size, stays)


def _of_loader(loader: DataLoader[Any], resident: Any) -> Given:
    """Return what a DataLoader reads from, in the order of its Dataset."""
    if isinstance(loader.dataset, IterableDataset):
        return _ready(finite(loader, "the DataLoader"), resident)
    usual = type(loader.batch_sampler) is BatchSampler
    unused = [
        what
        for what, used in {
            "shuffling": usual and isinstance(loader.sampler, RandomSampler),
            f"the sampler {type(loader.sampler).__name__}": usual
            and not isinstance(loader.sampler, RandomSampler | SequentialSampler | None),
            "drop_last": loader.drop_last,
            "the batch sampler": loader.batch_sampler is not None and not usual,
        }.items()
        if used
    ]
    if unused:
        _say(
            f"{' and '.join(unused)} of the DataLoader {'is' if len(unused) == 1 else 'are'} not used: the objective "
            "is the loss over all examples of its Dataset, in their order."
        )
    if loader.batch_sampler is None:  # each item is a batch
        data: Any = loader.dataset
        return _ready([loader.collate_fn(data[k]) for k in range(len(data))], resident)
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    return _of_dataset(loader.dataset, loader.collate_fn, resident, size, loader.num_workers)


def _ready(batches: list[Any], resident: Any) -> Given:
    return Given(ready(batches), resident=True if resident == "auto" else resident)


def _same(a: Any, b: Any) -> bool:
    ours, theirs = tensors(to_tensors(a)), tensors(to_tensors(b))
    return len(ours) == len(theirs) and all(
        x.shape == y.shape and x.dtype == y.dtype and torch.equal(x.nan_to_num(), y.nan_to_num())
        for x, y in zip(ours, theirs, strict=True)
    )


def _say(what: str) -> None:
    warnings.warn(what, LcakitWarning, stacklevel=2)


# ---- pairs (x, y), for a loss of outputs ------------------------------------------------------------------------


def gather_pairs(data: Any, collate_fn: Any = None, resident: Any = "auto") -> Given:
    """Return the source of the examples of a ``loss``: each batch is a pair (x, y).

    Raises
    ------
    ObjectiveError
        As :func:`gather`, and for items that are no pairs.
    """
    if isinstance(data, Dataset | DataLoader) or is_dataset(data) or _are_batches(data):
        given = gather(data, collate_fn or stacked_pairs, resident)
        _check_pair(given.source.take(0, 1 if given.source.edges is None else given.source.edges[1]))
        if isinstance(given.source, Ready):
            _check_batches(given.source)
        return given
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ObjectiveError(
            f"data must be a pair (x, y) of arrays or a torch Dataset of such pairs, got {_kind(data)}. "
            "For batches of another form pass batch_loss=…, a function (model, batch) -> losses."
        )
    x, y = _array(data[0], "x"), _array(data[1], "y")
    _check_rows_can_be_cut([*tensors(x), y], "x or y")
    rows = {len(leaf) if leaf.dim() else -1 for leaf in tensors(x)}
    if y.dim() == 0 or rows != {len(y)}:
        raise ObjectiveError(
            f"x and y must have one entry per example: x has shape {describe_tree(x)}, y {tuple(y.shape)}. "
            "Pass arrays of the same length."
        )
    if len(y) == 0:
        raise empty()
    return Given(Columns((x, y)), resident=True if resident == "auto" else resident)


def _kind(data: Any) -> str:
    return f"a {type(data).__name__} of {len(data)}" if isinstance(data, tuple | list) else type(data).__name__


def _are_batches(data: Any) -> bool:
    return isinstance(data, list) and all(
        isinstance(b, tuple | list | Mapping) and tensors(to_tensors(b)) for b in data
    )


def stacked_pairs(items: list[Any]) -> Any:
    """Return the batch (x, y) of items that are pairs.

    Raises
    ------
    ObjectiveError
        For items with fewer or more entries.
    """
    _check_pair(items[0])
    try:
        return tuple(torch.stack([torch.as_tensor(item[k]) for item in items]) for k in (0, 1))
    except (TypeError, ValueError):  # x in mappings, say
        return default_collate(items)


def _check_pair(batch: Any) -> None:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        many = f"{len(batch)} entries" if hasattr(batch, "__len__") else "no entries"
        raise ObjectiveError(
            f"a loss of outputs needs items that are pairs (x, y); these have {many}: {describe_tree(batch)}. Say what "
            "each is for with batch_loss=…, a function (model, batch) -> losses; or let the Dataset give pairs."
        )


def _check_batches(source: Ready) -> None:
    """Refuse a list of items, in place of batches: each batch has as many targets as examples."""
    for at, batch in enumerate(source.batches):
        _check_pair(batch)
        x, y = batch
        n, of_y = first_length((x,)), np.shape(y)
        if not of_y or of_y[0] != n:
            raise ObjectiveError(
                f"batch {at} has {n} examples, and y of shape {tuple(of_y)}: {describe_tree((x, y))}. A list is one of "
                "batches, with a first dimension of examples. Of single items pass a Dataset or a DataLoader with a "
                "batch size, or stack them to two arrays, (x, y)."
            )


def _array(values: Any, name: str) -> Any:
    """Return x or y as a tensor; x may also be tensors in any nesting of mappings."""
    if name == "x" and isinstance(values, Mapping):
        tree = to_tensors(values)
        if all(isinstance(leaf, torch.Tensor) for leaf in leaves(tree)):
            return tree
    try:
        return values.detach() if isinstance(values, torch.Tensor) else of_array(values)
    except (TypeError, ValueError) as error:
        names = name == "y" and np.asarray(values).dtype.kind in "USO"
        remedy = (
            "Give class numbers: names, y = np.unique(y, return_inverse=True), and class_names=names."
            if names
            else "Pass numeric arrays or tensors."
        )
        raise ObjectiveError(f"{name} is not an array of numbers: {error}. {remedy}") from error
