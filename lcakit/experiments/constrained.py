"""Training in which single parameters are held still or pulled towards zero: what pruning and regularizing do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lcakit.experiments.batches import Batches
from lcakit.experiments.data import ImageData
from lcakit.experiments.run import Run
from lcakit.experiments.training import make_model, make_optimizer
from lcakit.record.objective.describe import trainable_parameters
from lcakit.record.objective.isolation import repeatable

__all__ = ["train_constrained", "train_to_end"]


def __dir__() -> list[str]:
    return __all__


def train_constrained(
    run: Run,
    data: ImageData,
    *,
    start: np.ndarray | None = None,
    decay: np.ndarray | float = 0.0,
    frozen_from: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    r"""Train a run with a weight decay, and an iteration of stopping, for each parameter; yield every snapshot.

    .. math:: g_i \leftarrow \frac{∂L_B}{∂θ_i} + λ_i θ_i, \qquad
              θ_i[t + 1] = θ_i[t] \;\text{ where }\; t \ge t_i

    Batches are those of the run, and with nothing to constrain so are the snapshots, bit by bit.

    Parameters
    ----------
    run
        What is trained, for how long; its seed gives initial values and batches.
    data
        Its data.
    start
        θ[0] (K,) in place of the run's initial values.
    decay
        λ, one number or (K,), in the gradient as torch's ``weight_decay`` is.
    frozen_from
        t_i (K,), the first iteration in which a parameter does not move; None: all move in every one.

    Yields
    ------
    ndarray
        θ[0] … θ[T], (K,) float32, each an array of its own.

    Raises
    ------
    ValueError
        For arrays that are not (K,), or settings that the run cannot have.

    Examples
    --------
    >>> run = Run("digits-fc", train_examples=40, batch_size=10, iterations=3)
    >>> path = list(train_constrained(run, run.data(), frozen_from=np.full(12060, 2)))
    >>> [bool((a == b).all()) for a, b in zip(path, path[1:])]
    [False, False, True]
    """
    run = run.resolved()
    model = make_model(run, data)
    parameters = [parameter for _, parameter in trainable_parameters(model)]
    here = nn.utils.parameters_to_vector(parameters).detach()
    if start is not None:
        here = _of_parameters("start", start, here).to(here.dtype)
        nn.utils.vector_to_parameters(here.clone(), parameters)
    rates = _of_parameters("decay", np.full(here.shape, decay) if isinstance(decay, int | float) else decay, here)
    until = None if frozen_from is None else _of_parameters("frozen_from", frozen_from, here)
    optimizer = make_optimizer(run, model)
    batches = Batches(len(data.x_train), int(run.batch_size or 0), run.seed)
    torch.manual_seed(run.seed)
    model.train()
    yield here.numpy().copy()
    for step in range(int(run.iterations or 0)):
        with repeatable():
            _step(model, parameters, optimizer, data, next(batches), rates.to(here.dtype))
        there = nn.utils.parameters_to_vector(parameters).detach()
        if until is not None:
            there = torch.where(until <= step, here, there)
            nn.utils.vector_to_parameters(there.clone(), parameters)
        here = there
        yield here.numpy().copy()


def train_to_end(run: Run, data: ImageData, **constraints: np.ndarray | float | None) -> np.ndarray:
    """Return the last snapshot of :func:`train_constrained`, (K,) float32."""
    theta = np.empty(0, np.float32)
    for theta in train_constrained(run, data, **constraints):  # type: ignore[arg-type]  # noqa: B007
        pass
    return theta


def _step(
    model: nn.Module,
    parameters: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    data: ImageData,
    index: torch.Tensor,
    rates: torch.Tensor,
) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(data.x_train[index]), data.y_train[index]).backward()
    if rates.any():
        for parameter, rate in zip(parameters, rates.split([p.numel() for p in parameters]), strict=True):
            if parameter.grad is not None:
                parameter.grad += rate.view_as(parameter) * parameter.detach()
    optimizer.step()


def _of_parameters(name: str, values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    array = np.asarray(values)
    if array.shape != tuple(like.shape):
        raise ValueError(
            f"{name} must have one number for each parameter, shape {tuple(like.shape)}; got {array.shape}"
        )
    return torch.from_numpy(array.copy())
