"""Fewer examples of a data set: every class equally often, the same ones on every call."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from lcakit.errors import DataError
from lcakit.experiments.data import ImageData

__all__ = ["SUBSET_SEED", "left_over", "mislabelled", "subset"]


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


def left_over(data: ImageData, train_examples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the training examples that are not in ``subset(data, train_examples)``: (N, C, H, W) and (N,).

    Examples
    --------
    >>> from lcakit.experiments.data import load
    >>> [len(part) for part in left_over(load("digits"), 150)]
    [1350, 1350]
    """
    unused = torch.ones(len(data.y_train), dtype=torch.bool)
    unused[_balanced(data.y_train, train_examples, data.n_classes, f"train set of {data.name}")] = False
    return data.x_train[unused], data.y_train[unused]


def mislabelled(data: ImageData, share: float) -> ImageData:
    """Return a data set with a share of its training labels wrong, the same ones on every call.

    The examples are drawn evenly, and each gets one of the other classes, drawn evenly; both with ``SUBSET_SEED``.

    Parameters
    ----------
    share
        In [0, 1]; of N labels the nearest whole number to share · N is changed.

    Raises
    ------
    ValueError
        For another share.

    Examples
    --------
    >>> from lcakit.experiments.data import load
    >>> data = load("digits")
    >>> int((mislabelled(data, 0.2).y_train != data.y_train).sum())
    300
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of wrong labels must be between 0 and 1, got {share}")
    generator = torch.Generator().manual_seed(SUBSET_SEED)
    n, y = round(share * len(data.y_train)), data.y_train.clone()
    rows = torch.randperm(len(y), generator=generator, device="cpu")[:n]
    y[rows] = (y[rows] + torch.randint(1, data.n_classes, (n,), generator=generator)) % data.n_classes
    return dataclasses.replace(data, y_train=y)


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
