"""Several θ at the same time, where one pass over the evaluation set is too small to keep all cores busy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lcakit.record.objective.isolation import ThreadTeam
from lcakit.record.objective.replicas import Replica
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

    @property
    def replicas(self) -> list[Replica]:
        """The networks of all passes."""
        return [replica for _, sweep in self.passes for replica in sweep.replicas]

    def run(self, thetas: torch.Tensor, classes: bool, batch_size: int) -> list[Evaluation]:
        """Evaluate at each θ of (S, K), of which there are at most as many as passes."""

        def evaluate(place: int) -> Evaluation:
            theta, sweep = self.passes[place]
            theta.copy_(thetas[place].detach())
            return sweep.run(theta, batch_size, gradient=True, classes=classes, accuracy=True)

        return self._team.map(evaluate, range(len(thetas)), always_shared=True)


def passes_at_once(threads: int, chunks: int, n_examples: int, chunk_bytes: float) -> int:
    """Return how many passes side by side take the shortest time for each; the fewest of those that take the same.

    Parameters
    ----------
    threads
        Threads that the passes share. One of a pass that has several takes whole chunks, one after the other.
    chunks
        Into how many a pass is divided at the most.
    n_examples, chunk_bytes
        Examples of a pass, and the activations of a chunk.

    Returns
    -------
    int
        1 where passes run one after the other.
    """
    if n_examples < WORTH_A_THREAD or chunk_bytes > _SMALL:
        return 1
    return min(range(1, min(threads, _MOST) + 1), key=lambda count: (-(-chunks // (threads // count)) / count, count))
