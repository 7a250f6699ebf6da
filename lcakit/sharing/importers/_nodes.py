r"""Gradients at the nodes of a path: those at the snapshots, and the integral over each iteration.

The nodes of a run are numbered through: iteration t has the nodes :math:`s_t … s_{t+1}`, :math:`s_t = \sum_{u<t} n_u`,
where :math:`n_t` is its number of sub-intervals; neighbours share a node, which is the snapshot between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lcakit.sharing.importers.rows import Rows


def starts(splits: np.ndarray) -> np.ndarray:
    """Return the node of each snapshot: 0, n_0, n_0 + n_1, … (T+1)."""
    return np.concatenate([[0], np.cumsum(splits, dtype=np.int64)])


class Joined(Rows):
    """Consecutive tables, each beginning with the row that the one before it ends with."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self.parts = tuple(parts)
        self.first = np.concatenate([[0], np.cumsum([part.shape[0] - 1 for part in parts])])
        super().__init__(int(self.first[-1]) + 1, parts[0].shape[1])

    def read(self, start: int, stop: int, left: int, right: int) -> np.ndarray:
        """Read from every part that has some of the rows; a shared row from the later part."""
        blocks = [np.empty((0, right - left), self.dtype)]
        for number, (part, first) in enumerate(zip(self.parts, self.first, strict=False)):
            end = first + part.shape[0] - (number < len(self.parts) - 1)
            a, b = max(start, first), min(stop, end)
            if a < b:
                blocks.append(part.read(int(a - first), int(b - first), left, right))
        return np.concatenate(blocks)


class AtSnapshots(Rows):
    """The gradients at the snapshots (T+1, K), out of those at all nodes."""

    def __init__(self, nodes: Rows, splits: np.ndarray) -> None:
        self.nodes, self.rows = nodes, starts(splits)
        super().__init__(len(self.rows), nodes.shape[1])

    def read(self, start: int, stop: int, left: int, right: int) -> np.ndarray:
        """Read them one by one: what lies between may be many rows."""
        out = np.empty((stop - start, right - left), self.dtype)
        for row, node in enumerate(self.rows[start:stop].tolist()):
            out[row] = self.nodes.read(node, node + 1, left, right)[0]
        return out


class Integrated(Rows):
    r"""The allocation (T, K) by Simpson's rule on the :math:`n_t` sub-intervals of each iteration.

    .. math:: A_t = \frac{Δθ_t}{3 n_t} \left(g_0 + 4 g_1 + 2 g_2 + … + 4 g_{n_t - 1} + g_{n_t}\right)
    """

    def __init__(self, theta: Rows, nodes: Rows, splits: np.ndarray) -> None:
        self.theta, self.nodes, self.first = theta, nodes, starts(splits)
        super().__init__(len(splits), nodes.shape[1])

    def read(self, start: int, stop: int, left: int, right: int) -> np.ndarray:
        """Integrate one iteration after the other, in float64: only one's gradients are held at a time."""
        out = np.empty((stop - start, right - left), self.dtype)
        if start == stop:
            return out
        theta = self.theta.read(start, stop + 1, left, right)
        begin = self.nodes.read(int(self.first[start]), int(self.first[start]) + 1, left, right)[0]
        for row, t in enumerate(range(start, stop)):
            inner = self.nodes.read(int(self.first[t]) + 1, int(self.first[t + 1]) + 1, left, right)
            delta = theta[row + 1].astype("f8") - theta[row]
            out[row] = delta * (begin + simpson_weights(len(inner))[1:] @ inner) / (3 * len(inner))
            begin = inner[-1].astype("f8")
        return out


def simpson_weights(splits: int) -> np.ndarray:
    """Return 1, 4, 2, 4, …, 2, 4, 1 for an even number of sub-intervals."""
    weights = np.where(np.arange(splits + 1) % 2, 4.0, 2.0)
    weights[[0, -1]] = 1.0
    return weights
