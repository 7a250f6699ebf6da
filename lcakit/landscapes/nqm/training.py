"""The landscape as a torch model, to train and record like any network (needs torch).

An example is a noise vector: its loss :math:`L(θ) + x \\cdot θ` has the gradient h θ + x. The mean example is x = 0, so
the objective on that single example is L(θ) exactly, and a minibatch of B examples is one of variance c / B.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lcakit.landscapes.nqm.optimizer import Optimizer, seen_curvature, warn_if_unstable
from lcakit.landscapes.nqm.problem import NoisyQuadratic, batch_sizes_of
from lcakit.landscapes.nqm.trajectories import bands_of
from lcakit.record import units
from lcakit.record.objective.objective import Objective
from lcakit.record.recorder import Recorder
from lcakit.trajectory.arguments import checks_arguments, checks_creation

__all__ = ["Band", "Noise", "QuadraticModel", "make_objective", "make_optimizer", "noisy_quadratic", "record"]


def __dir__() -> list[str]:
    return __all__


class Band(nn.Module):
    """A layer of neighbouring directions: ``theta`` (n, 1), each direction a unit with one input."""

    curvature: torch.Tensor

    def __init__(self, curvature: np.ndarray, start: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("curvature", torch.as_tensor(curvature.astype(np.float32))[:, None])
        self.theta = nn.Parameter(torch.as_tensor(start.astype(np.float32))[:, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the loss of this layer's directions for noise x (examples, n): (examples,)."""
        return 0.5 * (self.curvature * self.theta.square()).sum() + (x @ self.theta)[:, 0]


units.register(Band, {"theta": "unit input"})


@checks_creation
class QuadraticModel(nn.Module):
    """The noisy quadratic as a model: its output is the loss of each example.

    Parameters
    ----------
    problem
        Curvatures and start.
    seed
        Of the start.
    bands
        Layers, see :func:`~lcakit.landscapes.nqm.bands_of`.

    Examples
    --------
    >>> from lcakit.landscapes.nqm import NoisyQuadratic
    >>> model = QuadraticModel(NoisyQuadratic([1.0, 0.5], start_mean=2.0, start_variance=0.0))
    >>> model(torch.tensor([[0.0, 0.0], [1.0, -0.5]])).tolist()
    [3.0, 4.0]
    """

    def __init__(self, problem: NoisyQuadratic, seed: int = 0, bands: Sequence[int] | None = None) -> None:
        super().__init__()
        start = problem.start(np.random.default_rng(seed), 1)[0]
        self.sizes = []
        for name, part in bands_of(problem, bands):
            self.add_module(name, Band(problem.curvature[part], start[part]))
            self.sizes.append(part.stop - part.start)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the loss of each noise vector of x (examples, d): (examples,)."""
        parts = x.split(self.sizes, dim=1)
        return torch.stack([band(part) for band, part in zip(self.children(), parts, strict=True)]).sum(0)


def noisy_quadratic(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the output: the model computes its loss itself."""
    return output


@checks_arguments
def make_objective(problem: NoisyQuadratic, model: nn.Module, classes: int = 0, seed: int = 0, **options: Any) -> Any:
    """Return the objective L(θ), for :class:`lcakit.Recorder` or :func:`lcakit.allocate`.

    Parameters
    ----------
    model
        A :class:`QuadraticModel`.
    classes
        0, or a number of classes, at least 2: L is then the mean of class losses :math:`L(θ) + ξ_c \\cdot θ` with
        :math:`ξ_c \\sim N(0, c)` that sum to zero, so that studies by class have something to see.
    seed
        Of the ξ.
    options
        Go to :class:`lcakit.Objective`.

    Raises
    ------
    ValueError
        For a single class or a negative number.
    """
    if classes == 0:
        data = torch.zeros(1, problem.n_directions), torch.zeros(1)
        return Objective(model, data, noisy_quadratic, **options)
    if classes < 2:
        raise ValueError(f"classes must be 0 (none) or at least 2, got {classes}")
    offsets = np.random.default_rng(seed).standard_normal((classes, problem.n_directions)) * np.sqrt(problem.noise)
    x = torch.as_tensor(offsets - offsets.mean(0), dtype=torch.float32)
    names = [str(n) for n in range(classes)]
    return Objective(model, (x, torch.arange(classes)), noisy_quadratic, class_names=names, **options)


@checks_creation
class Noise:
    """Draws minibatches: ``next(noise)`` is the mean noise of B examples, (1, d). Its state can be kept and restored.

    Parameters
    ----------
    batch_size
        B; ``np.inf`` means no noise.
    seed
        Of the generator.
    """

    def __init__(self, problem: NoisyQuadratic, batch_size: float, seed: int = 0) -> None:
        (size,) = batch_sizes_of(batch_size)
        self.deviation = torch.as_tensor(np.sqrt(problem.noise / size), dtype=torch.float32)
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Noise:
        return self

    def __next__(self) -> torch.Tensor:
        return (self.deviation * torch.randn(len(self.deviation), generator=self.generator))[None]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the state of the generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the state of the generator."""
        self.generator.set_state(state["generator"])


@checks_arguments
def make_optimizer(problem: NoisyQuadratic, model: nn.Module, optimizer: Optimizer) -> torch.optim.SGD:
    """Return ``torch.optim.SGD`` with the optimizer's learning rate, momentum and preconditioning.

    Gradients are divided by the power p of the curvature, in place, just before a step. Averaging is not part of the
    training.

    Parameters
    ----------
    model
        A :class:`QuadraticModel` of the problem.

    Raises
    ------
    ValueError
        If the preconditioner would divide by zero.
    """
    sgd = torch.optim.SGD(model.parameters(), lr=optimizer.learning_rate, momentum=optimizer.momentum)
    if optimizer.preconditioning:
        seen_curvature(problem, optimizer.preconditioning)
        scale = torch.as_tensor((problem.curvature**-optimizer.preconditioning).astype(np.float32))
        parameters = list(model.parameters())
        scales = [part[:, None] for part in scale.split([len(parameter) for parameter in parameters])]

        def precondition(*_: Any) -> None:
            for parameter, part in zip(parameters, scales, strict=True):
                if parameter.grad is not None:
                    parameter.grad.mul_(part.to(parameter.device))

        sgd.register_step_pre_hook(precondition)
    return sgd


@checks_arguments
def record(
    problem: NoisyQuadratic,
    optimizer: Optimizer,
    path: str | os.PathLike[str],
    batch_size: float,
    iterations: int,
    *,
    seed: int = 0,
    bands: Sequence[int] | None = None,
    classes: int = 0,
    **options: Any,
) -> Path:
    """Train on the landscape with torch and record it, like a network.

    Parameters
    ----------
    path
        The file to write.
    batch_size, iterations
        B and T.
    seed
        Of the start, the noise and the classes.
    bands
        Layers, see :func:`~lcakit.landscapes.nqm.bands_of`.
    classes
        See :func:`make_objective`.
    options
        Go to :class:`lcakit.Recorder` (``keep``, ``resume``, ``quiet`` …).

    Returns
    -------
    Path
        The file. With averaging it holds the trajectory of the average.

    Warns
    -----
    LcakitWarning
        If the learning rate is unstable.
    """
    warn_if_unstable(problem, optimizer)
    model, shown = (QuadraticModel(problem, seed, bands) for _ in range(2))
    seen = shown if optimizer.averaging else model
    noise, steps = Noise(problem, batch_size, seed), make_optimizer(problem, model, optimizer)
    state: dict[str, Any] = {"noise": noise}
    if optimizer.averaging:
        state |= {"trained": model, "sgd": steps}
    settings = dataclasses.asdict(optimizer) | {"batch_size": float(batch_size), "iterations": iterations}
    recorder = Recorder(
        path,
        make_objective(problem, seen, classes, seed),
        None if optimizer.averaging else steps,
        n_iterations=iterations,
        state=state,
        config={"landscape": "noisy quadratic", **settings},
        seed=seed,
        **options,
    )
    with recorder as rec:
        for _ in range(rec.steps, iterations):
            steps.zero_grad()
            loss = model(next(noise)).mean()
            loss.backward()
            rec.report(loss.detach())
            steps.step()
            if optimizer.averaging:
                _follow(shown, model, optimizer.averaging)
                rec.step()
    return Path(path)


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, parameter in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(parameter, 1 - decay)
