"""Weights of examples, which make the objective a weighted mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lcakit.errors import ObjectiveError

__all__ = ["example_weights"]


def __dir__() -> list[str]:
    return __all__


def example_weights(given: Any, n: int) -> torch.Tensor:
    """Return the weights of n examples.

    Raises
    ------
    ObjectiveError
        Unless there is one for each example, finite and not negative, and not all are zero.
    """
    try:
        weights = torch.as_tensor(given if isinstance(given, torch.Tensor) else np.asarray(given)).detach()
    except (TypeError, ValueError) as error:
        raise ObjectiveError(f"weights are not an array of numbers: {error}. Pass one number per example.") from error
    if weights.shape != (n,):
        raise ObjectiveError(
            f"weights must have one number per example, ({n},), got {tuple(weights.shape)}. Weights of positions are "
            "returned by the batch_loss: (losses, weights)."
        )
    if weights.is_complex() or not bool(weights.double().isfinite().all()) or bool((weights < 0).any()):
        raise ObjectiveError("weights must be finite and not negative.")
    if not bool((weights > 0).any()):
        raise ObjectiveError(
            "all weights are zero, so there is no mean. Give the examples that count a positive weight."
        )
    return weights if weights.is_floating_point() else weights.double()
