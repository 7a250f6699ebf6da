"""Batches as they are: a list of them, or all that a loader of an iterable data set gives."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import torch

from lcakit.errors import LcakitWarning, ObjectiveError
from lcakit.record.objective.sources import Ready, first_length
from lcakit.record.objective.trees import describe_tree, tensors, to_tensors

__all__ = ["empty", "finite", "ready"]


def __dir__() -> list[str]:
    return __all__


def empty() -> ObjectiveError:
    """Return the error for no examples."""
    return ObjectiveError("the evaluation set is empty; an objective needs at least one example")


def finite(batches: Any, what: str) -> list[Any]:
    """Return the batches of an iterable that says how many it has; refuse one that does not, or gives more."""
    try:
        n = len(batches)
    except TypeError as error:
        raise ObjectiveError(
            f"{what} does not say its length, so it may never end. Pass a list of batches, "
            "list(itertools.islice(loader, n)), or give the data set __len__."
        ) from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Length of IterableDataset", UserWarning)  # told below, as an error
        found = list(itertools.islice(batches, n + 1))
    if len(found) > n:
        raise ObjectiveError(
            f"{what} has the length {n}, but gives more batches than that. Correct its __len__, or pass a list of "
            "batches, list(itertools.islice(loader, n))."
        )
    return found


def ready(given: list[Any]) -> Ready:
    """Return batches as a source.

    Raises
    ------
    ObjectiveError
        If there are none, or one has no examples.
    """
    batches = [to_tensors(batch) for batch in given]
    if not batches:
        raise empty()
    lengths = [first_length(batch) for batch in batches]
    if 0 in lengths:
        at = lengths.index(0)
        raise ObjectiveError(
            f"batch {at} has no examples: {describe_tree(batches[at])}. A batch holds tensors whose first dimension "
            "is the examples; leave out empty ones."
        )
    _warn_of_one_buffer(batches)
    return Ready(batches, lengths)


def _warn_of_one_buffer(batches: list[Any]) -> None:
    """Warn of batches that lie in the same memory: that of a loader that fills it anew holds the last batch only."""
    places: dict[Any, int] = {}
    for at, batch in enumerate(batches):
        place = tuple((part.data_ptr(), part.shape) for part in tensors(batch) if part.layout is torch.strided)
        first = places.setdefault(place, at)
        if place and first != at:
            warnings.warn(
                f"batches {first} and {at} are the same tensors, and count twice. A loader that fills one buffer anew "
                "gives such batches, which all hold the last one: copy each as it comes, [copy.deepcopy(batch) for "
                "batch in loader].",
                LcakitWarning,
                stacklevel=2,
            )
            return
