"""Small, seeded trajectories with known answers: for tests, examples and documentation. No torch.

The loss of each class is a quadratic, so every quantity has a closed form and LCA is exact:

.. math:: L_c(θ) = \\tfrac12 \\sum_i h_{ci} (θ_i - m_{ci})^2, \\qquad
          A_c[t, i] = h_{ci}\\, (θ_{t+1} - θ_t)_i \\left(\\tfrac{θ_t + θ_{t+1}}2 - m_c\\right)_i
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from lcakit.analysis import accessor as _accessor  # noqa: F401  (registers ds.lk)
from lcakit.trajectory.arguments import checks_arguments, checks_creation
from lcakit.trajectory.labels import Labels, TensorSpec
from lcakit.trajectory.schema import build_dataset

__all__ = ["FROZEN_EVERY", "LAYERS", "LEARNING_RATE", "Quadratic", "chunked", "quadratic", "tiny_trajectory"]


def __dir__() -> list[str]:
    return __all__


LEARNING_RATE = 0.4
FROZEN_EVERY = 5
"""Every fifth parameter does not move: its LCA is exactly zero."""

LAYERS = (
    TensorSpec("conv1.weight", (3, 2, 2, 2), "kernel", "conv1", "conv2d"),
    TensorSpec("conv1.bias", (3,), "bias", "conv1", "conv2d"),
    TensorSpec("norm1.weight", (3,), "norm_scale", "norm1", "batchnorm2d", "conv1"),
    TensorSpec("norm1.bias", (3,), "norm_shift", "norm1", "batchnorm2d", "conv1"),
    TensorSpec("fc.weight", (4, 6), "kernel", "fc", "linear"),
    TensorSpec("fc.bias", (4,), "bias", "fc", "linear"),
)


@checks_creation
@dataclass(frozen=True)
class Quadratic:
    """Per-class quadratic losses: curvatures ``h`` and minima ``m``, both (class, parameter), float64."""

    h: np.ndarray
    m: np.ndarray

    def loss(self, theta: np.ndarray) -> np.ndarray:
        """Return L_c(θ), (snapshot, class), for θ (snapshot, parameter)."""
        loss: np.ndarray = 0.5 * np.einsum("ck,tck->tc", self.h, (theta[:, None] - self.m) ** 2)
        return loss

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """Return ∂L_c/∂θ, (snapshot, class, parameter)."""
        gradient: np.ndarray = self.h * (theta[:, None] - self.m)
        return gradient

    def lca(self, theta: np.ndarray) -> np.ndarray:
        """Return the exact allocation A_c, (iteration, class, parameter)."""
        middle = (theta[1:] + theta[:-1]) / 2
        return self.gradient(middle) * np.diff(theta, axis=0)[:, None]


@checks_arguments
def quadratic(n_parameters: int, n_classes: int, seed: int = 0) -> Quadratic:
    """Return random per-class quadratics whose total curvature lies between 0 and about 2."""
    rng = np.random.default_rng(seed)
    h = rng.uniform(0.1, 3.0, (n_classes, n_parameters)) / n_classes
    return Quadratic(h, rng.normal(size=(n_classes, n_parameters)))


def _descend(problem: Quadratic, iterations: int, rng: np.random.Generator) -> np.ndarray:
    """Return float32 snapshots of noisy gradient descent, with every fifth parameter frozen."""
    k = problem.h.shape[1]
    moves = np.arange(k) % FROZEN_EVERY != FROZEN_EVERY - 1
    theta = np.empty((iterations + 1, k), np.float32)
    theta[0] = rng.normal(scale=2.0, size=k)
    for t in range(iterations):
        noisy = problem.gradient(theta[t : t + 1].astype(np.float64))[0].sum(0) + rng.normal(scale=0.5, size=k)
        theta[t + 1] = np.where(moves, theta[t] - LEARNING_RATE * noisy, theta[t])
    return theta


@checks_arguments
def tiny_trajectory(
    iterations: int = 12,
    seed: int = 0,
    layers: Sequence[TensorSpec] = LAYERS,
    classes: Sequence[str] = ("a", "b", "c"),
    chunks: Mapping[str, int] | int | None = None,
    class_parameters: bool = False,
) -> xr.Dataset:
    """Return a valid trajectory of noisy gradient descent on per-class quadratics.

    Parameters
    ----------
    iterations
        T, at least 1.
    seed
        Of the losses and of the noise; the same seed gives the same trajectory.
    layers
        Parameter tensors; by default a small convolution with its norm layer, and a linear layer.
    chunks
        Dask chunks; None keeps NumPy arrays.
    classes
        Names of the classes.
    class_parameters
        Also hold ``lca_class`` (iteration, class, parameter).

    Returns
    -------
    Dataset
        Every variable of the format, in its dtypes; all numbers follow in closed form from ``theta`` and
        :func:`quadratic` with the same seed. ``accuracy`` and ``batch_loss`` are stand-ins.

    Raises
    ------
    ValueError
        For less than one iteration.

    Examples
    --------
    >>> ds = tiny_trajectory(4)
    >>> ds.sizes["iteration"], ds.sizes["snapshot"], ds.sizes["parameter"]
    (4, 5, 61)
    >>> change = float(ds["loss"][-1] - ds["loss"][0])
    >>> abs(float(ds["lca"].sum()) - change) < 1e-4 * abs(change)
    True
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    table = Labels(tuple(layers))
    problem = quadratic(table.n_parameters, len(classes), seed)
    theta32 = _descend(problem, iterations, np.random.default_rng(seed + 1))
    theta = theta32.astype(np.float64)
    loss_class, gradient, lca = problem.loss(theta), problem.gradient(theta).sum(1), problem.lca(theta)
    loss, total = loss_class.sum(1), lca.sum(1)
    variables = {
        "theta": theta32,
        "gradient": gradient,
        "lca": total,
        "lca_unit_class": _unit_sums(table, lca),
        "loss": loss,
        "loss_class": loss_class,
        "accuracy": 1 / (1 + loss),
        "first_order": (gradient[:-1] * np.diff(theta, axis=0)).sum(1),
        "residual": total.sum(1) - np.diff(loss),
        "splits": np.full(iterations, 2),
        "learning_rate": np.full(iterations, LEARNING_RATE),
        "batch_loss": loss[:-1],
    }
    if class_parameters:
        variables["lca_class"] = lca
    steps = {
        "snapshot": np.arange(iterations + 1),
        "iteration": np.arange(iterations),
        "class": np.array(classes),
    }
    coords = table.coords() | {name: ((name,), values) for name, values in steps.items()}
    ds = build_dataset(coords, variables, _attributes(seed))
    return ds if chunks is None else chunked(ds, chunks)


@checks_arguments
def chunked(ds: xr.Dataset, chunks: Mapping[str, int] | int) -> xr.Dataset:
    """Return a trajectory with Dask data and labels in memory, as ``lk.open_trajectory`` does.

    Chunk sizes of dimensions that ``ds`` does not have are ignored.
    """
    sizes = {dim: n for dim, n in chunks.items() if dim in ds.dims} if isinstance(chunks, Mapping) else chunks
    return ds.chunk(sizes).assign_coords({name: ds[name].variable for name in ds.coords if name not in ds.dims})


def _unit_sums(table: Labels, lca: np.ndarray) -> np.ndarray:
    """Return the per-class LCA (iteration, unit, class) of each unit."""
    out = np.zeros((lca.shape[0], table.n_units, lca.shape[1]))
    np.add.at(out.transpose(1, 0, 2), table.parameter_labels()["unit_index"], lca.transpose(2, 0, 1))
    return out


def _attributes(seed: int) -> dict[str, str | int | float]:
    return {
        "loss_name": "quadratic",
        "n_examples": 100,
        "norm_mode": "none",
        "evaluation_batch_size": 100,
        "rule": "rk4",
        "tolerance": 1e-3,
        "precision": "float32",
        "seed": seed,
        "data_fingerprint": "0" * 64,
        "model_fingerprint": "0" * 64,
    }
