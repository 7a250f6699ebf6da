r"""Losses to make objectives of: ``lk.losses``.

A loss of outputs, ``loss=…``, takes ``(output, y)`` and returns one value per example (n,). A loss of batches,
``batch_loss=…``, takes ``(model, batch)`` and may also return values with further dimensions (positions of a sequence,
pixels). Both may return a pair ``(losses, weights)`` of the same shape. The objective is the mean over the whole
evaluation set,

.. math:: L(θ) = \sum w\,\ell(θ) \Big/ \sum w,

so what has the weight 0, such as padding, does not count in it. Options are given by :func:`functools.partial`::

    lk.Objective(model, (x, y), loss=partial(lk.losses.cross_entropy, label_smoothing=0.1))
    lk.Objective(model, dataset, batch_loss=lk.losses.causal_lm)
"""

from __future__ import annotations

from lcakit.record.objective.losses.batches import (
    causal_lm,
    segmentation,
    sequence_classification,
    token_classification,
)
from lcakit.record.objective.losses.outputs import bce, cross_entropy, mse

__all__ = [
    "bce",
    "causal_lm",
    "cross_entropy",
    "mse",
    "segmentation",
    "sequence_classification",
    "token_classification",
]


def __dir__() -> list[str]:
    return __all__
