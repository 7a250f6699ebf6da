"""What an objective says of itself: its parameters and sizes, what a gradient of it costs, what is to be known."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from lcakit.record.objective.data import EvaluationSet
from lcakit.record.objective.evaluator import Evaluator
from lcakit.record.objective.isolation import Numerics
from lcakit.record.objective.live import LiveModel
from lcakit.trajectory.labels import Labels

__all__ = ["Described"]


def __dir__() -> list[str]:
    return __all__


class Described:
    """The part of an objective that evaluates nothing."""

    labels: Labels
    data: EvaluationSet
    class_names: tuple[str, ...] | None
    batch_coupling: bool
    norm_mode: str
    noise_seed: int | None
    together: int
    device: torch.device
    _live: LiveModel
    _numerics: Numerics
    _evaluator: Evaluator
    _timed: dict[bool, float]

    def parameters_vector(self) -> np.ndarray:
        """Return the model's present parameters as a float32 array (K,), as :meth:`parameters_tensor` does."""
        return self.parameters_tensor().to(torch.float32).cpu().numpy()

    def parameters_tensor(self) -> torch.Tensor:
        """Return the model's present parameters as a new flat tensor.

        Returns
        -------
        Tensor
            (K,) in the order of ``labels``, on the objective's device: float64 in that precision, else float32.

        Raises
        ------
        ObjectiveError
            If parameters of the model have been replaced since the objective was made.
        """
        return self._live.flat(self._numerics.dtype).to(self.device)

    def refresh(self, names: Collection[str] | None = None) -> None:
        """Copy the model's present frozen parameters and buffers, or those of ``names``, in place of earlier ones."""
        found = self._live.tensors()
        self._evaluator.copy_frozen(found if names is None else {name: found[name] for name in names})

    @property
    def batch_size(self) -> int:
        """Examples per chunk: as given or chosen, and halved each time the device runs out of memory."""
        return self._evaluator.batch_size

    @property
    def at_once(self) -> int:
        """How many θ are evaluated at the same time, where that many are known: ``together``, or on threads."""
        return self.together if self._evaluator.beside is None else self._evaluator.beside.count

    @property
    def n_parameters(self) -> int:
        """K, the length of θ."""
        return self.labels.n_parameters

    @property
    def n_examples(self) -> int:
        """N, the size of the evaluation set."""
        return self.data.n_examples

    @property
    def n_classes(self) -> int:
        """C, or 0 where the targets are not classes."""
        return len(self.class_names or ())

    @property
    def class_factor(self) -> float:
        """Cost of a gradient by class relative to a plain one: above 1 where a batch mixes them, as with BatchNorm.

        A batch cannot be cut by class then, nor where groups are of positions or batches are given as they are: each
        class takes a backward pass of twice the cost of the forward pass.
        """
        return (1 + 2 * self.n_classes) / 3 if self.data.by_products else 1.0

    @property
    def why_slower(self) -> str:
        """When a gradient by class or group costs more than a plain one, for the estimate."""
        return "with BatchNorm" if self.batch_coupling and self.noise_seed is None else "where batches mix groups"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the evaluation of this loss fixes, as sentences for the estimate."""
        norms = {"running": "norm layers use their running statistics", "mixed": "norm layers in eval mode use theirs"}
        found = [f"{norms[self.norm_mode]} (norm=…)"] if self.norm_mode in norms else []
        noise = "each batch gets the same random numbers every time (fixed_noise)"
        return (*found, *([noise] if self.noise_seed is not None else []))

    def seconds_per_gradient(self, classes: bool = False) -> float | None:
        """Return the time of the last full-set gradient in seconds, by class or not.

        It is estimated from the other kind (:attr:`class_factor`) where only that has been timed, and None before any.
        """
        if classes in self._timed or not self._timed:
            return self._timed.get(classes)
        return self._timed[False] * self.class_factor if classes else self._timed[True] / self.class_factor
