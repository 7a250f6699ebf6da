"""The parameters of the user's model, which training changes, as one flat vector."""

from __future__ import annotations

import torch
from torch import nn

from lcakit.errors import ObjectiveError
from lcakit.record.objective.describe import name_cleaner, trainable_parameters, unwrap

__all__ = ["LiveModel"]


def __dir__() -> list[str]:
    return __all__


class LiveModel:
    """The user's model, and its parameters in the order of θ; it is read, never changed.

    Raises
    ------
    ObjectiveError
        If the model is not a Module or has no trainable parameter.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise ObjectiveError(
                f"the model must be a torch.nn.Module, got {type(model).__name__}: "
                "lk.Objective(model, (x, y), loss=…). Put a function into the forward method of a Module."
            )
        self.model = model
        self.parameters = [parameter for _, parameter in trainable_parameters(model)]
        if not self.parameters:
            raise ObjectiveError(
                "the model has no trainable parameter (requires_grad, not empty): there is nothing to allocate to."
            )

    @property
    def device(self) -> torch.device:
        """Device of the first parameter."""
        return self.parameters[0].device

    def flat(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the present parameters as a new flat tensor (K,) on the model's device.

        Raises
        ------
        ObjectiveError
            If parameters of the model have been replaced by other tensors.
        """
        present = {id(parameter) for parameter in unwrap(self.model).parameters()}
        if not all(id(parameter) in present for parameter in self.parameters):
            raise ObjectiveError(
                "the model's parameters were replaced since the objective was made (a new layer, or "
                "load_state_dict(assign=True)). Make the objective, and the recorder, after that."
            )
        with torch.no_grad():  # one vector, so that one copy brings it to another device
            return torch.cat([p.detach().reshape(-1).to(self.device, dtype) for p in self.parameters])

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all parameters and buffers by clean name."""
        bare = unwrap(self.model)
        clean = name_cleaner(bare)
        return {clean(name): value for name, value in (*bare.named_parameters(), *bare.named_buffers())}
