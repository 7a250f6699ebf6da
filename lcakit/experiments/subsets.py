"""Fewer examples of a data set: every class equally often, the same ones on every call."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from lcakit.errors import DataError
from lcakit.experiments.data import ImageData

__all__ = ["SUBSET_SEED", "subset"]


def __dir__() -> list[str]:
    return __all__


SUBSET_SEED = 0


def subset(data: ImageData, train_examples: int | None = None, test_examples: int | None = None) -> ImageData:
    """Return a data set with fewer examples, the same ones on every call: every class has equally many.

    They are drawn with the seed ``SUBSET_SEED``, whatever is trained on them, and stay in the order of the data set.
    Where a class has too few, it gives all it has and the others give more. A smaller subset is part of a larger one.

    Parameters
    ----------
    train_examples, test_examples
        How many; None leaves the part whole.

    Raises
    ------
    DataError
        For more examples than there are, or fewer than there are classes.

    Examples
    --------
    >>> from lcakit.experiments.data import load
    >>> subset(load("digits"), train_examples=40).y_train.bincount().tolist()
    [4, 4, 4, 4, 4, 4, 4, 4, 4, 4]
    """
    parts: dict[str, Any] = {}
    for part, wanted in (("train", train_examples), ("test", test_examples)):
        if wanted is not None:
            x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
            rows = _balanced(y, wanted, data.n_classes, f"{part} set of {data.name}")
            parts |= {f"x_{part}": x[rows], f"y_{part}": y[rows]}
    return dataclasses.replace(data, **parts)


def _balanced(y: torch.Tensor, wanted: int, n_classes: int, what: str) -> torch.Tensor:
    """Return the rows of ``wanted`` examples in balance, in increasing order."""
    if not n_classes <= wanted <= len(y):
        raise DataError(
            f"a subset of the {what} has at least one example for each of {n_classes} classes and at most all "
            f"{len(y)}; got {wanted}"
        )
    counts = y.bincount(minlength=n_classes).tolist()
    generator = torch.Generator().manual_seed(SUBSET_SEED)
    rows = []
    for label, quota in enumerate(_quotas(counts, wanted)):
        order = torch.randperm(counts[label], generator=generator, device="cpu")
        rows.append(torch.nonzero(y == label).flatten()[order[:quota]])
    return torch.cat(rows).sort().values


def _quotas(counts: list[int], wanted: int) -> list[int]:
    """Share ``wanted`` out as evenly as the counts allow; what does not divide goes to the first classes."""
    quotas = [0] * len(counts)
    while left := wanted - sum(quotas):
        free = [k for k, quota in enumerate(quotas) if quota < counts[k]]
        share = max(1, left // len(free))
        for k in free[:left]:
            quotas[k] += min(share, counts[k] - quotas[k])
    return quotas
