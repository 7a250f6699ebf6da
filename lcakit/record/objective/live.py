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
        If the model is not a Module, has no trainable parameter, or parameters without real numbers.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise ObjectiveError(
                f"the model must be a torch.nn.Module, got {type(model).__name__}: "
                "lk.Objective(model, (x, y), loss=…). Put a function into the forward method of a Module."
            )
        _check_parameters(unwrap(model))
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


def _check_parameters(model: nn.Module) -> None:
    """Raise ObjectiveError for parameters that have no numbers, or not real ones."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ObjectiveError(
            "the model was compiled by torch.jit.script, whose modules cannot be copied and looked into as the "
            "objective needs it. Give it the Python module that was compiled (torch.compile needs nothing of the kind)."
        )
    clean = name_cleaner(model)
    for inner, value in (*model.named_parameters(), *model.named_buffers()):
        name = clean(inner)
        if nn.parameter.is_lazy(value):
            raise ObjectiveError(
                f"{name!r} has no shape yet (a lazy module). Call the model once with a batch, model(x), before the "
                "objective and the optimizer are made."
            )
        if value.is_meta:
            raise ObjectiveError(
                f"{name!r} is on the device 'meta', which holds no numbers. Give it memory, "
                "model.to_empty(device=…), and load or initialize its weights."
            )
        if value.is_complex() and isinstance(value, nn.Parameter) and value.requires_grad:
            raise ObjectiveError(
                f"{name!r} is complex ({value.dtype}), and LCA is of real parameters. Store it as two real numbers, "
                "nn.Parameter(torch.view_as_real(w)), and let the forward method use torch.view_as_complex."
            )
