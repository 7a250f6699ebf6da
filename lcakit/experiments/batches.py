"""Mini-batches that can be continued bit by bit in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from lcakit.errors import DataError
from lcakit.trajectory.arguments import checks_creation

__all__ = ["Batches"]


def __dir__() -> list[str]:
    return __all__


@checks_creation
class Batches(Iterator[torch.Tensor]):
    """Endless int64 index tensors, a fresh permutation of all examples each epoch.

    The permutations come from a generator of its own, never from the global one. Every example occurs once an
    epoch: where ``batch_size`` does not divide ``n_examples``, the last batch of each epoch is smaller.

    Parameters
    ----------
    n_examples
        Indices are ``0 … n_examples - 1``.
    batch_size
        Examples per batch, at most ``n_examples``.
    seed
        Seed of the permutations.

    Examples
    --------
    >>> batches = Batches(5, batch_size=2, seed=0)
    >>> [len(next(batches)) for _ in range(4)]
    [2, 2, 1, 2]
    """

    def __init__(self, n_examples: int, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= n_examples:
            raise DataError(f"batch_size must be between 1 and the number of examples ({n_examples}), got {batch_size}")
        self.n_examples, self.batch_size = n_examples, batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._start_epoch()

    def __next__(self) -> torch.Tensor:
        if self._position >= self.n_examples:
            self._start_epoch()
        batch = self._order[self._position : self._position + self.batch_size]
        self._position += len(batch)
        return batch

    def _start_epoch(self) -> None:
        self._epoch_state = self._generator.get_state()
        self._order = torch.randperm(self.n_examples, generator=self._generator, device="cpu")
        self._position = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the sequence, tensors and ints of 5 kB: loading draws the epoch again."""
        return {
            "n_examples": self.n_examples,
            "batch_size": self.batch_size,
            "position": self._position,
            "generator": self._epoch_state.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``state`` was taken.

        Raises
        ------
        DataError
            When the state is of other numbers of examples or another batch size.
        """
        theirs, ours = (state["n_examples"], state["batch_size"]), (self.n_examples, self.batch_size)
        if theirs != ours:
            raise DataError(
                f"the saved state is of {theirs[0]} examples in batches of {theirs[1]}, these are {ours[0]} "
                f"in batches of {ours[1]}. Continue with the same data and batch size, or start a new run."
            )
        self._generator.set_state(state["generator"].cpu())
        self._start_epoch()
        self._position = int(state["position"])
