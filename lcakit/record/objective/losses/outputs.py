"""Losses of outputs: ``(output, y) -> losses``."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lcakit.errors import ObjectiveError

__all__ = ["Losses", "bce", "class_weighted", "cross_entropy", "mse"]


def __dir__() -> list[str]:
    return __all__


Losses = torch.Tensor | tuple[torch.Tensor, torch.Tensor]
"""Losses, or losses and their weights."""

_FEW_CLASSES = 64


def cross_entropy(
    output: torch.Tensor,
    target: torch.Tensor,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    class_weight: torch.Tensor | None = None,
) -> Losses:
    r"""Return the cross-entropy of each example, or of each position of an example, in nats.

    .. math:: \ell_n = -\log \mathrm{softmax}(z_n)_{y_n}, \qquad L = \sum_n w_{y_n} \ell_n \Big/ \sum_n w_{y_n}

    It is computed in float32 or wider.

    Parameters
    ----------
    output
        Logits (n, C) or (n, C, …).
    target
        Class numbers (n,) or (n, …), or probabilities in the shape of ``output``.
    ignore_index
        Positions with this target do not count.
    label_smoothing
        Part of each target that is spread evenly over all classes, from 0 to 1.
    class_weight
        Weights of the classes (C,), not negative: with them L is the weighted mean that ``nn.CrossEntropyLoss`` forms.

    Returns
    -------
    Tensor, or pair of Tensors
        Losses (n,), of targets with further dimensions the mean of each example over the positions that count. Where
        positions are ignored or classes have weights: losses, and the weight of each example (n,).

    Examples
    --------
    >>> import torch
    >>> output, target = torch.zeros(2, 4, 3), torch.tensor([[0, 1, -100], [2, -100, -100]])
    >>> losses, weights = cross_entropy(output, target)
    >>> losses, weights  # two of three positions count in one example, one in the other
    (tensor([1.3863, 1.3863]), tensor([0.6667, 0.3333]))
    """
    output = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
    single = output.dim() == 2 and target.dim() == 1
    if class_weight is None and single and not label_smoothing and output.shape[1] < _FEW_CLASSES:
        # Along a short contiguous axis log_softmax is not vectorized: examples last is 2.7 times faster for 10 classes.
        return F.nll_loss(F.log_softmax(output.t().contiguous(), 0).t(), target, reduction="none")
    losses = F.cross_entropy(
        output, target, reduction="none", ignore_index=ignore_index, label_smoothing=label_smoothing
    )
    if target.is_floating_point():  # probabilities
        return losses if losses.dim() == 1 else losses.flatten(1).mean(1)
    if class_weight is not None:
        return _of_examples(
            *class_weighted(output, target, losses, class_weight.to(output), ignore_index, label_smoothing)
        )
    counted = target != ignore_index
    if bool(counted.all()):
        return losses if losses.dim() == 1 else losses.flatten(1).mean(1)
    return _of_examples(losses, counted.to(losses.dtype))


def _of_examples(losses: torch.Tensor, weights: torch.Tensor) -> Losses:
    """Return the weighted mean over the positions of each example, and the mean of their weights."""
    if losses.dim() == 1:
        return losses, weights
    total = weights.flatten(1).sum(1)
    mean = (losses * weights).flatten(1).sum(1) / total.where(total > 0, 1)
    return mean, total / weights[0].numel()


def class_weighted(
    output: torch.Tensor,
    target: torch.Tensor,
    losses: torch.Tensor,
    class_weight: torch.Tensor,
    ignore_index: int,
    label_smoothing: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return losses and weights, whose weighted mean is that of PyTorch with weights of the classes."""
    counted = target != ignore_index
    weights = class_weight[target.where(counted, 0)] * counted
    if label_smoothing:  # PyTorch also weighs the classes over which a target is spread
        weighted = F.cross_entropy(
            output, target, class_weight, reduction="none", ignore_index=ignore_index, label_smoothing=label_smoothing
        )
        losses = weighted / weights.where(weights > 0, 1)
    return losses, weights


def mse(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the squared error of each example (n,), its mean over all dimensions but the examples.

    Raises
    ------
    ObjectiveError
        If the shapes differ: they would broadcast into something else.

    Examples
    --------
    >>> import torch
    >>> mse(torch.ones(2, 3), torch.zeros(2, 3))
    tensor([1., 1.])
    """
    if output.shape != target.shape:
        raise _shapes("mse", output, target)
    error = (output - target).square()
    return error if error.dim() == 1 else error.flatten(1).mean(1)


def bce(output: torch.Tensor, target: torch.Tensor, *, pos_weight: torch.Tensor | float | None = None) -> torch.Tensor:
    r"""Return the binary cross-entropy of each example (n,) in nats, its mean over all dimensions but the examples.

    .. math:: \ell = -p\,y \log σ(z) - (1 - y) \log(1 - σ(z))

    Parameters
    ----------
    output
        Logits z, before the sigmoid: (n,), (n, 1) or (n, …).
    target
        0 and 1, or probabilities, in the shape of ``output``; (n,) also for outputs (n, 1).
    pos_weight
        Weight p of positive targets, one or one per output.

    Raises
    ------
    ObjectiveError
        For shapes that differ, or targets outside 0 … 1.

    Examples
    --------
    >>> import torch
    >>> bce(torch.zeros(2, 1), torch.tensor([0, 1]))
    tensor([0.6931, 0.6931])
    """
    if output.dim() == 2 and output.shape[1] == 1 and target.dim() == 1:
        output = output[:, 0]
    if output.shape != target.shape:
        raise _shapes("bce", output, target)
    output = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
    target = target.to(output)
    if bool(((target < 0) | (target > 1)).any()):
        raise ObjectiveError(
            f"targets of bce are 0, 1 or probabilities between them, got {float(target.min()):g} … "
            f'{float(target.max()):g}. Relabel them; for more than two classes use loss="cross_entropy".'
        )
    weight = None if pos_weight is None else torch.as_tensor(pos_weight).to(output)
    losses = F.binary_cross_entropy_with_logits(output, target, reduction="none", pos_weight=weight)
    return losses if losses.dim() == 1 else losses.flatten(1).mean(1)


def _shapes(name: str, output: torch.Tensor, target: torch.Tensor) -> ObjectiveError:
    shapes = f"the output has shape {tuple(output.shape)} and y {tuple(target.shape)}; they must be equal for {name}"
    if output.dim() == target.dim() + 1 and output.shape[-1] == 1:
        return ObjectiveError(f"{shapes}. Give y a last dimension, y[:, None], or let the model return output[:, 0].")
    if target.dim() == output.dim() + 1 and target.shape[-1] == 1:
        return ObjectiveError(f"{shapes}. Drop the last dimension of y, y[:, 0].")
    return ObjectiveError(f"{shapes}. Reshape y, or change the last layer of the network.")
