"""A loss that has numbers of its own: it is evaluated beside the model, and what learns in it is part of θ."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

__all__ = ["ModelWithLoss", "learning_part", "with_loss"]


def __dir__() -> list[str]:
    return __all__


class ModelWithLoss(nn.Module):
    """A model and its loss as one module, so that they are copied, followed and stored together.

    Called, it is the model. In files the names in the model stay as they are
    (:func:`lcakit.record.objective.describe.name_cleaner`), and those in the loss begin with :attr:`loss_name`.

    Parameters
    ----------
    model
        The user's model.
    loss
        The user's loss.
    """

    model: nn.Module

    def __init__(self, model: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.loss_name = _free_name(model)
        self.add_module(self.loss_name, loss)
        self.training = model.training

    @property
    def own_loss(self) -> nn.Module:
        """The loss."""
        return cast(nn.Module, getattr(self, self.loss_name))

    def forward(self, *args: Any, **named: Any) -> Any:
        """Return what the model returns."""
        return self.model(*args, **named)


def with_loss(model: nn.Module, loss: Any) -> nn.Module:
    """Return the model, together with its loss where that is a module with parameters or buffers."""
    if not isinstance(loss, nn.Module) or not isinstance(model, nn.Module) or not loss.state_dict(keep_vars=True):
        return model
    return ModelWithLoss(model, loss)


def learning_part(model: nn.Module) -> nn.Module:
    """Return the model without a loss in which nothing learns."""
    if isinstance(model, ModelWithLoss) and not any(p.requires_grad for p in model.own_loss.parameters()):
        return model.model
    return model


def _free_name(model: nn.Module) -> str:
    """Return the name of the loss: ``loss``, or the first of ``loss2``, … that the model does not have itself."""
    taken = {name.partition(".")[0] for names in (model.named_modules(), model.named_parameters()) for name, _ in names}
    names = ("loss", *(f"loss{k}" for k in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)
