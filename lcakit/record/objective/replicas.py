"""Private copies of the model, one for each thread, that compute the loss as a function of θ alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from lcakit.record.objective.batch_norm import use_precise_norms
from lcakit.record.objective.copying import copied
from lcakit.record.objective.dense_layers import prefers_onednn, use_onednn
from lcakit.record.objective.describe import (
    make_deterministic,
    name_cleaner,
    trainable_parameters,
    unwrap,
    unwrap_inner,
)
from lcakit.record.objective.embeddings import use_derivatives
from lcakit.record.objective.hooks import drop_hooks
from lcakit.record.objective.isolation import Numerics
from lcakit.record.objective.small_images import multiply_rows

__all__ = ["Replica", "fresh_copy", "make_replica"]


def __dir__() -> list[str]:
    return __all__


@dataclass
class Replica:
    """One thread's copy of the model. Its parameters are views of a flat θ, its gradients of any flat buffer."""

    model: nn.Module
    parameters: list[nn.Parameter]
    _bound: torch.Tensor | None = None

    def bind_theta(self, flat: torch.Tensor) -> None:
        """Make the parameters views of ``flat`` (K,)."""
        for parameter, part in zip(self.parameters, self.cut(flat), strict=True):
            parameter.data = part

    def bind_gradient(self, flat: torch.Tensor) -> None:
        """Let backward() add to ``flat`` (K,) from now on."""
        if flat is self._bound:
            return
        self._bound = flat
        for parameter, part in zip(self.parameters, self.cut(flat), strict=True):
            parameter.grad = part

    def release_gradients(self) -> None:
        """Drop the buffer of gradients, so that its memory can be freed."""
        self._bound = None
        for parameter in self.parameters:
            parameter.grad = None

    def copy_frozen(self, values: Mapping[str, torch.Tensor]) -> None:
        """Copy the frozen parameters and the buffers that ``values`` has by name."""
        learning = {id(parameter) for parameter in self.parameters}
        with torch.no_grad():
            for name, value in self.tensors().items():
                if id(value) not in learning and name in values:
                    value.copy_(values[name])

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all parameters and buffers by clean name."""
        clean = name_cleaner(self.model)
        return {clean(name): value for name, value in self.model.named_parameters()} | self.buffers()

    def buffers(self) -> dict[str, torch.Tensor]:
        """Return all buffers by clean name."""
        clean = name_cleaner(self.model)
        return {clean(name): value for name, value in self.model.named_buffers()}

    def cut(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Return ``flat`` (K,) as views with the shapes of the parameters."""
        parts = flat.split([parameter.numel() for parameter in self.parameters])
        return [part.view(parameter.shape) for part, parameter in zip(parts, self.parameters, strict=True)]


def make_replica(model: nn.Module, numerics: Numerics, tuned: bool = True, norm: str = "auto") -> Replica:
    """Copy a model and prepare the copy: no dropout, no hooks of the user, frozen what is frozen in the model.

    Parameters
    ----------
    model
        The user's model; it is not changed.
    numerics
        Device and precision of the copy.
    tuned
        Replace layers by faster or more precise ones that give the same result up to rounding. Only PyTorch's own
        layers can be evaluated at several θ at once.
    norm
        Whether norm layers use statistics of the batch or running ones: ``"batch"``, ``"running"`` or ``"auto"``.

    Returns
    -------
    Replica
        Its parameters are in the order of θ.

    Raises
    ------
    ObjectiveError
        If the model cannot be copied.
    """
    names = [name for name, _ in trainable_parameters(model)]
    bare = unwrap_inner(copied(unwrap(model)))
    found = dict(trainable_parameters(bare))
    clean = name_cleaner(bare)
    for name, parameter in bare.named_parameters():
        parameter.requires_grad_(clean(name) in names)
    return Replica(_prepared(bare, numerics, tuned, norm), [found[name] for name in names])


def fresh_copy(model: nn.Module, numerics: Numerics, like: nn.Module) -> nn.Module:
    """Copy a model as it is now, with its present parameters, and prepare the copy as an earlier one (``like``) was.

    Raises
    ------
    ObjectiveError
        If the model cannot be copied.
    """
    bare = unwrap_inner(copied(unwrap(model)))
    norms = {name: m for name, m in like.named_modules() if isinstance(m, nn.modules.batchnorm._NormBase)}
    for name, module in bare.named_modules():
        module.training = name not in norms or norms[name].running_mean is None
    return _prepared(bare, numerics, tuned=True, norm="auto")


def _prepared(bare: nn.Module, numerics: Numerics, tuned: bool, norm: str) -> nn.Module:
    drop_hooks(bare)
    bare = make_deterministic(use_derivatives(bare), norm).to(numerics.device, numerics.dtype)
    if tuned and numerics.device.type == "cpu" and numerics.precision == "float32":
        use_precise_norms(use_onednn(bare) if prefers_onednn() else multiply_rows(bare))
    return bare
