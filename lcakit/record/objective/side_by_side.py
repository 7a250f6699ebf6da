"""Several θ at the same time, where one pass over the evaluation set is too small to keep all cores busy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lcakit.record.objective.isolation import ThreadTeam
from lcakit.record.objective.sweep import Evaluation, Sweep

__all__ = ["WORTH_A_THREAD", "SideBySide", "passes_at_once"]


def __dir__() -> list[str]:
    return __all__


_MOST = 4  # a move is refined by 2, 4, … gradients at a time
WORTH_A_THREAD = 256
"""Examples: of fewer, Python's share of the time is large, and Python runs one thread at a time."""
_SMALL = 64 * 2**20  # bytes of a chunk, beyond which operations are large enough to be shared out between cores


@dataclass
class SideBySide:
    """Passes over the same evaluation set, each with a θ, a copy of the network and a share of the cores of its own.

    A small pass is many short operations. Where several threads share out each of them, all wait for the slowest
    thread hundreds of times in a pass; on a busy machine that is for its turn. Whole passes wait once.

    A pass has the same number of threads whether others run beside it or not, so its result has the same bits.

    Parameters
    ----------
    passes
        Each θ (K,) and the pass whose networks view it.
    """

    passes: Sequence[tuple[torch.Tensor, Sweep]]
    _team: ThreadTeam = field(init=False)

    def __post_init__(self) -> None:
        self._team = ThreadTeam(len(self.passes))

    @property
    def count(self) -> int:
        """How many θ are evaluated at the same time."""
        return len(self.passes)

    def run(self, count: int, classes: bool, batch_size: int) -> list[Evaluation]:
        """Return the gradients at the first ``count`` θ."""

        def evaluate(at: tuple[torch.Tensor, Sweep]) -> Evaluation:
            theta, sweep = at
            return sweep.run(theta, batch_size, gradient=True, classes=classes, accuracy=True)

        return self._team.map(evaluate, self.passes[:count], always_shared=True)


def passes_at_once(workers: int, n_examples: int, chunk_bytes: float) -> int:
    """Return how many passes are faster side by side than with all threads of torch in each of their operations.

    Parameters
    ----------
    workers
        Threads of one pass, each of which takes a chunk at a time.
    n_examples, chunk_bytes
        Examples of a pass, and the activations of a chunk.

    Returns
    -------
    int
        1 where passes run one after the other.
    """
    worth = n_examples >= WORTH_A_THREAD and chunk_bytes <= _SMALL
    return max(1, min(torch.get_num_threads() // workers, _MOST)) if worth else 1
