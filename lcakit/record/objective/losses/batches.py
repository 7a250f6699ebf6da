"""Losses of batches: ``(model, batch) -> losses`` or ``(losses, weights)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lcakit.errors import ObjectiveError
from lcakit.record.objective.losses.outputs import Losses, class_weighted, cross_entropy
from lcakit.record.objective.trees import describe_tree

__all__ = ["causal_lm", "segmentation", "sequence_classification", "token_classification"]


def __dir__() -> list[str]:
    return __all__


_TARGETS = ("labels", "label", "targets", "target", "mask", "y")


def causal_lm(
    model: nn.Module, batch: Any, *, ignore_index: int = -100, label_smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the next-token losses of a language model, (n, T - 1) or (n, T) in nats, and weights: 0 where ignored.

    Parameters
    ----------
    model
        Called with the token numbers, or with the entries of a mapping as keyword arguments (without the labels); it
        returns logits (n, T, V), by themselves, as ``output.logits``, ``output["logits"]`` or ``output[0]``.
    batch
        Token numbers (n, T), or a mapping with ``input_ids`` and, if there are any, ``attention_mask`` and ``labels``:
        each position predicts the next one, as in the package transformers. Without labels, positions where the
        attention mask is 0 are ignored. Or a pair ``(x, y)`` whose y are shifted already.
    ignore_index, label_smoothing
        As for :func:`cross_entropy`.

    Raises
    ------
    ObjectiveError
        For a batch or an output of another kind.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5))
    >>> losses, weights = causal_lm(model, torch.zeros(2, 7, dtype=torch.int64))
    >>> losses.shape, int(weights.sum())
    (torch.Size([2, 6]), 12)
    """
    shifted = isinstance(batch, tuple | list)
    inputs, labels = _parted(batch, "causal_lm") if shifted or isinstance(batch, Mapping) else (batch, None)
    if labels is None and isinstance(inputs, Mapping):
        labels = inputs["input_ids"]
        if "attention_mask" in inputs:
            labels = labels.masked_fill(inputs["attention_mask"] == 0, ignore_index)
    labels = inputs if labels is None else labels
    logits = _logits(_called(model, inputs), "causal_lm")
    if not shifted:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return _positions(logits.movedim(-1, 1), labels, ignore_index, label_smoothing)


def sequence_classification(
    model: nn.Module, batch: Any, *, label_smoothing: float = 0.0, class_weight: torch.Tensor | None = None
) -> Losses:
    """Return the cross-entropy of a class for each sequence (or image), (n,) in nats.

    Parameters
    ----------
    model
        Called as :func:`causal_lm` says; it returns logits (n, C).
    batch
        A pair ``(x, y)``, or a mapping with ``labels`` (or ``label``): class numbers (n,).
    label_smoothing, class_weight
        As for :func:`cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> sequence_classification(torch.nn.Linear(4, 3), (torch.zeros(2, 4), torch.tensor([0, 2]))).shape
    torch.Size([2])
    """
    inputs, labels = _parted(batch, "sequence_classification")
    logits = _logits(_called(model, inputs), "sequence_classification")
    return cross_entropy(logits, _needed(labels, batch), label_smoothing=label_smoothing, class_weight=class_weight)


def token_classification(
    model: nn.Module, batch: Any, *, ignore_index: int = -100, label_smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy of a class for each token, (n, T) in nats, and weights: 0 where ignored.

    As :func:`sequence_classification`, with logits (n, T, C) and labels (n, T); also for masked language models.

    Examples
    --------
    >>> import torch
    >>> y = torch.tensor([[0, 2, -100]])
    >>> token_classification(torch.nn.Linear(4, 3), (torch.zeros(1, 3, 4), y))[1]
    tensor([[1., 1., 0.]])
    """
    inputs, labels = _parted(batch, "token_classification")
    logits = _logits(_called(model, inputs), "token_classification")
    return _positions(logits.movedim(-1, 1), _needed(labels, batch), ignore_index, label_smoothing)


def segmentation(
    model: nn.Module,
    batch: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    class_weight: torch.Tensor | None = None,
) -> Losses:
    """Return the cross-entropy of each pixel, (n, height, width) in nats, and weights: 0 where ignored.

    Parameters
    ----------
    model
        Called as :func:`causal_lm` says; it returns logits (n, C, height, width), also as ``output["out"]``.
    batch
        A pair ``(images, masks)``, or a mapping with ``labels`` (or ``mask``): class numbers (n, height, width).
    ignore_index, label_smoothing, class_weight
        As for :func:`cross_entropy`; many data sets mark what is not to count by 255.

    Raises
    ------
    ObjectiveError
        For logits and masks of different size.

    Examples
    --------
    >>> import torch
    >>> masks = torch.tensor([[[0, 1], [255, 255]]])
    >>> segmentation(torch.nn.Conv2d(1, 2, 1), (torch.zeros(1, 1, 2, 2), masks), ignore_index=255)[1]
    tensor([[[1., 1.],
             [0., 0.]]])
    """
    inputs, masks = _parted(batch, "segmentation")
    logits, masks = _logits(_called(model, inputs), "segmentation"), _needed(masks, batch)
    if logits.shape[2:] != masks.shape[1:]:
        raise ObjectiveError(
            f"the network's output has shape {tuple(logits.shape)} and the masks {tuple(masks.shape)}: one class for "
            "each pixel is needed. Resize the output in the model's forward method (F.interpolate), or the masks."
        )
    return _positions(logits, masks, ignore_index, label_smoothing, class_weight)


def _positions(
    logits: torch.Tensor,
    labels: torch.Tensor,
    ignore_index: int,
    label_smoothing: float,
    class_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return losses and weights of positions, for logits (n, C, …)."""
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    labels = labels.long()
    losses = F.cross_entropy(
        logits, labels, reduction="none", ignore_index=ignore_index, label_smoothing=label_smoothing
    )
    if class_weight is None:
        return losses, (labels != ignore_index).to(losses.dtype)
    return class_weighted(logits, labels, losses, class_weight.to(logits), ignore_index, label_smoothing)


def _parted(batch: Any, name: str) -> tuple[Any, torch.Tensor | None]:
    """Return what the model gets of a batch, and the targets."""
    if isinstance(batch, Mapping):
        key = next((key for key in _TARGETS if key in batch), None)
        return {k: v for k, v in batch.items() if k != key}, None if key is None else batch[key]
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    raise ObjectiveError(
        f"lk.losses.{name} takes batches that are pairs (x, y) or mappings with labels, got {describe_tree(batch)}. "
        "Pass a batch_loss of your own, (model, batch) -> losses, that says which entry is what."
    )


def _needed(labels: torch.Tensor | None, batch: Any) -> torch.Tensor:
    if labels is None:
        raise ObjectiveError(
            f"the batch has no targets: {describe_tree(batch)}. Name the entry with the targets 'labels' "
            "(or pass a batch_loss of your own)."
        )
    return labels


def _called(model: nn.Module, inputs: Any) -> Any:
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def _logits(output: Any, name: str) -> torch.Tensor:
    """Return the logits of what a model returned."""
    if isinstance(output, Mapping):
        output = next((output[key] for key in ("logits", "out") if key in output), None)
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if isinstance(output, torch.Tensor):
        return output
    raise ObjectiveError(
        f"lk.losses.{name} finds no logits in the model's output (a tensor, output.logits, output['logits'], "
        "output['out'] or output[0]). Pass a batch_loss of your own, (model, batch) -> losses."
    )
