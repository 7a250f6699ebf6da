"""A real network as a loss surface over its flat parameter vector, to stand beside the wedges."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, vmap

from lcakit.experiments import data, networks
from lcakit.landscapes.wedges.surface import DTYPE, as_points, check_dimension
from lcakit.record.objective.describe import trainable_parameters
from lcakit.trajectory.arguments import checks_arguments, checks_creation

__all__ = ["Loss", "NetworkSurface", "digits_network"]


def __dir__() -> list[str]:
    return __all__


_EXAMPLES = 500
_TOGETHER = 16
"""Points whose activations are held in memory at once."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@checks_creation
class NetworkSurface:
    """The mean loss of a network over some data, as a function of its flat parameter vector.

    Parameters
    ----------
    build
        From a seed to a freshly initialized network; always the same architecture, without batch norm or dropout.
    x, y
        The data.
    loss
        ``(output, y) -> mean loss``; cross-entropy (in nats) by default.
    loss_unit
        Its unit.

    Notes
    -----
    Everything is computed in float64 on the CPU, wherever the network and the data come from. θ is laid out as in a
    trajectory: ``named_parameters()`` order, C order inside a tensor, frozen tensors left out.
    """

    def __init__(
        self,
        build: Callable[[int], nn.Module],
        x: torch.Tensor,
        y: torch.Tensor,
        loss: Loss = F.cross_entropy,
        loss_unit: str = "nats",
    ) -> None:
        self._build = build
        self.x, self.y = (data.cpu().to(DTYPE) if data.is_floating_point() else data.cpu() for data in (x, y))
        self._loss = loss
        self.loss_unit = loss_unit
        self._model = build(0).to("cpu", DTYPE).eval()
        found = list(trainable_parameters(self._model))
        self._names = [name for name, _ in found]
        self._shapes = [parameter.shape for _, parameter in found]
        self._sizes = [parameter.numel() for _, parameter in found]
        self._many = vmap(self._mean_loss, chunk_size=_TOGETHER)

    @property
    def dimension(self) -> int:
        """D, the number of trainable parameters."""
        return sum(self._sizes)

    def initial(self, seed: int) -> torch.Tensor:
        """Return the parameters of a freshly initialized network."""
        parts = [p.detach().reshape(-1).to("cpu", DTYPE) for _, p in trainable_parameters(self._build(seed))]
        return torch.cat(parts)

    def loss(self, theta: torch.Tensor) -> torch.Tensor:
        """Return the loss (…) of points (…, D)."""
        check_dimension(self, tuple(theta.shape))
        if theta.dim() == 1:
            return self._mean_loss(theta)
        return self._many(theta.reshape(-1, self.dimension)).reshape(theta.shape[:-1])

    def predict(self, theta: torch.Tensor, x: torch.Tensor | None = None) -> torch.Tensor:
        """Return the predicted labels (N,) at one point (D,); of other data where given."""
        with torch.no_grad():
            return self.output(as_points(self, theta), self.x if x is None else x.cpu().to(DTYPE)).argmax(1)

    def accuracy(self, theta: torch.Tensor, x: torch.Tensor | None = None, y: torch.Tensor | None = None) -> float:
        """Return the share of examples classified correctly at one point (D,); of other data where given."""
        return float((self.predict(theta, x) == (self.y if y is None else y)).double().mean())

    def output(self, theta: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the network at one point (D,), for the examples ``x`` in float64."""
        parts = zip(self._names, theta.split(self._sizes), self._shapes, strict=True)
        output: torch.Tensor = functional_call(self._model, {name: p.view(shape) for name, p, shape in parts}, (x,))
        return output

    def _mean_loss(self, theta: torch.Tensor) -> torch.Tensor:
        return self._loss(self.output(theta, self.x), self.y)


@checks_arguments
def digits_network(examples: int = _EXAMPLES, network: str = "fc") -> NetworkSurface:
    """Return the surface of a network of the LCA paper on scikit-learn's digits.

    Parameters
    ----------
    examples
        How many of the 1 500 training images; the time is proportional to it.
    network
        A name of :data:`lcakit.experiments.networks.NETWORKS` without batch norm; ``"fc"`` has 12 060 parameters here.

    Raises
    ------
    ValueError
        For numbers of examples that the data set does not have.

    Notes
    -----
    With 500 examples a gradient takes about 5 ms on one core. Paths, planes and spectra take seconds with the settings
    of the wedges; give :func:`~lcakit.landscapes.wedges.connectors.connect_all` fewer points (``rays=4, points=6,
    steps=60``: 10 s for three optima), and optimizations a ``target``: without one the weights of a network that
    separates its classes grow and the loss falls on, as far as the steps go.
    """
    digits = data.load("digits")
    if not 1 <= examples <= len(digits.x_train):
        raise ValueError(f"examples must be 1 to {len(digits.x_train)}, got {examples}")

    def build(seed: int) -> nn.Module:
        return networks.build(network, digits.data_shape, digits.n_classes, seed)

    return NetworkSurface(build, digits.x_train[:examples], digits.y_train[:examples])
