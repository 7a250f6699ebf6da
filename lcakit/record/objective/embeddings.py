"""Embeddings whose backward pass gives the derivative: for training, PyTorch lets it give something else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["use_derivatives"]


def __dir__() -> list[str]:
    return __all__


def use_derivatives(model: nn.Module) -> nn.Module:
    """Let embeddings, in place, give the derivative of what they compute.

    PyTorch's leave out the row of ``padding_idx``, which moves all the same where a tied output layer, or decay, moves
    it; ``scale_grad_by_freq`` divides rows by how often a batch has them. Both change a step, not the loss.
    """
    for module in model.modules():
        if type(module) is nn.Embedding and (module.padding_idx is not None or module.scale_grad_by_freq):
            module.__class__ = _Embedding  # a subclass may compute something else
        elif type(module) is nn.EmbeddingBag and module.scale_grad_by_freq:
            module.__class__ = _EmbeddingBag
    return model


class _Embedding(nn.Embedding):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.embedding(input, self.weight, None, self.max_norm, self.norm_type, False, self.sparse)

    def _get_name(self) -> str:
        return "Embedding"


class _EmbeddingBag(nn.EmbeddingBag):
    def forward(
        self,
        input: torch.Tensor,
        offsets: torch.Tensor | None = None,
        per_sample_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            False,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,  # those are no part of a sum or mean
        )

    def _get_name(self) -> str:
        return "EmbeddingBag"
