"""The loss that is recorded beside the loop's own: said where the two cannot be the same loss."""

from __future__ import annotations

import math

__all__ = ["OwnLoss"]


def __dir__() -> list[str]:
    return __all__


_FEWEST, _MOST = 10, 50
"""Iterations that are compared: the first ones, where dropout and batch statistics have changed a loss least."""
_FACTOR, _ERRORS = 2.0, 5.0


class OwnLoss:
    r"""Compares losses of training batches with the recorded loss at the same parameters.

    A batch is a sample of the set, so batch losses scatter about the recorded loss. Two different losses are told where

    .. math:: \bar b / \bar L > 2 \ \text{or} < 1/2, \qquad |\bar b - \bar L| > 5\,s_{b - L} / \sqrt n

    over the first n = 10 … 50 iterations with a batch loss.
    """

    def __init__(self) -> None:
        self._batch: list[float] = []
        self._whole: list[float] = []

    def add(self, batch_loss: float, loss: float | None) -> None:
        """Take the loss of the batch of an iteration, NaN where none is known, and the recorded loss before it."""
        if loss is not None and math.isfinite(batch_loss) and len(self._batch) < _MOST:
            self._batch.append(batch_loss)
            self._whole.append(loss)

    def warning(self) -> str | None:
        """Return what there is to say."""
        n = len(self._batch)
        if n < _FEWEST:
            return None
        batch, whole = sum(self._batch) / n, sum(self._whole) / n
        gaps = [b - w for b, w in zip(self._batch, self._whole, strict=True)]
        mean = batch - whole
        error = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (n - 1) / n)
        alike = abs(whole) / _FACTOR <= abs(batch) <= abs(whole) * _FACTOR and batch * whole >= 0
        if alike or abs(mean) <= _ERRORS * error:
            return None
        return (
            f"over the first {n} iterations the loop's own loss (batch_loss) was {batch:.4g} on average, the loss that "
            f"is recorded {whole:.4g}: they are not the same loss. Another function, a sum in place of a mean, a loss "
            "divided for accumulation, a penalty, or another data set can be the reason; LCA is of the recorded one."
        )
